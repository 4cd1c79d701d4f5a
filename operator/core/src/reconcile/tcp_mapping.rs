//! A TCPMapping: which connections it matches, and where they go.

use std::{fmt::Display, net::IpAddr, time::Duration};

use nuncio_crds::v3alpha1::TcpMappingSpec;
use nuncio_ir::{ListenerKey, Transport};
use serde_json::Value;

use super::{
    Found, Fragment, TcpMapping, duration, ignored, parse,
    upstream::{self, UpstreamFields},
};
use crate::{
    glob,
    object::{Kind, ObjectRef},
    report::Problem,
    settings::Settings,
};

pub(super) fn reconcile(value: Value, object: &ObjectRef, settings: &Settings) -> Found {
    let (spec, mut problems): (TcpMappingSpec, _) = match parse::spec(value, object.kind, true) {
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
        .ok_or_else(|| not_served("spec.port", "must be from 1 to 65535"))?;
    let fields = UpstreamFields {
        service: &spec.service,
        resolver: spec.resolver.as_deref(),
        tls: spec.tls.as_deref(),
        circuit_breakers: &spec.circuit_breakers,
        enable_ipv4: spec.enable_ipv4,
        enable_ipv6: spec.enable_ipv6,
        cluster_tag: spec.cluster_tag.as_deref(),
        stats_name: spec.stats_name.as_deref(),
        ..UpstreamFields::default()
    };
    let weight = spec.weight.map(|weight| {
        u32::try_from(weight)
            .map_err(|_source| not_served("spec.weight", "must be a non-negative percentage"))
    });
    Ok(TcpMapping {
        key: ListenerKey {
            port,
            transport: Transport::Tcp,
            address: address(spec, settings)?,
        },
        server_name: server_name(spec)?,
        weight: weight.transpose()?,
        upstream: upstream::upstream(&fields, object, settings, problems)?,
        idle_timeout: idle_timeout(spec, problems),
    })
}

/// The address to bind, if it is not the default one.
fn address(spec: &TcpMappingSpec, settings: &Settings) -> Result<Option<IpAddr>, Problem> {
    let Some(text) = spec.address.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let address: IpAddr = text
        .parse()
        .map_err(|_source| not_served("spec.address", format!("invalid IP address {text:?}")))?;
    Ok(Some(address).filter(|address| *address != settings.bind_address))
}

/// The TLS server name that clients must send: a whole name, `*.` and a suffix, or `*` for any name.
fn server_name(spec: &TcpMappingSpec) -> Result<Option<std::sync::Arc<str>>, Problem> {
    let Some(name) = spec.host.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let name = name.to_ascii_lowercase();
    glob::check(&name).map_err(|fact| not_served("spec.host", fact))?;
    if !glob::is_server_name(&name) {
        let fact = format!("invalid TLS server name {name:?}: use a whole name, *.SUFFIX or *");
        return Err(not_served("spec.host", fact));
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
            let fact = format!("must be a number of milliseconds, not {text:?}");
            problems.push(ignored("spec.idle_timeout_ms", fact));
            None
        }
    }
}

fn not_served(path: &str, fact: impl Display) -> Problem {
    super::not_served(Kind::TcpMapping, path, fact)
}
