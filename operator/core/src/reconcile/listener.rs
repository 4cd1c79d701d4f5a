//! A Listener: a port, what is spoken on it, and which Hosts it takes.

use nuncio_crds::v3alpha1::{self as crd, Layer, ListenerSpec, NamespaceFrom, Protocol};
use nuncio_ir::{ListenerKey, Transport};
use serde_json::Value;

use super::{Found, Fragment, Listener, Namespaces, SecurityModel, parse};
use crate::{
    reconcile::host::selector,
    report::{Problem, Reason},
    selector::Selector,
};

pub(super) fn reconcile(value: Value) -> Found {
    let (spec, mut problems): (ListenerSpec, _) = match parse::spec(value, true) {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    match listener(spec, &mut problems) {
        Ok(listener) => (Some(Fragment::Listener(listener.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

fn listener(spec: ListenerSpec, problems: &mut Vec<Problem>) -> Result<Listener, Problem> {
    let port = u16::try_from(spec.port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| invalid("spec.port", "a port from 1 to 65535 was expected"))?;
    let stack = stack(&spec, problems)?;
    let has = |layer: Layer| stack.contains(&layer);
    let transport = match stack.last() {
        Some(Layer::Tcp) => Transport::Tcp,
        Some(Layer::Udp) if !has(Layer::Http) => {
            return Err(invalid(
                "spec.protocolStack",
                "UDP alone carries nothing; for HTTP/3 write [TLS, HTTP, UDP]",
            ));
        }
        Some(Layer::Udp) => Transport::Udp,
        Some(Layer::Http | Layer::Proxy | Layer::Tls) | None => {
            return Err(invalid(
                "spec.protocolStack",
                "the stack has to end in TCP or UDP",
            ));
        }
    };
    if transport == Transport::Udp {
        if !has(Layer::Tls) {
            problems.push(Problem::ignored(
                Reason::INVALID,
                "spec.protocolStack",
                "HTTP/3 is always encrypted, and without TLS in the stack no Host can be served"
                    .to_owned(),
            ));
        }
        if has(Layer::Proxy) {
            problems.push(Problem::ignored(
                Reason::IGNORED,
                "spec.protocolStack",
                "there is no PROXY protocol for UDP; it is left out".to_owned(),
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
        problems.push(Problem::ignored(
            Reason::INVALID,
            "spec.l7Depth",
            "a number of proxies is not negative; 0 is used".to_owned(),
        ));
    }
    let (namespaces, host_selector) = binding(&spec.host_binding, problems)?;
    Ok(Listener {
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

/// The limit, within the 31 bits that HTTP/2 has for it.
fn max_concurrent_streams(streams: Option<i64>, problems: &mut Vec<Problem>) -> Option<u32> {
    const PATH: &str = "spec.http2MaxConcurrentStreams";
    const MOST: u32 = 2_147_483_647;
    let streams = streams?;
    if streams < 1 {
        let message = "a limit is above zero; the default of 100 is used".to_owned();
        problems.push(Problem::ignored(Reason::INVALID, PATH, message));
        return None;
    }
    let served = u32::try_from(streams).unwrap_or(MOST).min(MOST);
    if i64::from(served) < streams {
        let message = format!("Envoy takes a limit up to {MOST}, which is used");
        problems.push(Problem::ignored(Reason::INVALID, PATH, message));
    }
    Some(served)
}

/// Of which namespaces Hosts are taken, and which, by their labels.
fn binding(
    binding: &crd::HostBinding,
    problems: &mut Vec<Problem>,
) -> Result<(Namespaces, Selector), Problem> {
    let host_selector = match &binding.selector {
        Some(selected) => selector(&selected.0, "spec.hostBinding.selector")?,
        None => Selector::default(),
    };
    let from = binding.namespace.as_ref().map(|namespace| namespace.from);
    if from.is_none() && host_selector.is_empty() {
        return Err(invalid(
            "spec.hostBinding",
            "it says neither which namespaces nor which labels Hosts must have",
        ));
    }
    let namespaces = match from {
        Some(None) => {
            let message = "one of SELF, ALL and SELECTOR was expected";
            return Err(invalid("spec.hostBinding.namespace.from", message));
        }
        None | Some(Some(NamespaceFrom::Own)) => Namespaces::Own,
        Some(Some(NamespaceFrom::All)) => Namespaces::All,
        Some(Some(NamespaceFrom::Selector)) => {
            let namespace = binding.namespace.as_ref();
            match namespace.and_then(|namespace| namespace.selector.as_ref()) {
                Some(selected) => {
                    let path = "spec.hostBinding.namespace.selector";
                    Namespaces::Selected(selector(&selected.0, path)?)
                }
                None => {
                    problems.push(Problem::ignored(Reason::INVALID, "spec.hostBinding.namespace.selector", "SELECTOR is asked for, but there is none; Hosts of the Listener's own namespace are taken, as SELF says".to_owned()));
                    Namespaces::Own
                }
            }
        }
    };
    Ok((namespaces, host_selector))
}

fn invalid(path: &str, message: &str) -> Problem {
    Problem::invalid(
        Reason::INVALID,
        path,
        format!("{message}; nothing of this Listener is served"),
    )
}

/// The layers, outermost first. A stack that is written out wins over the name of one.
fn stack(spec: &ListenerSpec, problems: &mut Vec<Problem>) -> Result<Vec<Layer>, Problem> {
    use Layer::{Http, Proxy, Tcp, Tls};
    if !spec.protocol_stack.is_empty() {
        if spec.protocol.is_some() {
            problems.push(Problem::ignored(
                Reason::INVALID,
                "spec.protocol",
                "protocol and protocolStack are both set; protocolStack is used".to_owned(),
            ));
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
            return Err(Problem::invalid(Reason::INVALID, "spec.protocol", "UDP alone carries nothing; for HTTP/3 write protocolStack: [TLS, HTTP, UDP]; nothing of this Listener is served".to_owned()));
        }
        None => {
            return Err(Problem::invalid(
                Reason::INVALID,
                "spec.protocol",
                "protocol or protocolStack is missing; nothing of this Listener is served"
                    .to_owned(),
            ));
        }
    })
}
