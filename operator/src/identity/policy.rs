//! Which streams get the configuration: the policy of the xDS server.

use std::collections::BTreeSet;

use nuncio_xds::{
    ads::{Authorize, Peer, PeerCertificate, Rejection, View},
    pb::{envoy::config::core::v3::Node, google::protobuf::value},
};

use super::name::{PodName, ServiceAccount};

/// Key of the fleet in the metadata of a node.
const FLEET: &str = "ambassador_id";

/// Who may have the configuration of a fleet.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The `AMBASSADOR_ID` that is served. An Envoy that names another one gets nothing.
    pub fleet: String,
    /// Whose certificates are accepted.
    pub peers: Peers,
}

/// Whose certificates are accepted.
#[derive(Clone, Debug)]
pub enum Peers {
    /// Whoever can connect: there is no TLS.
    Any,
    /// Every certificate of the authority.
    AnyCertificate,
    /// Certificates with one of these URIs or DNS names.
    Named(BTreeSet<String>),
    /// Pods of these ServiceAccounts, each with its own certificate, and its own name as `node.id`.
    Pods(BTreeSet<ServiceAccount>),
}

impl Authorize for Policy {
    fn authorize(&self, peer: &Peer, node: &Node) -> Result<View, Rejection> {
        match (&self.peers, peer) {
            (Peers::Any, Peer::Unauthenticated) | (Peers::AnyCertificate, Peer::Certificate(_)) => {
            }
            (Peers::Named(names), Peer::Certificate(certificate)) => named(names, certificate)?,
            (Peers::Pods(accounts), Peer::Certificate(certificate)) => {
                pod(accounts, certificate, &node.id)?;
            }
            (_, Peer::Unauthenticated) => {
                return Err(identity("a client certificate is required".to_owned()));
            }
            (Peers::Any, Peer::Certificate(_)) => {
                return Err(identity("no client certificate is accepted".to_owned()));
            }
        }
        let fleet = node.metadata.as_ref().and_then(|all| all.fields.get(FLEET));
        match fleet.and_then(|value| value.kind.as_ref()) {
            Some(value::Kind::StringValue(fleet)) if *fleet != self.fleet => Err(Rejection {
                reason: "fleet",
                message: format!(
                    "the Envoy belongs to AMBASSADOR_ID {fleet:?}, but {:?} is served here; set the same AMBASSADOR_ID on both",
                    self.fleet
                ),
            }),
            _ => Ok(View::All),
        }
    }
}

fn identity(message: String) -> Rejection {
    Rejection {
        reason: "identity",
        message,
    }
}

fn named(names: &BTreeSet<String>, certificate: &PeerCertificate) -> Result<(), Rejection> {
    let mut found = certificate.uris.iter().chain(&certificate.dns_names);
    if found.any(|name| names.contains(name)) {
        return Ok(());
    }
    let found: Vec<_> = certificate
        .uris
        .iter()
        .chain(&certificate.dns_names)
        .collect();
    Err(identity(format!(
        "the client certificate has the names {found:?}, none of which is accepted; add one with --xds-client-name, or use another certificate"
    )))
}

fn pod(
    accounts: &BTreeSet<ServiceAccount>,
    certificate: &PeerCertificate,
    node_id: &str,
) -> Result<(), Rejection> {
    let [uri] = certificate.uris.as_slice() else {
        return Err(identity(
            "the client certificate does not name one pod; request one from the certificate server"
                .to_owned(),
        ));
    };
    let Some(name) = PodName::from_uri(uri) else {
        return Err(identity(format!(
            "the client certificate is for {uri:?}, which is not a pod; request one from the certificate server"
        )));
    };
    if !accounts.contains(&name.account) {
        return Err(identity(not_allowed(&name.account)));
    }
    if node_id != name.node_id() {
        return Err(Rejection {
            reason: "node",
            message: format!(
                "node.id is {node_id:?}, but the client certificate is for pod {}; set node.id to {:?}",
                name.pod,
                name.node_id()
            ),
        });
    }
    Ok(())
}

/// What to do about a ServiceAccount that is not one of the Envoys.
pub(crate) fn not_allowed(account: &ServiceAccount) -> String {
    format!(
        "ServiceAccount {account} may not run Envoys; add --envoy-service-account {account} to nuncio operator, or run the pod with an allowed one"
    )
}

#[cfg(test)]
mod tests {
    use nuncio_xds::pb::google::protobuf::{Struct, Value};

    use super::*;

    const URI: &str = "spiffe://nuncio/ns/gateway/sa/nuncio-envoy/pod/envoy-1";

    fn policy(peers: Peers) -> Policy {
        Policy {
            fleet: "blue".to_owned(),
            peers,
        }
    }

    fn pods() -> Policy {
        let account = "gateway/nuncio-envoy".parse().unwrap();
        policy(Peers::Pods([account].into()))
    }

    fn certificate(uris: &[&str], dns_names: &[&str]) -> Peer {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Peer::Certificate(PeerCertificate {
            uris: owned(uris),
            dns_names: owned(dns_names),
            not_after: i64::MAX,
        })
    }

    fn node(id: &str, fleet: Option<&str>) -> Node {
        let kind = |fleet: &str| value::Kind::StringValue(fleet.to_owned());
        Node {
            id: id.to_owned(),
            metadata: fleet.map(|fleet| Struct {
                fields: [(
                    FLEET.to_owned(),
                    Value {
                        kind: Some(kind(fleet)),
                    },
                )]
                .into(),
            }),
            ..Node::default()
        }
    }

    fn reason(policy: &Policy, peer: &Peer, node: &Node) -> (&'static str, String) {
        let rejection = policy.authorize(peer, node).unwrap_err();
        (rejection.reason, rejection.message)
    }

    #[test]
    fn a_pod_gets_its_view_under_its_own_name_only() {
        let peer = certificate(&[URI], &[]);
        let authorized = pods().authorize(&peer, &node("envoy-1.gateway", None));
        assert_eq!(authorized, Ok(View::All));
        for id in ["envoy-2.gateway", "envoy-1", "envoy-1.gateway.svc", ""] {
            let (reason, message) = reason(&pods(), &peer, &node(id, None));
            assert_eq!(reason, "node", "{id}");
            assert!(
                message.ends_with("set node.id to \"envoy-1.gateway\""),
                "{message}"
            );
        }
    }

    #[test]
    fn other_certificates_of_the_authority_are_rejected() {
        let other_account = URI.replace("nuncio-envoy", "default");
        let id = node("envoy-1.gateway", None);
        for (uris, dns_names, part) in [
            (&[][..], &["nuncio-xds"][..], "does not name one pod"),
            (&[URI, URI], &[], "does not name one pod"),
            (&["spiffe://other/pod"], &[], "not a pod"),
            (
                &[&other_account],
                &[],
                "add --envoy-service-account gateway/default",
            ),
        ] {
            let (reason, message) = reason(&pods(), &certificate(uris, dns_names), &id);
            assert_eq!(reason, "identity");
            assert!(message.contains(part), "{message}");
        }
        let (_, message) = reason(&pods(), &Peer::Unauthenticated, &id);
        assert_eq!(message, "a client certificate is required");
    }

    #[test]
    fn a_shared_certificate_needs_one_of_the_names() {
        let policy = policy(Peers::Named(
            ["spiffe://a".to_owned(), "b".to_owned()].into(),
        ));
        for peer in [
            certificate(&["spiffe://a"], &[]),
            certificate(&[], &["x", "b"]),
        ] {
            assert_eq!(policy.authorize(&peer, &node("any", None)), Ok(View::All));
        }
        for peer in [certificate(&[], &[]), certificate(&["b/c"], &["a", "c.b"])] {
            let (_, message) = reason(&policy, &peer, &node("any", None));
            assert!(message.contains("--xds-client-name"), "{message}");
        }
    }

    #[test]
    fn an_envoy_of_another_fleet_gets_nothing() {
        let policy = policy(Peers::Any);
        let local = Peer::Unauthenticated;
        for fleet in [None, Some("blue")] {
            assert_eq!(policy.authorize(&local, &node("x", fleet)), Ok(View::All));
        }
        let (reason, message) = reason(&policy, &local, &node("x", Some("green")));
        assert_eq!(reason, "fleet");
        assert!(message.contains("set the same AMBASSADOR_ID"), "{message}");
    }
}
