//! The `grpc_rls` backend: a rate limit server that decides as the descriptors ask for.

use std::collections::BTreeMap;

use axum::Router;
use envoy_types::pb::envoy::{
    config::core::v3::HeaderValue,
    service::ratelimit::v3::{
        RateLimitRequest, RateLimitResponse,
        rate_limit_response::Code,
        rate_limit_service_server::{RateLimitService, RateLimitServiceServer},
    },
};
use serde_json::json;
use tonic::{Request, Response, Status};

use super::version::{ApiVersion, Method};

const SHOULD_RATE_LIMIT: Method = Method("ratelimit", "RateLimitService/ShouldRateLimit");
const ALLOW: &str = "kat-req-rls-allow";
const APPEND: &str = "kat-req-rls-headers-append";

/// A rate limit server.
#[derive(Clone, Debug)]
pub struct GrpcRls {
    name: String,
    version: ApiVersion,
}

impl GrpcRls {
    /// Answers as `name`, in this version of the API only.
    #[must_use]
    pub fn new(name: impl Into<String>, version: ApiVersion) -> Self {
        Self {
            name: name.into(),
            version,
        }
    }

    /// The backend.
    pub fn router(self) -> Router {
        let version = self.version;
        SHOULD_RATE_LIMIT.serve(Router::new(), version, RateLimitServiceServer::new(self))
    }

    fn decide(&self, request: &RateLimitRequest) -> RateLimitResponse {
        let entries = request
            .descriptors
            .iter()
            .flat_map(|descriptor| &descriptor.entries);
        let values = |key| entries.clone().filter(move |entry| entry.key == key);
        if values(ALLOW).any(|entry| entry.value == "true") {
            return RateLimitResponse {
                overall_code: Code::Ok.into(),
                ..RateLimitResponse::default()
            };
        }
        let mut headers = Vec::new();
        for pair in values(APPEND).flat_map(|entry| entry.value.split(';')) {
            if let Some((name, value)) = pair.split_once('=') {
                headers.push(header(name.trim(), value));
            }
        }
        headers.push(header("content-type", "application/json"));
        headers.push(header(
            "kat-resp-rls-protocol-version",
            &self.version.to_string(),
        ));
        let raw_body = match self.version {
            ApiVersion::V2 => Vec::new(),
            ApiVersion::V3 => self.body(&headers).into_bytes(),
        };
        RateLimitResponse {
            overall_code: Code::OverLimit.into(),
            response_headers_to_add: headers,
            raw_body,
            ..RateLimitResponse::default()
        }
    }

    fn body(&self, headers: &[HeaderValue]) -> String {
        let mut lists = BTreeMap::<_, Vec<_>>::new();
        for header in headers {
            let values = lists.entry(header.key.to_lowercase()).or_default();
            values.push(header.value.as_str());
        }
        let status = i32::from(Code::OverLimit);
        let body =
            json!({"descriptors": "", "backend": self.name, "status": status, "headers": lists});
        format!("{body:#}")
    }
}

#[tonic::async_trait]
impl RateLimitService for GrpcRls {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        Ok(Response::new(self.decide(request.get_ref())))
    }
}

fn header(name: &str, value: &str) -> HeaderValue {
    HeaderValue {
        key: name.to_owned(),
        value: value.to_owned(),
        ..HeaderValue::default()
    }
}
