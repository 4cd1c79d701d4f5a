//! What a resolver adds: a name for a way to find the addresses of upstreams.

/// How the addresses of an upstream are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolverKind {
    /// By the address of the Service.
    Service,
    /// By the addresses of its pods.
    Endpoints,
}
