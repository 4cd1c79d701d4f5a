//! `envoy.extensions.filters.http.ratelimit.v3.RateLimit`

use crate::{
    ir::RateLimitService,
    pb::{
        envoy::{
            config::{core::v3::ApiVersion, ratelimit::v3::RateLimitServiceConfig},
            extensions::filters::http::ratelimit::v3::RateLimit,
        },
        google::protobuf::Any,
    },
    render::{any, duration, grpc_service},
};

/// The filter with this service.
pub(super) fn config(service: &RateLimitService) -> Any {
    any(&RateLimit {
        domain: service.domain.clone(),
        request_type: "both".to_owned(),
        timeout: Some(duration(service.timeout)),
        failure_mode_deny: service.deny_on_failure,
        rate_limited_as_resource_exhausted: service.resource_exhausted,
        rate_limit_service: Some(RateLimitServiceConfig {
            grpc_service: Some(grpc_service(&service.cluster, None)),
            transport_api_version: ApiVersion::V3.into(),
        }),
        ..RateLimit::default()
    })
}
