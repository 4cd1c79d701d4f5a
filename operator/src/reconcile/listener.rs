//! A Listener: a port, what is spoken on it, and which Hosts it takes.

use nuncio_crds::v3alpha1::ListenerSpec;
use nuncio_xds::ir::{ListenerKey, Transport};
use serde_json::Value;

use super::{Found, Fragment, Listener, SecurityModel, error, parse, warning};
use crate::{reconcile::host::selector, report::Problem};

const PROTOCOLS: [(&str, &[&str]); 6] = [
    ("HTTP", &["HTTP", "TCP"]),
    ("HTTPS", &["TLS", "HTTP", "TCP"]),
    ("HTTPPROXY", &["PROXY", "HTTP", "TCP"]),
    ("HTTPSPROXY", &["PROXY", "TLS", "HTTP", "TCP"]),
    ("TCP", &["TCP"]),
    ("TLS", &["TLS", "TCP"]),
];

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
    let invalid = |path: &str, message: &str| {
        error(
            "Invalid",
            path,
            format!("{message}; nothing of this Listener is served"),
        )
    };
    let port = u16::try_from(spec.port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| invalid("spec.port", "a port from 1 to 65535 was expected"))?;
    let stack = stack(&spec, problems)?;
    let has = |layer: &str| stack.iter().any(|found| found == layer);
    match stack.last().map(String::as_str) {
        Some("TCP") => {}
        Some("UDP") => {
            return Err(error(
                "NotSupported",
                "spec.protocolStack",
                "HTTP/3 over UDP is not served yet; nothing of this Listener is served".to_owned(),
            ));
        }
        _ => {
            return Err(invalid(
                "spec.protocolStack",
                "the stack has to end in TCP or UDP",
            ));
        }
    }
    if let Some(unknown) = stack
        .iter()
        .find(|layer| !["HTTP", "PROXY", "TLS", "TCP"].contains(&layer.as_str()))
    {
        return Err(invalid(
            "spec.protocolStack",
            &format!("{unknown:?} is no layer; HTTP, PROXY, TLS, TCP and UDP are"),
        ));
    }
    if !has("HTTP") {
        problems.push(warning("NotSupported", "spec.protocol", "only TCPMappings can be served without HTTP, and they are not supported yet; the port is not opened".to_owned()));
    }
    let security_model = match spec.security_model.as_str() {
        "XFP" => SecurityModel::Xfp,
        "SECURE" => SecurityModel::Secure,
        "INSECURE" => SecurityModel::Insecure,
        _ => {
            return Err(invalid(
                "spec.securityModel",
                "one of XFP, SECURE and INSECURE was expected",
            ));
        }
    };
    let l7_depth = spec.l7_depth.unwrap_or_default();
    if l7_depth < 0 {
        problems.push(warning(
            "Invalid",
            "spec.l7Depth",
            "a number of proxies is not negative; 0 is used".to_owned(),
        ));
    }
    let binding = spec.host_binding;
    let from = binding
        .namespace
        .as_ref()
        .map(|namespace| namespace.from.as_deref().unwrap_or_default().to_uppercase());
    let host_selector = match &binding.selector {
        Some(selected) => selector(selected, "spec.hostBinding.selector")?,
        None => crate::selector::Selector::default(),
    };
    if from.is_none() && host_selector.is_empty() {
        return Err(invalid(
            "spec.hostBinding",
            "it says neither which namespaces nor which labels Hosts must have",
        ));
    }
    match from.as_deref() {
        None | Some("ALL" | "SELF") => {}
        Some("SELECTOR") => problems.push(warning("NotSupported", "spec.hostBinding.namespace.from", "SELECTOR is not supported yet; Hosts of the Listener's own namespace are taken, as SELF says".to_owned())),
        Some(_) => return Err(invalid("spec.hostBinding.namespace.from", "one of SELF, ALL and SELECTOR was expected")),
    }
    Ok(Listener {
        key: ListenerKey {
            port,
            transport: Transport::Tcp,
        },
        http: has("HTTP"),
        tls: has("TLS"),
        proxy: has("PROXY"),
        security_model,
        l7_depth: u32::try_from(l7_depth).unwrap_or_default(),
        stat_prefix: spec
            .stats_prefix
            .filter(|prefix| !prefix.is_empty())
            .unwrap_or_else(|| match (has("HTTP"), has("TLS")) {
                (true, true) => "ingress_https".to_owned(),
                (true, false) => "ingress_http".to_owned(),
                (false, true) => format!("ingress_tls_{port}"),
                (false, false) => format!("ingress_tcp_{port}"),
            }),
        max_concurrent_streams: spec
            .http2_max_concurrent_streams
            .and_then(|streams| u32::try_from(streams).ok())
            .filter(|streams| *streams > 0),
        every_namespace: from.as_deref() == Some("ALL"),
        host_selector,
    })
}

/// The layers, outermost first. A stack that is written out wins over the name of one.
fn stack(spec: &ListenerSpec, problems: &mut Vec<Problem>) -> Result<Vec<String>, Problem> {
    let written: Vec<String> = spec.protocol_stack.clone().unwrap_or_default();
    let protocol = spec
        .protocol
        .as_deref()
        .filter(|protocol| !protocol.is_empty());
    if !written.is_empty() {
        if protocol.is_some() {
            problems.push(warning(
                "Invalid",
                "spec.protocol",
                "protocol and protocolStack are both set; protocolStack is used".to_owned(),
            ));
        }
        return Ok(written);
    }
    let Some(protocol) = protocol else {
        return Err(error(
            "Invalid",
            "spec.protocol",
            "protocol or protocolStack is missing; nothing of this Listener is served".to_owned(),
        ));
    };
    PROTOCOLS
        .iter()
        .find(|(name, _)| *name == protocol)
        .map(|(_, stack)| stack.iter().map(|layer| (*layer).to_owned()).collect())
        .ok_or_else(|| {
            let message = if protocol == "UDP" {
                "UDP alone carries nothing; for HTTP/3 write protocolStack: [TLS, HTTP, UDP]"
            } else {
                "this protocol is not known"
            };
            error(
                "Invalid",
                "spec.protocol",
                format!("{message}; nothing of this Listener is served"),
            )
        })
}
