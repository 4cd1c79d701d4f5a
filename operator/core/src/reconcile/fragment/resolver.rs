//! What a resolver adds: a name for a way to find the addresses of upstreams.

use std::sync::Arc;

use super::Name;

/// How the addresses of an upstream are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolverKind {
    /// By the address of the Service.
    Service,
    /// By the addresses of its pods.
    Endpoints,
    /// By the passing instances of a service of Consul.
    Consul(Arc<ConsulResolver>),
    /// Not at all, because the resolver is invalid. It keeps its name from others.
    Invalid,
}

/// How a service of Consul is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulResolver {
    /// Address of the agent as written, with its variables.
    pub address: Option<Arc<str>>,
    /// Datacenter.
    pub datacenter: Arc<str>,
    /// Secret with the ACL token.
    pub token: Option<Name>,
    /// Secret with the CA certificates that the agent's certificate is verified with.
    pub trusted: Option<Name>,
    /// Secret with the client certificate.
    pub certificate: Option<Name>,
    /// TLS server name.
    pub server_name: Option<Arc<str>>,
}

impl ConsulResolver {
    /// The built-in one.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            address: None,
            datacenter: "dc1".into(),
            token: None,
            trusted: None,
            certificate: None,
            server_name: None,
        }
    }

    /// The Secrets that it names.
    pub fn secrets(&self) -> impl Iterator<Item = &Name> {
        [&self.token, &self.trusted, &self.certificate]
            .into_iter()
            .flatten()
    }
}
