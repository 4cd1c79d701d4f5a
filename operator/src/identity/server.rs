//! The certificate server: signs certificates for pods that show their token.
//!
//! `POST /v1/certificates` with `Authorization: Bearer TOKEN` and `{"csr": PEM}`; answers `{"certificate": PEM, "ca": PEM}`
//! or `{"error": text}`. Of the request only the public key is used; the names are those of the pod that the token is bound
//! to. What it costs is bounded for each address and each pod, and so is the number of reviews at a time: whoever floods it
//! cannot stop configuration, and delays only those who start.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    body::{self, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use jiff::{SignedDuration, fmt::rfc2822::DateTimePrinter};
use kube::Client;
use nuncio_xds::throttle::Throttle;
use rcgen::{ExtendedKeyUsagePurpose, SanType, SubjectPublicKeyInfo};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tracing::{info, warn};
use x509_parser::{
    certification_request::X509CertificationRequest, pem::parse_x509_pem, prelude::FromDer as _,
};

use super::{
    Clock,
    name::ServiceAccount,
    policy::not_allowed,
    rotation::Authorities,
    throttles::Throttles,
    token::{self, AUDIENCE},
};
use crate::{http_server::Limits, metrics::Metrics};

/// How long certificates of Envoys are valid.
const LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Longest body of a request.
const BODY: usize = 16 << 10;
/// How long a body may take.
const BODY_TIME: Duration = Duration::from_secs(5);
/// Reviews at a time.
const REVIEWS: usize = 8;
/// How long a request waits for its review to start.
const REVIEW_WAIT: Duration = Duration::from_secs(5);

/// Limits of connections: a request needs a handshake, a body and a review.
pub(crate) const LIMITS: Limits = Limits {
    connections: 256,
    head: Duration::from_secs(10),
    age: Duration::from_secs(30),
};

/// The certificate server.
pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) clock: Clock,
    pub(crate) authorities: watch::Receiver<Option<Arc<Authorities>>>,
    pub(crate) accounts: BTreeSet<ServiceAccount>,
    pub(crate) metrics: Metrics,
    limits: Requests,
}

/// Limits of requests.
struct Requests {
    reviews: Semaphore,
    addresses: Throttles<IpAddr>,
    pods: Throttles<String>,
    log: Throttle,
}

/// A request that is not answered with a certificate.
#[derive(Debug)]
struct Rejection {
    status: StatusCode,
    message: String,
}

impl Rejection {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let body = json!({"error": self.message}).to_string();
        let kind = [(header::CONTENT_TYPE, "application/json")];
        let mut response = (self.status, kind, body).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error() {
            let seconds = header::HeaderValue::from_static("10");
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

#[derive(Deserialize)]
struct Body {
    csr: String,
}

impl Server {
    /// A server that signs for pods of these ServiceAccounts.
    pub(crate) fn new(
        client: Client,
        clock: Clock,
        authorities: watch::Receiver<Option<Arc<Authorities>>>,
        accounts: BTreeSet<ServiceAccount>,
        metrics: Metrics,
    ) -> Self {
        Self {
            client,
            clock,
            authorities,
            accounts,
            metrics,
            limits: Requests {
                reviews: Semaphore::new(REVIEWS),
                // many pods can have one address, that of their node
                addresses: Throttles::new(100, Duration::from_millis(100)),
                pods: Throttles::new(10, Duration::from_secs(10)),
                log: Throttle::new(10, Duration::from_secs(10)),
            },
        }
    }

    /// The routes of the server. Requests have the [`IpAddr`] of the client as an extension.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/v1/certificates", post(certificates))
            .with_state(Arc::new(self))
    }

    async fn sign(&self, address: IpAddr, request: Request) -> Result<Response, Rejection> {
        if !self.limits.addresses.permits(address) {
            let message = "too many requests from this address; retry later";
            return Err(Rejection::new(StatusCode::TOO_MANY_REQUESTS, message));
        }
        let token = bearer(request.headers())?;
        let public_key = public_key(&read(request).await?)?;
        let pod = self.review(&token).await?;
        if !self.accounts.contains(&pod.name.account) {
            let message = not_allowed(&pod.name.account);
            return Err(Rejection::new(StatusCode::FORBIDDEN, message));
        }
        if !self.limits.pods.permits(pod.uid) {
            let message = "too many requests from this pod; retry later";
            return Err(Rejection::new(StatusCode::TOO_MANY_REQUESTS, message));
        }
        let authorities = self.authorities.borrow().clone();
        let failed = |message: &str| Rejection::new(StatusCode::SERVICE_UNAVAILABLE, message);
        let authorities = authorities.ok_or_else(|| {
            failed("the control plane has no certificate authority yet; retry later")
        })?;
        let uri = pod.name.uri();
        let now = (self.clock)();
        let signed = uri.clone().try_into().map_err(Into::into).and_then(|name| {
            let usage = ExtendedKeyUsagePurpose::ClientAuth;
            let names = vec![SanType::URI(name)];
            authorities
                .signing()
                .sign(&public_key, names, usage, now, LIFETIME)
        });
        let certificate = signed.map_err(|error: super::authority::Error| {
            warn!(%error, "failed to sign a certificate");
            failed("the control plane cannot sign; see its log")
        })?;
        info!(identity = %uri, "certificate signed");
        let body = json!({"certificate": certificate, "ca": authorities.bundle()}).to_string();
        let kind = (header::CONTENT_TYPE, "application/json".to_owned());
        // clients compare it with the expiry; hyper's own goes on being in the future after a clock was set back
        let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&now);
        let date =
            date.map_err(|_out_of_range| failed("the clock of the control plane is wrong"))?;
        Ok(([kind, (header::DATE, date)], body).into_response())
    }

    async fn review(&self, token: &str) -> Result<token::Pod, Rejection> {
        let permit = timeout(REVIEW_WAIT, self.limits.reviews.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            let message = "too many requests at a time; retry later";
            return Err(Rejection::new(StatusCode::SERVICE_UNAVAILABLE, message));
        };
        let reviewed = token::review(self.client.clone(), token).await;
        let is_forbidden = matches!(&reviewed, Err(token::Error::Request(kube::Error::Api(status))) if status.code == 403);
        self.metrics.missing_permission(
            "tokenreviews.authentication.k8s.io",
            "certificates of Envoys",
            is_forbidden,
        );
        reviewed.map_err(|error| {
            let status = match &error {
                token::Error::Request(source) => {
                    if let Some(others) = self.limits.log.permit() {
                        warn!(error = %source, others, "failed to review a token");
                    }
                    StatusCode::SERVICE_UNAVAILABLE
                }
                token::Error::Rejected(_) => StatusCode::UNAUTHORIZED,
                token::Error::NotServiceAccount | token::Error::NoPod => StatusCode::FORBIDDEN,
            };
            Rejection::new(status, error.to_string())
        })
    }
}

async fn certificates(
    State(server): State<Arc<Server>>,
    Extension(address): Extension<IpAddr>,
    request: Request,
) -> Response {
    match server.sign(address, request).await {
        Ok(response) => {
            server.metrics.count_certificate_request("signed");
            response
        }
        Err(rejection) => {
            let result = match rejection.status {
                StatusCode::TOO_MANY_REQUESTS => "limited",
                status if status.is_server_error() => "error",
                _ => "rejected",
            };
            server.metrics.count_certificate_request(result);
            if let Some(others) = server.limits.log.permit() {
                let status = rejection.status.as_u16();
                warn!(%address, status, error = %rejection.message, others, "certificate request rejected");
            }
            rejection.into_response()
        }
    }
}

/// The token of a request.
fn bearer(headers: &HeaderMap) -> Result<String, Rejection> {
    let value = headers.get(header::AUTHORIZATION);
    let text = value.and_then(|value| value.to_str().ok());
    let token = text
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, token)| scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty())
        .map(|(_, token)| token.trim().to_owned());
    token.ok_or_else(|| {
        let message = format!(
            "no token; send the ServiceAccount token of the pod, with audience {AUDIENCE}, as Authorization: Bearer TOKEN"
        );
        Rejection::new(StatusCode::UNAUTHORIZED, message)
    })
}

/// The body of a request, which must be small and arrive in time.
async fn read(request: Request) -> Result<Bytes, Rejection> {
    match timeout(BODY_TIME, body::to_bytes(request.into_body(), BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let message = format!("the body is incomplete or longer than {BODY} bytes");
            Err(Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Err(_elapsed) => {
            let message = format!("the body did not arrive within {BODY_TIME:?}");
            Err(Rejection::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

/// The public key of a certificate signing request, which proves that the client has the private one.
fn public_key(body: &[u8]) -> Result<SubjectPublicKeyInfo, Rejection> {
    let invalid = |message: &str| Rejection::new(StatusCode::BAD_REQUEST, message);
    let body: Body = serde_json::from_slice(body).map_err(|_source| {
        invalid("invalid body: send JSON with a certificate signing request, {\"csr\": PEM}")
    })?;
    let (_, pem) = parse_x509_pem(body.csr.as_bytes())
        .map_err(|_source| invalid("invalid csr: must be PEM (PKCS#10)"))?;
    let (_, csr) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|_source| invalid("invalid csr: must be a PKCS#10 certificate signing request"))?;
    csr.verify_signature()
        .map_err(|_source| invalid("invalid csr: its signature is not by its own key"))?;
    let key = csr.certification_request_info.subject_pki.raw;
    SubjectPublicKeyInfo::from_der(key).map_err(|_source| {
        invalid("invalid csr: unsupported key; use ECDSA (P-256, P-384), Ed25519 or RSA")
    })
}

#[cfg(test)]
mod tests;
