//! What a core Service adds: its address and ports.

use std::{collections::BTreeMap, net::IpAddr};

/// Address and ports of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `spec.clusterIP`; `None` for a headless Service.
    pub cluster_ip: Option<IpAddr>,
    /// `spec.externalName` of a Service of that type.
    pub external_name: Option<String>,
    /// TCP ports: number to name (empty if it is the only one).
    pub ports: BTreeMap<u16, String>,
    /// UDP ports: number at the pods to number at the Service.
    pub udp: BTreeMap<u16, u16>,
}
