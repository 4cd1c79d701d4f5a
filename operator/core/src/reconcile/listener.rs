//! A Listener: a port, its protocols, and which Hosts can attach.

use jiff::Timestamp;
use nuncio_crds::v3alpha1::{self as crd, Layer, ListenerSpec, NamespaceFrom, Protocol};
use nuncio_ir::{ListenerKey, Transport};
use serde_json::Value;

use super::{
    Found, Fragment, Listener, Namespaces, SecurityModel, host::selector, overridden, parse,
    replaced,
};
use crate::{
    object::Kind,
    report::{Problem, Reason},
    selector::Selector,
};

const KIND: Kind = Kind::Listener;

pub(super) fn reconcile(value: Value) -> Found {
    let created = value["metadata"]["creationTimestamp"].as_str();
    let created = created.and_then(|time| time.parse().ok());
    let (spec, mut problems): (ListenerSpec, _) = match parse::spec(value, KIND, true) {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    match listener(spec, created, &mut problems) {
        Ok(listener) => (Some(Fragment::Listener(listener.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

fn listener(
    spec: ListenerSpec,
    created: Option<Timestamp>,
    problems: &mut Vec<Problem>,
) -> Result<Listener, Problem> {
    let port = u16::try_from(spec.port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| not_served("spec.port", "must be from 1 to 65535"))?;
    let stack = stack(&spec, problems)?;
    let has = |layer: Layer| stack.contains(&layer);
    let transport = match stack.last() {
        Some(Layer::Tcp) => Transport::Tcp,
        Some(Layer::Udp) if !has(Layer::Http) => {
            return Err(not_served(
                "spec.protocolStack",
                "UDP is not supported alone; for HTTP/3 set [TLS, HTTP, UDP]",
            ));
        }
        Some(Layer::Udp) => Transport::Udp,
        Some(Layer::Http | Layer::Proxy | Layer::Tls) | None => {
            return Err(not_served("spec.protocolStack", "must end with TCP or UDP"));
        }
    };
    if transport == Transport::Udp {
        if !has(Layer::Tls) {
            problems.push(Problem::ignored(
                Reason::PARTIALLY_INVALID,
                "spec.protocolStack",
                "HTTP/3 needs TLS in protocolStack; no Host is served",
            ));
        }
        if has(Layer::Proxy) {
            problems.push(Problem::ignored(
                Reason::IGNORED,
                "spec.protocolStack",
                "PROXY is not supported with UDP; ignored",
            ));
        }
    }
    let security_model = match spec.security_model {
        crd::SecurityModel::Xfp => SecurityModel::Xfp,
        crd::SecurityModel::Secure => SecurityModel::Secure,
        crd::SecurityModel::Insecure => SecurityModel::Insecure,
    };
    let l7_depth = spec.l7_depth.unwrap_or_default();
    if l7_depth < 0 {
        problems.push(replaced("spec.l7Depth", "must not be negative", 0));
    }
    let (namespaces, host_selector) = binding(&spec.host_binding, problems)?;
    Ok(Listener {
        created,
        key: ListenerKey {
            port,
            transport,
            address: None,
        },
        http: has(Layer::Http),
        tls: has(Layer::Tls),
        proxy: has(Layer::Proxy) && transport == Transport::Tcp,
        security_model,
        l7_depth: u32::try_from(l7_depth).unwrap_or_default(),
        stat_prefix: spec
            .stats_prefix
            .filter(|prefix| !prefix.is_empty())
            .unwrap_or_else(|| match (has(Layer::Http), has(Layer::Tls)) {
                (true, true) => "ingress_https".to_owned(),
                (true, false) => "ingress_http".to_owned(),
                (false, true) => format!("ingress_tls_{port}"),
                (false, false) => format!("ingress_tcp_{port}"),
            }),
        max_concurrent_streams: max_concurrent_streams(spec.http2_max_concurrent_streams, problems),
        namespaces,
        host_selector,
    })
}

/// The limit, which is a number of 31 bits in HTTP/2.
fn max_concurrent_streams(streams: Option<i64>, problems: &mut Vec<Problem>) -> Option<u32> {
    const PATH: &str = "spec.http2MaxConcurrentStreams";
    const MAX: u32 = 2_147_483_647;
    let streams = streams?;
    if streams < 1 {
        problems.push(replaced(PATH, "must be at least 1", "the default of 100"));
        return None;
    }
    let served = u32::try_from(streams).unwrap_or(MAX).min(MAX);
    if i64::from(served) < streams {
        problems.push(replaced(PATH, "exceeds Envoy's maximum", MAX));
    }
    Some(served)
}

/// Namespaces and labels of the Hosts that can attach.
fn binding(
    binding: &crd::HostBinding,
    problems: &mut Vec<Problem>,
) -> Result<(Namespaces, Selector), Problem> {
    let host_selector = match &binding.selector {
        Some(selected) => selector(&selected.0, KIND, "spec.hostBinding.selector")?,
        None => Selector::default(),
    };
    let from = binding.namespace.as_ref().map(|namespace| namespace.from);
    if from.is_none() && host_selector.is_empty() {
        return Err(not_served(
            "spec.hostBinding",
            "set hostBinding.namespace or hostBinding.selector",
        ));
    }
    let namespaces = match from {
        Some(None) => {
            let message = "must be SELF, ALL or SELECTOR";
            return Err(not_served("spec.hostBinding.namespace.from", message));
        }
        None | Some(Some(NamespaceFrom::Own)) => Namespaces::Own,
        Some(Some(NamespaceFrom::All)) => Namespaces::All,
        Some(Some(NamespaceFrom::Selector)) => {
            let namespace = binding.namespace.as_ref();
            match namespace.and_then(|namespace| namespace.selector.as_ref()) {
                Some(selected) => {
                    let path = "spec.hostBinding.namespace.selector";
                    Namespaces::Selected(selector(&selected.0, KIND, path)?)
                }
                None => {
                    problems.push(replaced(
                        "spec.hostBinding.namespace.selector",
                        "from is SELECTOR but selector is missing",
                        "SELF",
                    ));
                    Namespaces::Own
                }
            }
        }
    };
    Ok((namespaces, host_selector))
}

fn not_served(path: &str, fact: &str) -> Problem {
    super::not_served(KIND, path, fact)
}

/// The layers, outermost first. `protocolStack` wins over `protocol`.
fn stack(spec: &ListenerSpec, problems: &mut Vec<Problem>) -> Result<Vec<Layer>, Problem> {
    use Layer::{Http, Proxy, Tcp, Tls};
    if !spec.protocol_stack.is_empty() {
        if spec.protocol.is_some() {
            problems.push(overridden("protocol", "protocolStack"));
        }
        return Ok(spec.protocol_stack.clone());
    }
    Ok(match spec.protocol {
        Some(Protocol::Http) => vec![Http, Tcp],
        Some(Protocol::Https) => vec![Tls, Http, Tcp],
        Some(Protocol::Httpproxy) => vec![Proxy, Http, Tcp],
        Some(Protocol::Httpsproxy) => vec![Proxy, Tls, Http, Tcp],
        Some(Protocol::Tcp) => vec![Tcp],
        Some(Protocol::Tls) => vec![Tls, Tcp],
        Some(Protocol::Udp) => {
            return Err(not_served(
                "spec.protocol",
                "protocol UDP is not supported alone; for HTTP/3 set protocolStack: [TLS, HTTP, UDP]",
            ));
        }
        None => {
            return Err(not_served("spec.protocol", "set protocol or protocolStack"));
        }
    })
}
