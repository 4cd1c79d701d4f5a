//! HTTP filters of a listener, which requests pass through before they are routed.
//!
//! All HTTP chains of a listener have the same filters, in the order of the variants of [`HttpFilter`]. The list is a set
//! that is sorted by it, so the order never depends on where settings come from. Users rely on Emissary's order: gRPC
//! bridge, gRPC-Web, gRPC statistics, Lua, compression, buffering, IP allow and deny lists, CORS, authorization, rate
//! limits. `custom_response` precedes them, because it replaces the error responses of all of them. The router is not
//! listed: it is always last.
//!
//! To add a filter, add a variant with its settings and its name here, a file under `render/filter/`, which also has the
//! filter's configuration on routes, if any, and the filter's proto to the build script of the rendering.
//!
//! Today a filter is part of its listener. A filter with settings that are large or change on their own (authorization,
//! rate limits, Lua) can become a resource of its own (`TypedExtensionConfig`, sent by ECDS), so that changing them
//! updates 1,000 chains without a new listener:
//!
//! - The filter's name is the name of the resource, as Envoy requires: one name stands in the connection manager, in the
//!   ECDS subscription and in the configuration of routes. So filters with different settings need different names.
//! - [`crate::Ir`] gets a map of filters by name; [`crate::Unit`] and [`crate::ResourceType`] get a variant each, between
//!   clusters, which filters refer to, and listeners, which refer to filters; the connection manager gets
//!   `config_discovery`, with a fetch timeout, instead of `typed_config`.
//! - Adding or removing a filter still changes the listener; changing its settings changes that resource only.

/// Name of [`HttpFilter::CustomResponse`].
pub const CUSTOM_RESPONSE: &str = "envoy.filters.http.custom_response";
/// Name of [`HttpFilter::Cors`].
pub const CORS: &str = "envoy.filters.http.cors";
/// Name of the authorization filter, which routes configure ([`crate::Authorization`]).
pub const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";

/// An HTTP filter with its settings. Declared in the order in which requests pass through them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HttpFilter {
    /// Replaces error bodies, on routes with [`crate::Forward::error_bodies`]. Envoy's documentation calls this filter work
    /// in progress, so only listeners that need it have it.
    CustomResponse,
    /// Cross-origin resource sharing, on routes with [`crate::Forward::cors`].
    Cors,
}

impl HttpFilter {
    /// Name of the filter, unique in a listener.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CustomResponse => CUSTOM_RESPONSE,
            Self::Cors => CORS,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn filters_are_ordered_by_their_variants() {
        let filters = BTreeSet::from([HttpFilter::Cors, HttpFilter::CustomResponse]);
        let names: Vec<&str> = filters.iter().map(HttpFilter::name).collect();
        assert_eq!(names, [CUSTOM_RESPONSE, CORS]);
    }
}
