//! Tokens of pods, which the apiserver reviews.

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};

use super::name::{PodName, ServiceAccount, is_name};
use crate::printable::{printable, shortened};

/// Audience of the tokens.
pub(crate) const AUDIENCE: &str = "nuncio-xds";
const USER: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// A pod that has shown its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) name: PodName,
    /// Its UID.
    pub(crate) uid: String,
}

/// Why a token names no pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the apiserver did not review the token; retry later")]
    Request(#[source] kube::Error),
    #[error(
        "the apiserver rejected the token ({0}); use a projected ServiceAccount token of a running pod with audience {AUDIENCE}"
    )]
    Rejected(String),
    #[error("the token is not one of a ServiceAccount")]
    NotServiceAccount,
    #[error(
        "the token is not bound to a pod; use a projected ServiceAccount token volume with audience {AUDIENCE}"
    )]
    NoPod,
}

/// The pod that a token is bound to.
pub(crate) async fn review(client: Client, token: &str) -> Result<Pod, Error> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: token.to_owned(),
            audiences: Some(vec![AUDIENCE.to_owned()]),
        },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(client);
    let reviewed = api.create(&PostParams::default(), &review).await;
    pod(reviewed.map_err(Error::Request)?)
}

/// The pod that the apiserver says a token is bound to.
fn pod(review: TokenReview) -> Result<Pod, Error> {
    let status = review.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        let error = status
            .error
            .unwrap_or_else(|| "not authenticated".to_owned());
        return Err(Error::Rejected(shortened(
            printable(&error).into_owned(),
            256,
        )));
    }
    // an apiserver that knows no audiences would accept the token of every pod
    let audiences = status.audiences.unwrap_or_default();
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(Error::Rejected("it has another audience".to_owned()));
    }
    let user = status.user.unwrap_or_default();
    let username = user.username.unwrap_or_default();
    let account = username.strip_prefix(USER).and_then(|rest| {
        let (namespace, name) = rest.split_once(':')?;
        let is_valid = is_name(namespace) && is_name(name);
        is_valid.then(|| ServiceAccount {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    });
    let account = account.ok_or(Error::NotServiceAccount)?;
    let extra = user.extra.unwrap_or_default();
    let one = |key: &str| match extra.get(key).map(Vec::as_slice) {
        Some([value]) if is_name(value) => Some(value.clone()),
        _ => None,
    };
    let (Some(pod), Some(uid)) = (one(POD_NAME), one(POD_UID)) else {
        return Err(Error::NoPod);
    };
    Ok(Pod {
        name: PodName { account, pod },
        uid,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};

    use super::*;

    fn reviewed(status: TokenReviewStatus) -> Result<Pod, Error> {
        pod(TokenReview {
            status: Some(status),
            ..TokenReview::default()
        })
    }

    fn proper() -> TokenReviewStatus {
        let extra = [(POD_NAME, "envoy-1"), (POD_UID, "7d0f-1")];
        let extra = extra.map(|(key, value)| (key.to_owned(), vec![value.to_owned()]));
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.to_owned()]),
            error: None,
            user: Some(UserInfo {
                username: Some(format!("{USER}gateway:nuncio-envoy")),
                extra: Some(extra.into()),
                ..UserInfo::default()
            }),
        }
    }

    #[test]
    fn a_proper_token_names_its_pod() {
        let pod = reviewed(proper()).unwrap();
        assert_eq!(pod.name.node_id(), "envoy-1.gateway");
        assert_eq!(pod.name.account.to_string(), "gateway/nuncio-envoy");
        assert_eq!(pod.uid, "7d0f-1");
    }

    #[test]
    fn whatever_the_apiserver_does_not_vouch_for_is_rejected() {
        let message = |change: fn(&mut TokenReviewStatus)| {
            let mut status = proper();
            change(&mut status);
            reviewed(status).unwrap_err().to_string()
        };
        let text = message(|status| status.authenticated = None);
        assert!(text.contains("rejected the token"), "{text}");
        let text = message(|status| {
            status.authenticated = Some(false);
            status.error = Some("no\nsuch pod".to_owned());
        });
        assert!(text.contains("(no\\nsuch pod)"), "{text}");
        for audiences in [None, Some(Vec::new())] {
            let mut status = proper();
            status.audiences = audiences;
            let text = reviewed(status).unwrap_err().to_string();
            assert!(text.contains("another audience"), "{text}");
        }
        let text = message(|status| status.user = None);
        assert!(text.contains("not one of a ServiceAccount"), "{text}");
        for name in [
            "system:node:a",
            "system:serviceaccount:a",
            "system:serviceaccount:a:b/c",
        ] {
            let mut status = proper();
            let user = status.user.as_mut().unwrap();
            user.username = Some(name.to_owned());
            let text = reviewed(status).unwrap_err().to_string();
            assert!(text.contains("not one of a ServiceAccount"), "{text}");
        }
        let text = message(|status| status.user.as_mut().unwrap().extra = None);
        assert!(text.contains("not bound to a pod"), "{text}");
    }
}
