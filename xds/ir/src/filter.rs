//! HTTP filters of a listener, which requests pass through before they are routed.
//!
//! All HTTP chains of a listener have the same filters, in the order of the variants of [`HttpFilter`]. The list is a set
//! that is sorted by it, so the order never depends on where settings come from. Users rely on Emissary's order: gRPC
//! bridge, gRPC-Web, gRPC statistics, Lua, compression, buffering, IP allow and deny lists, CORS, authorization, rate
//! limits. `custom_response` precedes them, because it replaces the error responses of all of them. The router is not
//! listed: it is always last.
//!
//! A filter with settings is a resource of its own (`TypedExtensionConfig`, sent by ECDS), so that a change of its
//! settings updates 1,000 chains without a new listener. Its name is the name of the resource, as Envoy requires: one
//! name stands in the connection manager, in the subscription and in the configuration of routes. Adding or removing a
//! filter changes the listener, and Envoy drains its chains for minutes. So the filters that every gateway can have
//! exist as resources even when no listener has them, with [`FilterSettings::Off`]: connections on a draining chain stop
//! using a filter as soon as it is removed, and what it called can be removed, too.
//!
//! To add a filter, add a variant with its name here, its settings in a file beside this one, a file under
//! `render/filter/`, which also has the filter's configuration on routes, if any, and the filter's proto to the build
//! script of the rendering.

use std::{net::IpAddr, sync::Arc};

mod authorization;
mod compression;
mod rate_limit;

pub use authorization::{
    AuthorizationBody, AuthorizationCall, AuthorizationService, HttpAuthorization,
};
pub use compression::{Compression, CompressionStrategy};
pub use rate_limit::RateLimitService;

/// Name of [`HttpFilter::CustomResponse`].
pub const CUSTOM_RESPONSE: &str = "envoy.filters.http.custom_response";
/// Name of [`HttpFilter::Cors`].
pub const CORS: &str = "envoy.filters.http.cors";
/// Name of [`HttpFilter::AuthorizationGuard`].
pub const AUTHORIZATION_GUARD: &str = "nuncio.filters.http.authorization_guard";
/// Name of [`HttpFilter::Authorization`] of the default AuthServices, and the start of the names of others.
pub const EXT_AUTHZ: &str = "envoy.filters.http.ext_authz";

/// An HTTP filter. Declared in the order in which requests pass through them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpFilter {
    /// Replaces error bodies, on routes with [`crate::Forward::error_bodies`]. Envoy's documentation calls this filter work
    /// in progress, so only listeners that need it have it.
    CustomResponse,
    /// Makes gRPC requests of HTTP/1.1 requests.
    GrpcHttp1Bridge,
    /// gRPC-Web.
    GrpcWeb,
    /// Statistics of gRPC methods.
    GrpcStats,
    /// Scripts.
    Lua,
    /// Compression of responses.
    Compression,
    /// Reads the whole request first.
    Buffer,
    /// Addresses that may, or may not, send requests.
    Addresses,
    /// Cross-origin resource sharing, on routes with [`crate::Forward::cors`].
    Cors,
    /// Rejects the requests of routes that name an AuthService that this listener does not have. Connections on a chain that
    /// Envoy drains are served with its old filters and the new routes.
    AuthorizationGuard,
    /// Authorization by the default AuthServices (`None`), or by one that only some routes use: its key in the name. Every
    /// listener has the former, so that an AuthService authorizes the requests of connections that exist when it is added.
    Authorization(Option<Arc<str>>),
    /// Rate limits.
    RateLimit,
}

impl HttpFilter {
    /// The filters that are resources whether a listener has them or not.
    pub const PERMANENT: [Self; 7] = [
        Self::GrpcStats,
        Self::Lua,
        Self::Compression,
        Self::Buffer,
        Self::Addresses,
        Self::Authorization(None),
        Self::RateLimit,
    ];

    /// Name of the filter, unique in a listener.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        match self {
            Self::CustomResponse => CUSTOM_RESPONSE.into(),
            Self::GrpcHttp1Bridge => "envoy.filters.http.grpc_http1_bridge".into(),
            Self::GrpcWeb => "envoy.filters.http.grpc_web".into(),
            Self::GrpcStats => "envoy.filters.http.grpc_stats".into(),
            Self::Lua => "envoy.filters.http.lua".into(),
            Self::Compression => "envoy.filters.http.compressor".into(),
            Self::Buffer => "envoy.filters.http.buffer".into(),
            Self::Addresses => "envoy.filters.http.rbac".into(),
            Self::Cors => CORS.into(),
            Self::AuthorizationGuard => AUTHORIZATION_GUARD.into(),
            Self::Authorization(None) => EXT_AUTHZ.into(),
            Self::Authorization(Some(service)) => format!("{EXT_AUTHZ}/{service}").into(),
            Self::RateLimit => "envoy.filters.http.ratelimit".into(),
        }
    }

    /// The filter of this name, if it is a resource.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(service) = name
            .strip_prefix(EXT_AUTHZ)
            .and_then(|rest| rest.strip_prefix('/'))
        {
            return Some(Self::Authorization(Some(service.into())));
        }
        Self::PERMANENT
            .into_iter()
            .find(|filter| *filter.name() == *name)
    }

    /// Whether its settings are a resource of their own.
    #[must_use]
    pub fn is_resource(&self) -> bool {
        Self::PERMANENT.contains(self) || matches!(self, Self::Authorization(_))
    }
}

/// The settings of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterSettings {
    /// It does nothing.
    Off,
    /// [`HttpFilter::GrpcStats`]
    GrpcStats(GrpcStats),
    /// [`HttpFilter::Lua`]: the script.
    Lua(String),
    /// [`HttpFilter::Lua`]: each request gets 503, but those for readiness and liveness.
    ScriptError,
    /// [`HttpFilter::Compression`]
    Compression(Compression),
    /// [`HttpFilter::Buffer`]: the maximum size of a request in bytes.
    Buffer(u32),
    /// [`HttpFilter::Addresses`]
    Addresses(Addresses),
    /// [`HttpFilter::Authorization`]
    Authorization(Box<AuthorizationService>),
    /// [`HttpFilter::Authorization`]: each request gets 500, but those for readiness and liveness; what the body says.
    AuthorizationError(String),
    /// [`HttpFilter::RateLimit`]
    RateLimit(RateLimitService),
}

/// Statistics of gRPC methods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcStats {
    /// Whether the time that upstreams take is counted.
    pub upstream: bool,
    /// The methods with statistics of their own.
    pub methods: GrpcMethods,
}

/// gRPC methods with statistics of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrpcMethods {
    /// These: services with their methods.
    Listed(Vec<(String, Vec<String>)>),
    /// All, or none.
    All(bool),
}

impl Default for GrpcMethods {
    fn default() -> Self {
        Self::All(false)
    }
}

/// Addresses that may, or may not, send requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Whether the listed ones are the only ones that may; otherwise they may not.
    pub allow: bool,
    /// The ranges; empty: no address is listed.
    pub ranges: Vec<AddressRange>,
}

/// A range of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// Whether the address of the connection is meant; otherwise that of the client, which a proxy in front may tell.
    pub peer: bool,
    /// First address.
    pub address: IpAddr,
    /// Length of the prefix in bits.
    pub prefix: u8,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn filters_are_ordered_by_their_variants() {
        let filters = BTreeSet::from([
            HttpFilter::RateLimit,
            HttpFilter::Authorization(None),
            HttpFilter::Cors,
            HttpFilter::Lua,
            HttpFilter::CustomResponse,
        ]);
        let names: Vec<Arc<str>> = filters.iter().map(HttpFilter::name).collect();
        assert_eq!(
            names.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
            [
                CUSTOM_RESPONSE,
                "envoy.filters.http.lua",
                CORS,
                EXT_AUTHZ,
                "envoy.filters.http.ratelimit"
            ]
        );
    }

    #[test]
    fn names_of_resources_are_parsed_back() {
        let named = HttpFilter::Authorization(Some("ns/name".into()));
        for filter in HttpFilter::PERMANENT.into_iter().chain([named]) {
            assert!(filter.is_resource());
            assert_eq!(HttpFilter::parse(&filter.name()), Some(filter));
        }
        assert_eq!(HttpFilter::parse(CORS), None);
        assert!(!HttpFilter::Cors.is_resource());
    }
}
