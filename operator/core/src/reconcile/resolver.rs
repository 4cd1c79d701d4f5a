//! Resolvers: names for a way to find the addresses of upstreams.

use nuncio_crds::v3alpha1::KubernetesServiceResolverSpec;
use serde_json::Value;

use super::{Found, Fragment, ResolverKind, parse};
use crate::object::Kind;

/// Both kinds of resolvers have the same fields.
pub(super) fn reconcile(value: Value, kind: Kind, resolver: ResolverKind) -> Found {
    match parse::spec::<KubernetesServiceResolverSpec>(value, kind, false) {
        Ok((_, problems)) => (Some(Fragment::Resolver(resolver)), problems),
        Err(problem) => (None, vec![problem]),
    }
}
