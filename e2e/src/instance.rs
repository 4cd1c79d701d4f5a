//! An instance of Nuncio: the replicas that serve the objects with one `ambassador_id`, and where they and their Envoys
//! listen. Each instance has a loopback address of its own, so that instances do not share ports.

use std::net::Ipv4Addr;

/// An instance of Nuncio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `AMBASSADOR_ID`.
    pub id: String,
    /// Where its replicas and its Envoys listen.
    pub address: Ipv4Addr,
}

impl Default for Instance {
    fn default() -> Self {
        Self {
            id: "default".to_owned(),
            address: Ipv4Addr::LOCALHOST,
        }
    }
}

impl Instance {
    /// An instance with this ID, on `127.0.NUMBER.1`.
    #[must_use]
    pub fn new(id: &str, number: u8) -> Self {
        Self {
            id: id.to_owned(),
            address: Ipv4Addr::new(127, 0, number, 1),
        }
    }

    /// A port on its address.
    #[must_use]
    pub fn port(&self, port: u16) -> String {
        format!("{}:{port}", self.address)
    }

    /// Where a replica serves Envoys.
    #[must_use]
    pub fn xds(&self, replica: u16) -> String {
        self.port(8003 + 10 * replica)
    }

    /// Where a replica serves health and metrics.
    #[must_use]
    pub fn health(&self, replica: u16) -> String {
        self.port(8877 + replica)
    }

    /// Where an Envoy has its admin interface.
    #[must_use]
    pub fn admin(&self, envoy: u16) -> String {
        self.port(8001 + 100 * envoy)
    }

    /// Name of a replica or an Envoy, for logs and for the control plane.
    #[must_use]
    pub fn name(&self, what: &str, number: u16) -> String {
        format!("{what}-{}-{number}", self.id)
    }
}
