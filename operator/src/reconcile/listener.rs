//! A Listener: a port, what is spoken on it, and which Hosts it takes.

use nuncio_crds::v3alpha1::{self as crd, Layer, ListenerSpec, NamespaceFrom, Protocol};
use nuncio_xds::ir::{ListenerKey, Transport};
use serde_json::Value;

use super::{Found, Fragment, Listener, SecurityModel, error, parse, warning};
use crate::{reconcile::host::selector, report::Problem, selector::Selector};

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
    match stack.last() {
        Some(Layer::Tcp) => {}
        Some(Layer::Udp) => {
            return Err(error(
                "NotSupported",
                "spec.protocolStack",
                "HTTP/3 over UDP is not served yet; nothing of this Listener is served".to_owned(),
            ));
        }
        Some(Layer::Http | Layer::Proxy | Layer::Tls) | None => {
            return Err(invalid(
                "spec.protocolStack",
                "the stack has to end in TCP or UDP",
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
        problems.push(warning(
            "Invalid",
            "spec.l7Depth",
            "a number of proxies is not negative; 0 is used".to_owned(),
        ));
    }
    let (every_namespace, host_selector) = binding(&spec.host_binding, problems)?;
    Ok(Listener {
        key: ListenerKey {
            port,
            transport: Transport::Tcp,
            address: None,
        },
        http: has(Layer::Http),
        tls: has(Layer::Tls),
        proxy: has(Layer::Proxy),
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
        max_concurrent_streams: spec
            .http2_max_concurrent_streams
            .and_then(|streams| u32::try_from(streams).ok())
            .filter(|streams| *streams > 0),
        every_namespace,
        host_selector,
    })
}

/// Whether Hosts of every namespace are taken, and which, by their labels.
fn binding(
    binding: &crd::HostBinding,
    problems: &mut Vec<Problem>,
) -> Result<(bool, Selector), Problem> {
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
    match from {
        None | Some(Some(NamespaceFrom::All | NamespaceFrom::Own)) => {}
        Some(Some(NamespaceFrom::Selector)) => problems.push(warning("NotSupported", "spec.hostBinding.namespace.from", "SELECTOR is not supported yet; Hosts of the Listener's own namespace are taken, as SELF says".to_owned())),
        Some(None) => return Err(invalid("spec.hostBinding.namespace.from", "one of SELF, ALL and SELECTOR was expected")),
    }
    Ok((from == Some(Some(NamespaceFrom::All)), host_selector))
}

fn invalid(path: &str, message: &str) -> Problem {
    error(
        "Invalid",
        path,
        format!("{message}; nothing of this Listener is served"),
    )
}

/// The layers, outermost first. A stack that is written out wins over the name of one.
fn stack(spec: &ListenerSpec, problems: &mut Vec<Problem>) -> Result<Vec<Layer>, Problem> {
    use Layer::{Http, Proxy, Tcp, Tls};
    if !spec.protocol_stack.is_empty() {
        if spec.protocol.is_some() {
            problems.push(warning(
                "Invalid",
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
            return Err(error("Invalid", "spec.protocol", "UDP alone carries nothing; for HTTP/3 write protocolStack: [TLS, HTTP, UDP]; nothing of this Listener is served".to_owned()));
        }
        None => {
            return Err(error(
                "Invalid",
                "spec.protocol",
                "protocol or protocolStack is missing; nothing of this Listener is served"
                    .to_owned(),
            ));
        }
    })
}
