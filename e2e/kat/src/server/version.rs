//! Versions of Envoy's API for gRPC services.

use std::{convert::Infallible, fmt};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Response, Uri},
};
use tonic::{body::Body as GrpcBody, codegen::Service};
use tower::ServiceExt as _;

/// A version of Envoy's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiVersion {
    /// `v2`, which has the messages of v3 here: what is used of them is encoded alike.
    V2,
    /// `v3`.
    V3,
}

impl ApiVersion {
    /// v3 if the text says so, else v2.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text == "v3" { Self::V3 } else { Self::V2 }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
        })
    }
}

/// A method of a v3 service, by package, service and name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method(pub(super) &'static str, pub(super) &'static str);

impl Method {
    fn path(self, version: ApiVersion) -> String {
        let Self(package, method) = self;
        format!("/envoy.service.{package}.{version}.{method}")
    }

    /// Serves the method at the path it has in `version`.
    pub(super) fn serve<S>(self, router: Router, version: ApiVersion, service: S) -> Router
    where
        S: Service<Request<Body>, Response = Response<GrpcBody>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let path = self.path(ApiVersion::V3);
        let service = service.map_request(move |mut request: Request<Body>| {
            // the v3 service has one path only
            if let Ok(path) = path.parse::<Uri>() {
                *request.uri_mut() = path;
            }
            request
        });
        router.route_service(&self.path(version), service)
    }
}
