//! A core Service: its address and ports.

use std::net::IpAddr;

use k8s_openapi::{api::core::v1::ServiceSpec, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::Value;

use super::{Found, Fragment, Service, parse};
use crate::object::Kind;

/// Annotations that ask for topology hints.
const TOPOLOGY: [&str; 2] = [
    "service.kubernetes.io/topology-mode",
    "service.kubernetes.io/topology-aware-hints",
];
/// Values of `trafficDistribution` that do; an Envoy knows no node.
const NEAR: [&str; 3] = ["PreferClose", "PreferSameZone", "PreferSameNode"];

pub(super) fn reconcile(value: Value) -> Found {
    let annotations = &value["metadata"]["annotations"];
    let is_annotated = TOPOLOGY.iter().any(|name| {
        let mode = annotations[*name].as_str();
        mode.is_some_and(|mode| mode.eq_ignore_ascii_case("auto"))
    });
    let spec: ServiceSpec = match parse::spec(value, Kind::Service, false) {
        Ok((spec, _unknown)) => spec, // newer versions of Kubernetes may have more fields
        Err(problem) => return (None, vec![problem]),
    };
    let distribution = spec.traffic_distribution.as_deref();
    let by_zone = is_annotated || distribution.is_some_and(|found| NEAR.contains(&found));
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
    let tcp = all
        .iter()
        .filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
    let targets = tcp
        .filter_map(|port| match &port.target_port {
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            None => u16::try_from(port.port).ok(),
            Some(IntOrString::String(_)) => None,
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
    let cluster_ips = spec.cluster_ips.into_iter().flatten();
    let mut cluster_ips: Vec<IpAddr> = cluster_ips
        .filter_map(|address| address.parse().ok())
        .collect();
    if cluster_ips.is_empty() {
        cluster_ips.extend(
            spec.cluster_ip
                .and_then(|address| address.parse::<IpAddr>().ok()),
        );
    }
    let families = spec.ip_families.unwrap_or_default();
    let has = |name: &str, is_family: fn(&IpAddr) -> bool| match families.as_slice() {
        // written by hand: what it has, or either if it has no address of its own
        [] => cluster_ips.is_empty() || cluster_ips.iter().any(is_family),
        families => families.iter().any(|family| family == name),
    };
    let service = Service {
        families: (has("IPv4", IpAddr::is_ipv4), has("IPv6", IpAddr::is_ipv6)),
        cluster_ips,
        external_name,
        ports,
        targets,
        udp,
        by_zone,
    };
    (Some(Fragment::Service(service.into())), Vec::new())
}
