//! What a core Service adds: its address and ports.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// Address and ports of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `spec.clusterIPs`; none for a headless Service.
    pub cluster_ips: Vec<IpAddr>,
    /// Whether it has IPv4 and IPv6 addresses.
    pub families: (bool, bool),
    /// `spec.externalName` of a Service of that type.
    pub external_name: Option<String>,
    /// TCP ports: number to name (empty if it is the only one).
    pub ports: BTreeMap<u16, String>,
    /// TCP ports at the pods, as far as the Service has their numbers.
    pub targets: BTreeSet<u16>,
    /// UDP ports: number at the pods to number at the Service.
    pub udp: BTreeMap<u16, u16>,
    /// Whether requests should stay in the zone of the client.
    pub by_zone: bool,
}

impl Service {
    /// Whether it has no address of its own, only those of its pods.
    #[must_use]
    pub fn is_headless(&self) -> bool {
        self.cluster_ips.is_empty() && self.external_name.is_none()
    }

    /// The number of the TCP port with this name.
    #[must_use]
    pub fn port_named(&self, name: &str) -> Option<u16> {
        let mut ports = self.ports.iter();
        ports.find_map(|(number, found)| (found == name).then_some(*number))
    }

    /// Whether it has a family that is used, given for each whether it is IPv4.
    pub fn has_families(&self, is_used: impl Fn(bool) -> bool) -> bool {
        let (v4, v6) = self.families;
        (v4 && is_used(true)) || (v6 && is_used(false))
    }
}
