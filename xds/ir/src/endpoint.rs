//! The addresses of an upstream, which change most often and therefore stand alone.

use std::{net::SocketAddr, sync::Arc};

/// Addresses of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Resource name, by which clusters refer to it.
    pub name: Arc<str>,
    /// Sorted, without duplicates.
    pub addresses: Vec<SocketAddr>,
}
