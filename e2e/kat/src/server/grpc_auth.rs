//! The `grpc_auth` backend: an external authorization server that decides as the request asks for.

use std::collections::BTreeMap;

use axum::Router;
use envoy_types::pb::{
    envoy::{
        config::core::v3::{HeaderValue, HeaderValueOption},
        service::auth::v3::{
            CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
            attribute_context::HttpRequest,
            authorization_server::{Authorization, AuthorizationServer},
            check_response::HttpResponse,
        },
        r#type::v3::HttpStatus,
    },
    google::{protobuf::BoolValue, rpc},
};
use serde_json::{Value, json};
use tonic::{Code, Request, Response, Status};

use super::version::{ApiVersion, Method};

const CHECK: Method = Method("auth", "Authorization/Check");
const STATUS: &str = "kat-req-extauth-requested-status";
const HEADER: &str = "kat-req-extauth-requested-header";
const APPEND: &str = "kat-req-extauth-append";
const COOKIE: &str = "kat-req-extauth-requested-cookie";
const REDIRECT: &str = "kat-req-extauth-requested-location";

/// An external authorization server.
#[derive(Clone, Debug)]
pub struct GrpcAuth {
    name: String,
    version: ApiVersion,
}

impl GrpcAuth {
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
        CHECK.serve(Router::new(), version, AuthorizationServer::new(self))
    }

    fn decide(&self, request: CheckRequest) -> CheckResponse {
        let attributes = request.attributes.unwrap_or_default();
        let http = attributes
            .request
            .unwrap_or_default()
            .http
            .unwrap_or_default();
        let sent = headers(&http);
        let status = sent
            .get(STATUS)
            .map_or(200, |status| status.parse().unwrap_or(500));
        let mut answer = vec![set("status", status.to_string())];
        if status != 200 {
            for name in list(&sent, HEADER) {
                if let Some(value) = sent.get(&name.to_lowercase()) {
                    answer.push(set(name, value));
                }
            }
        }
        for pair in sent
            .get(APPEND)
            .into_iter()
            .flat_map(|pairs| pairs.split(';'))
        {
            if let Some((name, value)) = pair.split_once('=') {
                answer.push(option(name.trim(), value, true));
            }
        }
        // without the control header the one name is empty, and there is a cookie all the same
        let cookies = sent.get(COOKIE).map_or("", String::as_str);
        for name in cookies.split(',').map(str::trim) {
            answer.push(set("Set-Cookie", format!("{name}={name}")));
        }
        if let Some(location) = sent.get(REDIRECT) {
            answer.push(set("Location", location));
        }
        answer.push(set(
            "kat-resp-extauth-protocol-version",
            self.version.to_string(),
        ));
        if !attributes.context_extensions.is_empty() {
            let extensions: BTreeMap<_, _> = attributes.context_extensions.into_iter().collect();
            let extensions = json!(extensions).to_string();
            answer.push(set("kat-resp-extauth-context-extensions", extensions));
        }
        if status == 200 {
            return allow(answer);
        }
        let body = self.body(&http, &sent, status, &answer);
        deny(status, answer, body)
    }

    fn body(
        &self,
        http: &HttpRequest,
        sent: &BTreeMap<String, String>,
        status: i32,
        answer: &[HeaderValueOption],
    ) -> String {
        let split = |(name, value): (&String, &String)| {
            let values: Vec<_> = value.split(',').collect();
            (name.clone(), json!(values))
        };
        let mut headers = BTreeMap::<_, Vec<_>>::new();
        for header in answer.iter().filter_map(|option| option.header.as_ref()) {
            let values = headers.entry(header.key.to_lowercase()).or_default();
            values.push(header.value.clone());
        }
        let body = json!({
            "backend": self.name,
            "status": status,
            "request": {
                "url": {
                    "fragment": http.fragment,
                    "host": http.host,
                    "path": http.path,
                    "query": http.query,
                    "scheme": http.scheme,
                },
                "method": http.method,
                "headers": Value::Object(sent.iter().map(split).collect()),
                "host": http.host,
                "tls": {"enabled": false},
            },
            "headers": headers,
        });
        format!("{body:#}")
    }
}

#[tonic::async_trait]
impl Authorization for GrpcAuth {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(self.decide(request.into_inner())))
    }
}

/// The headers of the request, names in lower case, and its body as one more.
fn headers(http: &HttpRequest) -> BTreeMap<String, String> {
    let lower = |(name, value): (&String, &String)| (name.to_lowercase(), value.clone());
    let mut headers: BTreeMap<_, _> = http.headers.iter().map(lower).collect();
    if !http.body.is_empty() {
        headers.insert("body".to_owned(), http.body.clone());
    }
    headers
}

/// The names in a header, without spaces around them.
fn list<'a>(headers: &'a BTreeMap<String, String>, name: &str) -> impl Iterator<Item = &'a str> {
    let names = headers.get(name).into_iter();
    names.flat_map(|names| names.split(',').map(str::trim))
}

fn set(name: &str, value: impl Into<String>) -> HeaderValueOption {
    option(name, value, false)
}

#[expect(
    deprecated,
    reason = "what replaces it is unknown to v2, and to most of v3"
)]
fn option(name: &str, value: impl Into<String>, append: bool) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value: value.into(),
            ..HeaderValue::default()
        }),
        append: Some(BoolValue { value: append }),
        ..HeaderValueOption::default()
    }
}

fn allow(headers: Vec<HeaderValueOption>) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status::default()),
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers,
            ..OkHttpResponse::default()
        })),
        ..CheckResponse::default()
    }
}

fn deny(status: i32, headers: Vec<HeaderValueOption>, body: String) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status {
            code: Code::Unauthenticated.into(),
            ..rpc::Status::default()
        }),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: status }),
            headers,
            body,
        })),
        ..CheckResponse::default()
    }
}
