//! Which streams get the configuration, and of which fleet: the policy of the xDS server.
//!
//! The peer decides which fleets it may belong to; `ambassador_id` in the metadata of its node chooses one of them.

use std::collections::BTreeMap;

use nuncio_core::settings::Fleets;
use nuncio_xds::{
    ads::{Authorize, Peer, PeerCertificate, Rejection, View},
    pb::{envoy::config::core::v3::Node, google::protobuf::value},
};

use super::{
    allowed::Allowed,
    name::{PodName, ServiceAccount},
};

/// Key of the fleet in the metadata of a node.
const FLEET: &str = "ambassador_id";

/// Who may have the configuration of a fleet.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The fleets that are served, in the order of views. An Envoy that names another one gets nothing.
    pub fleets: Fleets,
    /// Whose certificates are accepted.
    pub peers: Peers,
}

/// Whose certificates are accepted.
#[derive(Clone, Debug)]
pub enum Peers {
    /// Whoever can connect, as an Envoy of any fleet: there is no TLS.
    Any,
    /// Every certificate of the authority. For one fleet only.
    AnyCertificate,
    /// Certificates with one of these URIs or DNS names, each for its fleets.
    Named(BTreeMap<String, Allowed>),
    /// Pods of these ServiceAccounts, each with its own certificate, and its own name as `node.id`.
    Pods(BTreeMap<ServiceAccount, Allowed>),
}

/// What an authenticated peer may have, and what to add for more.
struct Permitted {
    fleets: Allowed,
    /// The peer as a message names it, and the flag that allows it a fleet, without the ID.
    subject: String,
    flag: String,
}

impl Permitted {
    /// Every fleet.
    const ANY: Self = Self {
        fleets: Allowed::Any,
        subject: String::new(),
        flag: String::new(),
    };
}

impl Authorize for Policy {
    fn authorize(&self, peer: &Peer, node: &Node) -> Result<View, Rejection> {
        let permitted = match (&self.peers, peer) {
            (Peers::Any, Peer::Unauthenticated) | (Peers::AnyCertificate, Peer::Certificate(_)) => {
                Permitted::ANY
            }
            (Peers::Named(names), Peer::Certificate(certificate)) => named(names, certificate)?,
            (Peers::Pods(accounts), Peer::Certificate(certificate)) => {
                pod(accounts, certificate, &node.id)?
            }
            (_, Peer::Unauthenticated) => {
                return Err(identity("a client certificate is required".to_owned()));
            }
            (Peers::Any, Peer::Certificate(_)) => {
                return Err(identity("no client certificate is accepted".to_owned()));
            }
        };
        self.view(&permitted, node)
    }
}

impl Policy {
    /// The fleet that the node names among those that are permitted; without a name the only one of these.
    fn view(&self, permitted: &Permitted, node: &Node) -> Result<View, Rejection> {
        let fleet = |message: String| Rejection {
            reason: "fleet",
            message,
        };
        let own: Vec<(usize, &str)> = self
            .fleets
            .ids()
            .enumerate()
            .filter(|(_, id)| permitted.fleets.contains(id))
            .collect();
        let listed = || listed(own.iter().map(|(_, id)| *id));
        let named = node.metadata.as_ref().and_then(|all| all.fields.get(FLEET));
        match (named.and_then(|value| value.kind.as_ref()), own.as_slice()) {
            (Some(value::Kind::StringValue(id)), _) => {
                if let Some((number, _)) = own.iter().find(|(_, own)| own == id) {
                    return Ok(View(*number));
                }
                Err(fleet(match self.fleets.only() {
                    Ok(only) => format!(
                        "the Envoy belongs to AMBASSADOR_ID {id:?}, but {:?} is served here; set the same AMBASSADOR_ID on both",
                        only.ambassador_id
                    ),
                    Err(_several) if permitted.subject.is_empty() => format!(
                        "the Envoy belongs to AMBASSADOR_ID {id:?}, but {} are served here; set one of these on the Envoy, or add its own to nuncio operator",
                        listed()
                    ),
                    Err(_several) => format!(
                        "the Envoy belongs to AMBASSADOR_ID {id:?}, but {} may have the configuration of {} only; set AMBASSADOR_ID on the Envoy, or add {}{id} to nuncio operator",
                        permitted.subject,
                        listed(),
                        permitted.flag
                    ),
                }))
            }
            (Some(_), _) if self.fleets.are_several() => Err(fleet(format!(
                "ambassador_id in the metadata of the node must be a string, one of {}",
                listed()
            ))),
            (_, [(number, _)]) => Ok(View(*number)),
            _ => Err(fleet(format!(
                "the Envoy names no AMBASSADOR_ID, but {} are served here; set one of these on the Envoy (ambassador_id in the metadata of its node)",
                listed()
            ))),
        }
    }
}

/// IDs in a message.
const LISTED: usize = 16;

/// IDs as a message lists them.
fn listed<'a>(ids: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = ids.len().saturating_sub(LISTED);
    let mut listed: Vec<String> = ids.take(LISTED).map(|id| format!("{id:?}")).collect();
    if more > 0 {
        listed.push(format!("{more} more"));
    }
    match listed.pop() {
        Some(last) if !listed.is_empty() => format!("{} and {last}", listed.join(", ")),
        last => last.unwrap_or_default(),
    }
}

fn identity(message: String) -> Rejection {
    Rejection {
        reason: "identity",
        message,
    }
}

fn named(
    names: &BTreeMap<String, Allowed>,
    certificate: &PeerCertificate,
) -> Result<Permitted, Rejection> {
    let found = certificate.uris.iter().chain(&certificate.dns_names);
    let found = found.filter_map(|name| names.get_key_value(name));
    if let Some((name, fleets)) = found
        .map(|(name, fleets)| (name.clone(), fleets.clone()))
        .reduce(|(name, one), (_, other)| (name, one.or(other)))
    {
        return Ok(Permitted {
            fleets,
            subject: format!("its client certificate ({name})"),
            flag: format!("--xds-client-name {name}="),
        });
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
    accounts: &BTreeMap<ServiceAccount, Allowed>,
    certificate: &PeerCertificate,
    node_id: &str,
) -> Result<Permitted, Rejection> {
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
    let account = &name.account;
    let Some(fleets) = accounts.get(account) else {
        return Err(identity(not_allowed(account)));
    };
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
    Ok(Permitted {
        fleets: fleets.clone(),
        subject: format!("ServiceAccount {account}"),
        flag: format!("--envoy-service-account {account}="),
    })
}

/// What to do about a ServiceAccount that is not one of the Envoys.
pub(crate) fn not_allowed(account: &ServiceAccount) -> String {
    format!(
        "ServiceAccount {account} may not run Envoys; add --envoy-service-account {account} to nuncio operator, or run the pod with an allowed one"
    )
}

#[cfg(test)]
mod tests {
    use nuncio_core::settings::Settings;
    use nuncio_xds::pb::google::protobuf::{ListValue, Struct, Value};

    use super::*;

    const URI: &str = "spiffe://nuncio/ns/gateway/sa/nuncio-envoy/pod/envoy-1";

    fn policy(peers: Peers) -> Policy {
        policy_of("blue", peers)
    }

    fn policy_of(ids: &str, peers: Peers) -> Policy {
        let settings = Settings {
            ambassador_id: ids.to_owned(),
            ..Settings::default()
        };
        Policy {
            fleets: Fleets::split(settings).unwrap(),
            peers,
        }
    }

    fn only(ids: &[&str]) -> Allowed {
        Allowed::Only(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    fn pods() -> Policy {
        let account = "gateway/nuncio-envoy".parse().unwrap();
        policy(Peers::Pods([(account, Allowed::Any)].into()))
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
        assert_eq!(authorized, Ok(View::FIRST));
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
            ["spiffe://a", "b"]
                .map(|name| (name.to_owned(), Allowed::Any))
                .into(),
        ));
        for peer in [
            certificate(&["spiffe://a"], &[]),
            certificate(&[], &["x", "b"]),
        ] {
            assert_eq!(policy.authorize(&peer, &node("any", None)), Ok(View::FIRST));
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
            assert_eq!(policy.authorize(&local, &node("x", fleet)), Ok(View::FIRST));
        }
        let (reason, message) = reason(&policy, &local, &node("x", Some("green")));
        assert_eq!(reason, "fleet");
        assert!(message.contains("set the same AMBASSADOR_ID"), "{message}");
    }
    #[test]
    fn one_of_several_fleets_is_chosen_by_name() {
        let policy = policy_of("green,blue", Peers::Any);
        let local = Peer::Unauthenticated;
        for (fleet, view) in [("blue", 0), ("green", 1)] {
            let authorized = policy.authorize(&local, &node("x", Some(fleet)));
            assert_eq!(authorized, Ok(View(view)));
        }
        for fleet in ["red", "", "Blue", "blue,green", "_automatic_"] {
            let (reason, message) = reason(&policy, &local, &node("x", Some(fleet)));
            assert_eq!(reason, "fleet");
            assert!(
                message.contains(r#"but "blue" and "green" are served here"#),
                "{message}"
            );
        }
        let (_, message) = reason(&policy, &local, &node("x", None));
        assert!(message.contains("names no AMBASSADOR_ID"), "{message}");
        let mut odd = node("x", Some("blue"));
        let all = &mut odd.metadata.as_mut().unwrap().fields;
        all.get_mut(FLEET).unwrap().kind = Some(value::Kind::ListValue(ListValue::default()));
        let (_, message) = reason(&policy, &local, &odd);
        assert!(message.contains("must be a string"), "{message}");
    }

    #[test]
    fn a_pod_gets_no_other_fleet_whatever_it_writes() {
        let account = "gateway/nuncio-envoy".parse().unwrap();
        let policy = policy_of(
            "blue,green,red",
            Peers::Pods([(account, only(&["green"]))].into()),
        );
        let peer = certificate(&[URI], &[]);
        for fleet in [None, Some("green")] {
            let authorized = policy.authorize(&peer, &node("envoy-1.gateway", fleet));
            assert_eq!(authorized, Ok(View(1)), "{fleet:?}");
        }
        for fleet in ["blue", "red", "unknown", "*", ""] {
            let (reason, message) = reason(&policy, &peer, &node("envoy-1.gateway", Some(fleet)));
            assert_eq!(reason, "fleet");
            assert!(
                message.contains(r#"may have the configuration of "green" only"#),
                "{message}"
            );
            let flag = format!("--envoy-service-account gateway/nuncio-envoy={fleet} ");
            assert!(message.contains(&flag), "{message}");
        }
    }

    #[test]
    fn a_client_certificate_gets_the_fleets_of_its_names() {
        let names = [
            ("x", only(&["a"])),
            ("y", only(&["b"])),
            ("z", Allowed::Any),
        ];
        let names = names.map(|(name, allowed)| (name.to_owned(), allowed));
        let policy = policy_of("a,b,c", Peers::Named(names.into()));
        let view = |names: &[&str], fleet: Option<&str>| {
            let authorized = policy.authorize(&certificate(names, &[]), &node("any", fleet));
            authorized.map_err(|rejection| rejection.reason)
        };
        assert_eq!(view(&["x"], None), Ok(View(0)));
        assert_eq!(view(&["x"], Some("b")), Err("fleet"));
        assert_eq!(view(&["x", "y"], Some("b")), Ok(View(1)));
        assert_eq!(view(&["x", "y"], None), Err("fleet"));
        assert_eq!(view(&["x", "y"], Some("c")), Err("fleet"));
        assert_eq!(view(&["z"], Some("c")), Ok(View(2)));
        assert_eq!(view(&["other"], Some("a")), Err("identity"));
    }

    #[test]
    fn a_message_lists_a_bounded_number_of_fleets() {
        let ids: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
        let text = listed(ids.iter().map(String::as_str));
        assert!(text.ends_with(r#""015" and 284 more"#), "{text}");
    }
}
