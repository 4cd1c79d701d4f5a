//! What the Store and whoever queries Consul have to say to each other: which services are wanted, of which agents, and
//! what these answer. Plain values; nothing here connects to anything.

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc};

use crate::reconcile::{Certificate, Name, Token};

pub mod address;

/// A service of a Consul datacenter, as one resolver finds it. Equal services of two resolvers are two: the agents of the
/// resolvers may belong to different clusters, though their datacenters have one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsulService {
    /// The ConsulResolver; `None`: the built-in one.
    pub resolver: Option<Name>,
    /// The datacenter.
    pub datacenter: Arc<str>,
    /// The name of the service, as its user wrote it.
    pub name: Arc<str>,
}

impl fmt::Display for ConsulService {
    /// `consul/DATACENTER/SERVICE`, and the resolver. Neither can have a slash in its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "consul/{}/{}", self.datacenter, self.name)?;
        match &self.resolver {
            Some(resolver) => write!(f, "/{resolver}"),
            None => Ok(()),
        }
    }
}

/// What is known of a service of Consul.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsulState {
    /// Addresses of the passing instances by the last answer, sorted.
    pub addresses: Vec<SocketAddr>,
    /// Why there is no newer answer. For people; does not change from one attempt to the next.
    pub problem: Option<String>,
}

/// How to reach an agent. What is `None` comes from the environment of whoever connects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agent {
    /// The address as written: environment variables are not replaced.
    pub address: Option<Arc<str>>,
    /// ACL token.
    pub token: Option<Token>,
    /// PEM of the CA certificates that the agent's certificate is verified with.
    pub trusted: Option<Arc<str>>,
    /// Client certificate.
    pub certificate: Option<Certificate>,
    /// TLS server name.
    pub server_name: Option<Arc<str>>,
}

impl Agent {
    /// Whether TLS is used whatever the address says.
    #[must_use]
    pub const fn requires_tls(&self) -> bool {
        self.trusted.is_some() || self.certificate.is_some() || self.server_name.is_some()
    }
}

/// Services of Consul that are used, each with its agent. `None`: the agent must not be queried now, and what is known
/// stays.
pub type WantedConsul = BTreeMap<ConsulService, Option<Arc<Agent>>>;
