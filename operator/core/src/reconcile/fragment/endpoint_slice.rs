//! What an EndpointSlice adds: addresses of some pods of a Service.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::Name;

/// Addresses of some pods of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its Service.
    pub service: Name,
    /// TCP ports: name to number.
    pub ports: BTreeMap<String, u16>,
    /// Addresses that accept new connections.
    pub ready: Vec<IpAddr>,
    /// Addresses of terminating pods that still serve, used when none is ready.
    pub terminating: Vec<IpAddr>,
    /// Zones that ready addresses are meant for.
    pub zones: BTreeMap<IpAddr, Arc<str>>,
}
