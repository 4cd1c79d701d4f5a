//! Endpoints of an upstream, apart from [`crate::Cluster`] because they change most often.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// Endpoints of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Resource name, referenced by clusters.
    pub name: Arc<str>,
    /// Sorted, without duplicates.
    pub addresses: Vec<SocketAddr>,
    /// Zones whose Envoys the addresses are meant for; empty: those of all zones.
    pub zones: BTreeMap<SocketAddr, Arc<str>>,
}
