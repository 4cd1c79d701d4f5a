//! The backends that Envoy asks: authorization, rate limits and access logs.

use anyhow::Result;
use envoy_types::pb::envoy::{
    config::core::v3::HeaderValueOption,
    data::accesslog::v3::{HttpAccessLogEntry, HttpRequestProperties, TcpAccessLogEntry},
    extensions::common::ratelimit::v3::{RateLimitDescriptor, rate_limit_descriptor::Entry},
    service::{
        accesslog::v3::{
            StreamAccessLogsMessage, StreamAccessLogsResponse,
            stream_access_logs_message::{HttpAccessLogEntries, LogEntries, TcpAccessLogEntries},
        },
        auth::v3::{
            AttributeContext, CheckRequest, CheckResponse,
            attribute_context::{HttpRequest, Request as ContextRequest},
            check_response::HttpResponse,
        },
        ratelimit::v3::{RateLimitRequest, RateLimitResponse},
    },
};
use nuncio_kat::server::{ApiVersion, GrpcAls, GrpcAuth, GrpcRls};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Request, Status, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::{result, serve};

/// Sends messages to a method, and takes its one answer.
async fn call<M: Message + 'static, R: Message + Default + 'static>(
    address: &str,
    path: &'static str,
    messages: Vec<M>,
) -> Result<R, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let channel = endpoint
        .map_err(|error| Status::internal(error.to_string()))?
        .connect_lazy();
    let mut client = Grpc::new(channel);
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = Request::new(futures::stream::iter(messages));
    let path = http::uri::PathAndQuery::from_static(path);
    let answered = client
        .client_streaming(request, path, ProstCodec::default())
        .await;
    Ok(answered?.into_inner())
}

const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";
const CHECK_V2: &str = "/envoy.service.auth.v2.Authorization/Check";

fn check(headers: &[(&str, &str)]) -> CheckRequest {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let http = HttpRequest {
        method: "GET".into(),
        path: "/path?x=1".into(),
        host: "example.com".into(),
        scheme: "http".into(),
        headers: headers.collect(),
        body: "the body".into(),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(ContextRequest {
                http: Some(http),
                ..ContextRequest::default()
            }),
            context_extensions: [("route".to_owned(), "one".to_owned())].into(),
            ..AttributeContext::default()
        }),
    }
}

#[expect(deprecated, reason = "Envoy still uses it")]
fn shown(options: &[HeaderValueOption]) -> Vec<(String, String, bool)> {
    let show = |option: &HeaderValueOption| {
        let header = option.header.clone().unwrap_or_default();
        (
            header.key,
            header.value,
            option.append.is_some_and(|append| append.value),
        )
    };
    options.iter().map(show).collect()
}

fn header(name: &str, value: &str) -> (String, String, bool) {
    (name.to_owned(), value.to_owned(), false)
}

#[tokio::test]
async fn a_request_is_allowed_with_headers_to_add() -> Result<()> {
    let (_server, address) = serve(GrpcAuth::new("auth", ApiVersion::V3).router()).await?;
    let request = check(&[
        ("kat-req-extauth-append", "a=1;b=2"),
        ("kat-req-extauth-requested-header", "host"),
    ]);
    let response: CheckResponse = call(&address, CHECK, vec![request]).await?;
    assert_eq!(response.status.map(|status| status.code), Some(0));
    let Some(HttpResponse::OkResponse(ok)) = response.http_response else {
        panic!("denied");
    };
    assert_eq!(
        shown(&ok.headers),
        [
            header("status", "200"),
            ("a".to_owned(), "1".to_owned(), true),
            ("b".to_owned(), "2".to_owned(), true),
            header("Set-Cookie", "="),
            header("kat-resp-extauth-protocol-version", "v3"),
            header("kat-resp-extauth-context-extensions", r#"{"route":"one"}"#),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn a_request_is_denied_as_it_asks() -> Result<()> {
    let (_server, address) = serve(GrpcAuth::new("auth", ApiVersion::V3).router()).await?;
    let request = check(&[
        ("Kat-Req-Extauth-Requested-Status", "403"),
        ("kat-req-extauth-requested-header", "X-One, body"),
        ("kat-req-extauth-requested-cookie", "c"),
        ("kat-req-extauth-requested-location", "/there"),
        ("x-one", "1,2"),
    ]);
    let response: CheckResponse = call(&address, CHECK, vec![request]).await?;
    assert_eq!(response.status.map(|status| status.code), Some(16));
    let Some(HttpResponse::DeniedResponse(denied)) = response.http_response else {
        panic!("allowed");
    };
    assert_eq!(denied.status.map(|status| status.code), Some(403));
    let headers = shown(&denied.headers);
    for expected in [
        header("status", "403"),
        header("X-One", "1,2"),
        header("body", "the body"),
        header("Set-Cookie", "c=c"),
        header("Location", "/there"),
    ] {
        assert!(headers.contains(&expected), "{expected:?} in {headers:?}");
    }
    let body: Value = serde_json::from_str(&denied.body)?;
    assert_eq!(body["backend"], "auth");
    assert_eq!(body["status"], 403);
    assert_eq!(body["request"]["headers"]["x-one"], json!(["1", "2"]));
    assert_eq!(body["request"]["host"], "example.com");
    assert_eq!(body["request"]["tls"], json!({"enabled": false}));
    let url = json!({"fragment": "", "host": "example.com", "path": "/path?x=1", "query": "", "scheme": "http"});
    assert_eq!(body["request"]["url"], url);
    assert_eq!(body["headers"]["set-cookie"], json!(["c=c"]));
    Ok(())
}

#[tokio::test]
async fn a_version_is_served_at_its_own_path_only() -> Result<()> {
    let (_server, address) = serve(GrpcAuth::new("auth", ApiVersion::V2).router()).await?;
    let response: CheckResponse = call(&address, CHECK_V2, vec![check(&[])]).await?;
    let Some(HttpResponse::OkResponse(ok)) = response.http_response else {
        panic!("denied");
    };
    assert!(shown(&ok.headers).contains(&header("kat-resp-extauth-protocol-version", "v2")));
    let other: Result<CheckResponse, _> = call(&address, CHECK, vec![check(&[])]).await;
    assert_eq!(other.unwrap_err().code(), tonic::Code::Unimplemented);
    Ok(())
}

const LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const LIMIT_V2: &str = "/envoy.service.ratelimit.v2.RateLimitService/ShouldRateLimit";

/// A request with one descriptor for each entry.
fn limit(entries: &[(&str, &str)]) -> RateLimitRequest {
    let descriptor = |(key, value): &(&str, &str)| RateLimitDescriptor {
        entries: vec![Entry {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        }],
        ..RateLimitDescriptor::default()
    };
    RateLimitRequest {
        descriptors: entries.iter().map(descriptor).collect(),
        ..RateLimitRequest::default()
    }
}

#[tokio::test]
async fn a_limit_is_over_unless_an_entry_allows() -> Result<()> {
    let (_server, address) = serve(GrpcRls::new("rls", ApiVersion::V3).router()).await?;
    let entries = [
        ("kat-req-rls-headers-append", "x=1; y=2"),
        ("kat-req-rls-allow", "true"),
    ];
    let ok: RateLimitResponse = call(&address, LIMIT, vec![limit(&entries)]).await?;
    assert_eq!(ok.overall_code, 1);
    let entries = [entries[0], ("kat-req-rls-allow", "false")];
    let over: RateLimitResponse = call(&address, LIMIT, vec![limit(&entries)]).await?;
    assert_eq!(over.overall_code, 2);
    let headers = over.response_headers_to_add.iter();
    let headers: Vec<_> = headers
        .map(|header| (header.key.as_str(), header.value.as_str()))
        .collect();
    let expected = [
        ("x", "1"),
        ("y", "2"),
        ("content-type", "application/json"),
        ("kat-resp-rls-protocol-version", "v3"),
    ];
    assert_eq!(headers, expected);
    let body: Value = serde_json::from_slice(&over.raw_body)?;
    assert_eq!(body["descriptors"], "");
    assert_eq!(body["backend"], "rls");
    assert_eq!(body["status"], 2);
    assert_eq!(body["headers"]["x"], json!(["1"]));
    Ok(())
}

#[tokio::test]
async fn a_limit_of_v2_has_no_body() -> Result<()> {
    let (_server, address) = serve(GrpcRls::new("rls", ApiVersion::V2).router()).await?;
    let over: RateLimitResponse = call(&address, LIMIT_V2, vec![limit(&[])]).await?;
    assert_eq!(over.overall_code, 2);
    assert!(over.raw_body.is_empty());
    Ok(())
}

const LOG: &str = "/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs";
const LOG_V2: &str = "/envoy.service.accesslog.v2.AccessLogService/StreamAccessLogs";

#[tokio::test]
async fn what_was_logged_is_shown_until_it_is_deleted() -> Result<()> {
    let (_server, address) = serve(GrpcAls::default().router()).await?;
    let url = format!("http://{address}/logs");
    let empty =
        json!({"alsv2-http": null, "alsv2-tcp": null, "alsv3-http": null, "alsv3-tcp": null});
    assert_eq!(result(json!({"url": url})).await?["json"], empty);
    let request = HttpRequestProperties {
        path: "/path".into(),
        request_method: 1,
        ..HttpRequestProperties::default()
    };
    let entry = HttpAccessLogEntry {
        request: Some(request),
        ..HttpAccessLogEntry::default()
    };
    let message = |entries| StreamAccessLogsMessage {
        log_entries: Some(entries),
        ..StreamAccessLogsMessage::default()
    };
    let http = || {
        message(LogEntries::HttpLogs(HttpAccessLogEntries {
            log_entry: vec![entry.clone()],
        }))
    };
    let tcp = message(LogEntries::TcpLogs(TcpAccessLogEntries {
        log_entry: vec![TcpAccessLogEntry::default()],
    }));
    call::<_, StreamAccessLogsResponse>(&address, LOG, vec![http(), http()]).await?;
    call::<_, StreamAccessLogsResponse>(&address, LOG_V2, vec![tcp]).await?;
    let shown = json!({"request": {"path": "/path", "request_method": 1}});
    let logs = json!({"alsv2-http": null, "alsv2-tcp": [{}], "alsv3-http": [shown, shown], "alsv3-tcp": null});
    assert_eq!(result(json!({"url": url})).await?["json"], logs);
    assert_eq!(
        result(json!({"url": url, "method": "POST"})).await?["status"],
        405
    );
    assert_eq!(
        result(json!({"url": url, "method": "DELETE"})).await?["status"],
        200
    );
    assert_eq!(result(json!({"url": url})).await?["json"], empty);
    Ok(())
}
