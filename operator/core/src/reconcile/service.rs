//! A core Service: its address and ports.

use k8s_openapi::{api::core::v1::ServiceSpec, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::Value;

use super::{Found, Fragment, Service, parse};
use crate::object::Kind;

pub(super) fn reconcile(value: Value) -> Found {
    let spec: ServiceSpec = match parse::spec(value, Kind::Service, false) {
        Ok((spec, _unknown)) => spec, // newer versions of Kubernetes may have more fields
        Err(problem) => return (None, vec![problem]),
    };
    let external_name = spec
        .external_name
        .filter(|name| spec.type_.as_deref() == Some("ExternalName") && !name.is_empty());
    let all = spec.ports.unwrap_or_default();
    let udp = all
        .iter()
        .filter(|port| port.protocol.as_deref() == Some("UDP"))
        .filter_map(|port| {
            let target = match &port.target_port {
                Some(IntOrString::Int(number)) => *number,
                None => port.port,
                Some(IntOrString::String(_)) => return None,
            };
            Some((u16::try_from(target).ok()?, u16::try_from(port.port).ok()?))
        })
        .collect();
    let ports = all
        .into_iter()
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP")
        .filter_map(|port| {
            Some((
                u16::try_from(port.port).ok()?,
                port.name.unwrap_or_default(),
            ))
        })
        .collect();
    let service = Service {
        cluster_ip: spec.cluster_ip.and_then(|address| address.parse().ok()),
        external_name,
        ports,
        udp,
    };
    (Some(Fragment::Service(service.into())), Vec::new())
}
