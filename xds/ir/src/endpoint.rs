//! Endpoints of an upstream, apart from [`crate::Cluster`] because they change most often.

use std::{net::SocketAddr, sync::Arc};

/// Endpoints of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Resource name, referenced by clusters.
    pub name: Arc<str>,
    /// Sorted, without duplicates.
    pub addresses: Vec<SocketAddr>,
}
