//! The `grpc_echo` backend: answers with the metadata that it received.

use std::{
    collections::BTreeMap,
    future::{Ready, ready},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderName},
    response::Response,
    routing::post,
};
use tonic::{Code, Status, codegen::Service, metadata::MetadataMap, server::Grpc};
use tonic_prost::ProstCodec;

use super::response::date;
use crate::{
    echo::{self, EchoRequest, EchoResponse, PATH, Tls},
    header,
};

const STATUS: &str = "kat-req-echo-requested-status";
const HEADERS: &str = "kat-req-echo-requested-headers";
const DELAY: &str = "kat-req-echo-requested-backend-delay";

/// Longest message, in bytes.
const LIMIT: usize = 5 << 20;

/// A backend that answers with the metadata that it received.
#[derive(Clone, Debug)]
pub struct GrpcEcho {
    name: String,
}

impl GrpcEcho {
    /// Answers as `name`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// The backend.
    pub fn router(self) -> Router {
        Router::new().route(PATH, post(handle)).with_state(self)
    }
}

async fn handle(State(backend): State<GrpcEcho>, request: Request) -> Response {
    let sent = metadata(&request);
    if let Some(delay) = sent.get(DELAY).and_then(|delay| delay.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let answer = Answer {
        backend: backend.name,
        sent,
    };
    let mut server = Grpc::new(ProstCodec::default())
        .max_decoding_message_size(LIMIT)
        .max_encoding_message_size(LIMIT);
    server.unary(answer, request).await.map(Body::new)
}

/// All metadata that a gRPC server passes to its handler, the values of a name joined by commas.
fn metadata(request: &Request) -> BTreeMap<String, String> {
    let join = |name: &HeaderName| {
        let values = request.headers().get_all(name).iter().map(header::text);
        (name.to_string(), values.collect::<Vec<_>>().join(","))
    };
    let transport = |name: &&HeaderName| *name != "te" && !name.as_str().starts_with("grpc-");
    let mut metadata: BTreeMap<_, _> = request
        .headers()
        .keys()
        .filter(transport)
        .map(join)
        .collect();
    if let Some(authority) = request.uri().authority() {
        metadata.insert(":authority".to_owned(), authority.to_string());
    }
    metadata
}

/// The answer to one request.
#[derive(Debug)]
struct Answer {
    backend: String,
    sent: BTreeMap<String, String>,
}

impl Answer {
    fn give(&self) -> Result<tonic::Response<EchoResponse>, Status> {
        let mut back = HeaderMap::new();
        for name in self
            .sent
            .get(HEADERS)
            .into_iter()
            .flat_map(|names| names.split(','))
        {
            let name = name.trim().to_lowercase();
            if let (Some(value), Ok(name)) = (self.sent.get(&name), name.parse::<HeaderName>()) {
                back.insert(name, header::value(value.as_bytes()));
            }
        }
        let text = |(name, value): (&HeaderName, _)| (name.to_string(), header::text(value));
        let mut headers: BTreeMap<_, _> = back.iter().map(text).collect();
        headers.insert("date".to_owned(), date());
        let back = MetadataMap::from_headers(back);
        if let Some(status) = self.sent.get(STATUS) {
            let code = status.parse().map_or(Code::Unknown, Code::from_i32);
            if code != Code::Ok {
                return Err(Status::with_metadata(code, STATUS, back));
            }
        }
        let https = self.sent.get("x-forwarded-proto");
        let message = EchoResponse {
            backend: self.backend.clone(),
            request: Some(echo::Request {
                headers: self.sent.clone(),
                tls: Some(Tls {
                    enabled: https.is_some_and(|scheme| scheme == "https"),
                }),
            }),
            response: Some(echo::Response { headers }),
        };
        Ok(tonic::Response::from_parts(
            back,
            message,
            tonic::Extensions::default(),
        ))
    }
}

impl Service<tonic::Request<EchoRequest>> for Answer {
    type Response = tonic::Response<EchoResponse>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: tonic::Request<EchoRequest>) -> Self::Future {
        ready(self.give())
    }
}
