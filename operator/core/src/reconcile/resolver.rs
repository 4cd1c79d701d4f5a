//! Resolvers: names for a way to find the addresses of upstreams.

use nuncio_crds::v3alpha1::KubernetesServiceResolverSpec;
use serde_json::Value;

use super::{Found, Fragment, ResolverKind, parse};

pub(super) fn service(value: Value) -> Found {
    reconcile(value, ResolverKind::Service)
}

pub(super) fn endpoints(value: Value) -> Found {
    reconcile(value, ResolverKind::Endpoints)
}

/// Both kinds say the same: nothing but whose they are.
fn reconcile(value: Value, kind: ResolverKind) -> Found {
    match parse::spec::<KubernetesServiceResolverSpec>(value, false) {
        Ok((_, problems)) => (Some(Fragment::Resolver(kind)), problems),
        Err(problem) => (None, vec![problem]),
    }
}
