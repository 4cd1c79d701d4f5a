//! A TCPMapping: which connections, and where they go.

use std::{net::IpAddr, time::Duration};

use nuncio_crds::v3alpha1::TcpMappingSpec;
use nuncio_ir::{ListenerKey, Transport};
use serde_json::Value;

use super::{
    Found, Fragment, TcpMapping, duration, parse,
    upstream::{self, Asked},
};
use crate::{
    glob,
    object::ObjectRef,
    report::{Problem, Reason},
    settings::Settings,
};

pub(super) fn reconcile(value: Value, object: &ObjectRef, settings: &Settings) -> Found {
    let (spec, mut problems): (TcpMappingSpec, _) = match parse::spec(value, true) {
        Ok(parsed) => parsed,
        Err(problem) => return (None, vec![problem]),
    };
    match tcp_mapping(&spec, object, settings, &mut problems) {
        Ok(mapping) => (Some(Fragment::TcpMapping(mapping.into())), problems),
        Err(problem) => {
            problems.push(problem);
            (None, problems)
        }
    }
}

fn tcp_mapping(
    spec: &TcpMappingSpec,
    object: &ObjectRef,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Result<TcpMapping, Problem> {
    let port = u16::try_from(spec.port)
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| invalid("spec.port", "a port from 1 to 65535 was expected"))?;
    let asked = Asked {
        service: &spec.service,
        resolver: spec.resolver.as_deref(),
        tls: spec.tls.as_deref(),
        circuit_breakers: &spec.circuit_breakers,
        enable_ipv4: spec.enable_ipv4,
        enable_ipv6: spec.enable_ipv6,
        cluster_tag: spec.cluster_tag.as_deref(),
        stats_name: spec.stats_name.as_deref(),
        ..Asked::default()
    };
    let weight = spec.weight.map(|weight| {
        u32::try_from(weight).map_err(|_source| {
            invalid(
                "spec.weight",
                "a weight is neither negative nor beyond all measure",
            )
        })
    });
    Ok(TcpMapping {
        key: ListenerKey {
            port,
            transport: Transport::Tcp,
            address: address(spec, settings)?,
        },
        server_name: server_name(spec)?,
        weight: weight.transpose()?,
        upstream: upstream::upstream(&asked, object, settings, problems)?,
        idle_timeout: idle_timeout(spec, problems),
    })
}

/// The address to bind, if it is not the usual one.
fn address(spec: &TcpMappingSpec, settings: &Settings) -> Result<Option<IpAddr>, Problem> {
    let Some(text) = spec.address.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let address: IpAddr = text
        .parse()
        .map_err(|_source| invalid("spec.address", &format!("{text:?} is no IP address")))?;
    Ok(Some(address).filter(|address| *address != settings.bind_address))
}

/// What the TLS hello has to ask for: a whole name, `*.` and a suffix, or `*` for anything.
fn server_name(spec: &TcpMappingSpec) -> Result<Option<std::sync::Arc<str>>, Problem> {
    let Some(name) = spec.host.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let name = name.to_ascii_lowercase();
    if let Some(flaw) = glob::flaw(&name) {
        return Err(invalid("spec.host", &format!("{name:?} {flaw}")));
    }
    if !glob::is_server_name(&name) {
        let message = format!(
            "{name:?} cannot be a TLS server name: that is whole, or `*.` and a whole suffix"
        );
        return Err(invalid("spec.host", &message));
    }
    Ok(Some(name.into()))
}

fn idle_timeout(spec: &TcpMappingSpec, problems: &mut Vec<Problem>) -> Option<Duration> {
    let text = spec
        .idle_timeout_ms
        .as_deref()
        .filter(|text| !text.is_empty())?;
    match text.trim().parse() {
        Ok(milliseconds) => {
            let path = "spec.idle_timeout_ms";
            Some(duration::milliseconds(path, milliseconds, problems))
        }
        Err(_) => {
            let message = format!("{text:?} is no number of milliseconds; it is left out");
            problems.push(Problem::ignored(
                Reason::INVALID,
                "spec.idle_timeout_ms",
                message,
            ));
            None
        }
    }
}

fn invalid(path: &str, message: &str) -> Problem {
    Problem::invalid(
        Reason::INVALID,
        path,
        format!("{message}; nothing of this TCPMapping is served"),
    )
}
