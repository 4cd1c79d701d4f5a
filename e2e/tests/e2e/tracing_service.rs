//! TracingServices: the spans of a request in collectors of OpenTelemetry and Zipkin.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    client::{Loads, get},
    wait::until,
};
use nuncio_kat::{
    server::{Http, Listen, Server, Traces},
    span::{Span, export},
};
use serde_json::{Value, json};

use crate::{
    Space,
    answer::{ask, reached},
    fixture::{host, mapping, object},
};

const HOST: &str = "traces.example";

async fn collector(address: &str) -> Result<Server> {
    Server::start(&Listen::on(address), Traces::default().router()).await
}

/// The spans that a collector got.
async fn spans(address: &str) -> Result<Vec<Value>> {
    let answer = get(address, "traces", "/spans").await?;
    Ok(serde_json::from_str(&answer.body)?)
}

fn tracing_service(address: &str, more: &str) -> String {
    let spec = format!("service: '{address}'{more}");
    object("TracingService", "traces", &spec)
}

async fn backend(address: &str) -> Result<Server> {
    Server::start(&Listen::on(address), Http::new("traced").router()).await
}

/// Asks for a path with these headers.
async fn request(space: &Space, path: &str, headers: &[(&str, &str)]) -> Result<Value> {
    let mut all = json!({"Host": HOST});
    for (name, value) in headers {
        all[*name] = json!(value);
    }
    let answer =
        ask(json!({"url": format!("http://{}{path}", space.http()), "headers": all})).await?;
    ensure!(answer["status"] == 200, "{answer}");
    Ok(answer)
}

/// Asks until a collector has a span with this tag.
async fn traced(space: &Space, address: &str, tag: &str, value: &str) -> Result<Value> {
    until(&format!("a span with {tag} {value}"), || async {
        request(space, "/", &[]).await?;
        let spans = spans(address).await?;
        let found = spans.iter().find(|span| span["tags"][tag] == value);
        found.cloned().with_context(|| format!("{spans:?}"))
    })
    .await
}

#[expect(clippy::too_many_lines, reason = "one request, seen from all sides")]
pub(crate) async fn spans_of_a_request_are_joined(space: &Space) -> Result<()> {
    let address = "10.96.73.2:4317";
    let (_collector, _backend) = (collector(address).await?, backend("10.96.73.1:80").await?);
    let tags = "{tag: fixed, literal: {value: 'yes'}}, {tag: tenant, request_header: {name: x-tenant, default_value: none}}, {tag: both, literal: {value: a}, request_header: {name: b}}";
    let service = |more: &str| {
        let config = ", driver: opentelemetry, config: {service_name: edge}";
        tracing_service(address, &format!("{config}{more}"))
    };
    let manifests = [
        host("traces", HOST, ""),
        mapping("traced", HOST, "/", "10.96.73.1", ""),
        service(&format!(", custom_tags: [{tags}]")),
    ];
    space.apply(&manifests.concat())?;
    let ready = traced(space, address, "tenant", "none").await?;
    ensure!(
        ready["tags"]["fixed"] == "yes" && ready["tags"]["both"].is_null(),
        "{ready}"
    );

    let client = Span {
        trace_id: (1..=16).collect(),
        span_id: vec![7; 8],
        name: "the client".to_owned(),
        kind: 3,
        ..Span::default()
    };
    let header = client.traceparent();
    let answer = request(
        space,
        "/joined",
        &[("traceparent", &header), ("x-tenant", "one")],
    )
    .await?;
    let passed_on = reached(&answer, "traceparent")[0]
        .as_str()
        .unwrap_or_default();
    let own = Span::caused_by(passed_on, "the backend", [9; 8]).context("no traceparent")?;
    export(address, "client", vec![client]).await?;
    export(address, "backend", vec![own]).await?;
    let trace = &header[3..35];
    let joined = until("the spans of a request", || async {
        let mut spans = spans(address).await?;
        spans.retain(|span| span["trace"] == trace);
        ensure!(spans.len() == 4, "{spans:?}");
        Ok(spans)
    })
    .await?;
    // from the backend to the client, each span is caused by the next
    let mut chain = Vec::new();
    let mut id = json!("09".repeat(8));
    while let Some(span) = joined.iter().find(|span| span["id"] == id) {
        chain.push((
            span["service"].as_str().unwrap_or_default(),
            span["kind"].as_str().unwrap_or_default(),
        ));
        id = span["parent"].clone();
    }
    let expected = [
        ("backend", "server"),
        ("edge", "client"),
        ("edge", "server"),
        ("client", "client"),
    ];
    ensure!(chain == expected, "{chain:?} in {joined:?}");
    let edge = joined
        .iter()
        .find(|span| span["service"] == "edge" && span["kind"] == "server");
    ensure!(
        edge.is_some_and(|span| span["tags"]["tenant"] == "one"),
        "{joined:?}"
    );

    // nothing more is traced, but what clients ask for
    space.apply(&service(
        ", sampling: {random: 0}, custom_tags: [{tag: epoch, literal: {value: two}}]",
    ))?;
    let asked = [("x-client-trace-id", "1"), ("x-request-id", "a")];
    until("the next settings", || async {
        request(space, "/asked", &asked).await?;
        let spans = spans(address).await?;
        ensure!(
            spans.iter().any(|span| span["tags"]["epoch"] == "two"),
            "{spans:?}"
        );
        Ok(())
    })
    .await?;
    for _ in 0..20 {
        request(space, "/unasked", &[]).await?;
    }
    request(space, "/asked/last", &asked).await?;
    let has = |spans: &[Value], path: &str| {
        let url = |span: &Value| {
            span["tags"]["http.url"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        spans.iter().any(|span| url(span).ends_with(path))
    };
    until("the last span", || async {
        let spans = spans(address).await?;
        ensure!(has(&spans, "/asked/last"), "{spans:?}");
        ensure!(!has(&spans, "/unasked"), "{spans:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn zipkin_gets_spans_in_both_formats(space: &Space) -> Result<()> {
    let address = "10.96.73.12:9411";
    let (_collector, _backend) = (collector(address).await?, backend("10.96.73.11:80").await?);
    space.apply(
        &[
            host("traces", HOST, ""),
            mapping("traced", HOST, "/", "10.96.73.11", ""),
        ]
        .concat(),
    )?;
    for (version, protocol) in [
        ("HTTP_JSON", "zipkin json"),
        ("HTTP_PROTO", "zipkin protobuf"),
    ] {
        let config = format!(
            ", driver: zipkin, custom_tags: [{{tag: version, literal: {{value: {version}}}}}], config: {{collector_endpoint_version: {version}}}"
        );
        space.apply(&tracing_service(address, &config))?;
        let span = traced(space, address, "version", version).await?;
        ensure!(span["protocol"] == protocol, "{span}");
        let long_id = span["trace"].as_str().is_some_and(|id| id.len() == 32);
        ensure!(long_id, "{span}");
    }
    // B3 is passed on
    let (trace, span) = ("11".repeat(16), "22".repeat(8));
    let headers = [
        ("x-b3-traceid", &*trace),
        ("x-b3-spanid", &*span),
        ("x-b3-sampled", "1"),
    ];
    let answer = request(space, "/", &headers).await?;
    ensure!(reached(&answer, "x-b3-traceid")[0] == trace, "{answer}");
    until("the span of the client's trace", || async {
        let spans = spans(address).await?;
        ensure!(spans.iter().any(|span| span["trace"] == trace), "{spans:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn changes_of_a_tracing_service_lose_no_request(space: &Space) -> Result<()> {
    let address = "10.96.73.22:4317";
    let (_collector, _backend) = (collector(address).await?, backend("10.96.73.21:80").await?);
    space.apply(
        &[
            host("traces", HOST, ""),
            mapping("traced", HOST, "/", "10.96.73.21", ""),
        ]
        .concat(),
    )?;
    space.answers(HOST, "/", 200, "").await?;
    let loads = Loads::start(&space.http(), HOST, "/load");
    for driver in ["opentelemetry", "zipkin", "opentelemetry"] {
        let more = format!(
            ", driver: {driver}, custom_tags: [{{tag: driver, literal: {{value: {driver}}}}}]"
        );
        space.apply(&tracing_service(address, &more))?;
        traced(space, address, "driver", driver).await?;
        // nobody listens there
        space.apply(&tracing_service(
            "10.96.73.29:4317",
            ", driver: opentelemetry",
        ))?;
        space.apply(&tracing_service("10.96.73.29:8126", ", driver: datadog"))?;
        space.delete("tracingservice/traces")?;
    }
    loads.finish().await
}
