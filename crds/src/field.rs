//! Types that several kinds share.

mod header;
mod health_check;
mod label;
mod reference;
mod route;
mod schema;

pub use header::AddedHeader;
pub use health_check::{GrpcHealthCheck, HealthCheck, HealthChecker, HttpHealthCheck, StatusRange};
pub use label::{
    DestinationCluster, GenericKey, LabelGroup, LabelSpecifier, RemoteAddress, RequestHeaders,
    SourceCluster,
};
pub use reference::{LocalRef, SecretRef, Selector};
pub use route::{
    BreakerPriority, CircuitBreaker, Cors, Docs, ErrorResponseBody, ErrorResponseOverride,
    HashCookie, Keepalive, LoadBalancer, LoadBalancerPolicy, RegexMap, RetryOn, RetryPolicy,
    TextFormatSource, V2ExplicitTls,
};
pub(crate) use schema::{conditions, undescribed, untyped};
