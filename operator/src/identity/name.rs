//! Names of Envoys: what a certificate says, and whom `node.id` names.

use std::{fmt, str::FromStr};

/// A ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Error of parsing a [`ServiceAccount`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid ServiceAccount {0:?}: use NAMESPACE/NAME")]
pub struct InvalidServiceAccount(String);

impl FromStr for ServiceAccount {
    type Err = InvalidServiceAccount;

    fn from_str(text: &str) -> Result<Self, InvalidServiceAccount> {
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(InvalidServiceAccount(text.to_owned())),
        }
    }
}

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A pod that runs an Envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodName {
    /// The ServiceAccount that it runs as, in its namespace.
    pub(crate) account: ServiceAccount,
    /// Its name.
    pub(crate) pod: String,
}

const PREFIX: &str = "spiffe://nuncio/ns/";

impl PodName {
    /// The URI in its certificate.
    pub(crate) fn uri(&self) -> String {
        let ServiceAccount { namespace, name } = &self.account;
        format!("{PREFIX}{namespace}/sa/{name}/pod/{}", self.pod)
    }

    /// The pod of a URI.
    pub(crate) fn from_uri(uri: &str) -> Option<Self> {
        let mut parts = uri.strip_prefix(PREFIX)?.split('/');
        let (namespace, sa, name) = (parts.next()?, parts.next()?, parts.next()?);
        let (label, pod) = (parts.next()?, parts.next()?);
        let is_whole = (sa, label) == ("sa", "pod") && parts.next().is_none();
        let is_valid = is_whole && [namespace, name, pod].into_iter().all(is_name);
        is_valid.then(|| Self {
            account: ServiceAccount {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            pod: pod.to_owned(),
        })
    }

    /// The `node.id` of its Envoy.
    pub(crate) fn node_id(&self) -> String {
        format!("{}.{}", self.pod, self.account.namespace)
    }
}

/// Whether an object can have this name.
pub(crate) fn is_name(text: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    !text.is_empty() && text.len() <= 253 && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_names_one_pod() {
        let name = PodName {
            account: "gateway/nuncio-envoy".parse().unwrap(),
            pod: "nuncio-envoy-7d4-x".to_owned(),
        };
        assert_eq!(
            name.uri(),
            "spiffe://nuncio/ns/gateway/sa/nuncio-envoy/pod/nuncio-envoy-7d4-x"
        );
        assert_eq!(PodName::from_uri(&name.uri()), Some(name.clone()));
        assert_eq!(name.node_id(), "nuncio-envoy-7d4-x.gateway");
        for other in [
            "spiffe://nuncio/ns/a/sa/b/pod/c/d",
            "spiffe://nuncio/ns/a/sa/b/pod/",
            "spiffe://nuncio/ns/a/sa/b",
            "spiffe://nuncio/ns//sa/b/pod/c",
            "spiffe://nuncio/ns/a/pod/b/sa/c",
            "spiffe://other/ns/a/sa/b/pod/c",
            "spiffe://nuncio/ns/a/sa/b/pod/C",
        ] {
            assert_eq!(PodName::from_uri(other), None, "{other}");
        }
    }

    #[test]
    fn a_service_account_has_a_namespace_and_a_name() {
        assert_eq!("a/b".parse::<ServiceAccount>().unwrap().to_string(), "a/b");
        for text in ["a", "a/", "/b", "a/b/c", "A/b", "a b/c"] {
            assert!(text.parse::<ServiceAccount>().is_err(), "{text}");
        }
    }
}
