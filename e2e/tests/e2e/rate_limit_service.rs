//! RateLimitServices: which requests are limited, and what happens when the service fails.

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, client::Loads, wait::until};
use nuncio_kat::server::{ApiVersion, GrpcEcho, GrpcRls, Listen, Server};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    Space,
    answer::{CONNECTIONS, ask, ask_all, returned},
    fixture::{host, mapping, object},
};

const HOST: &str = "limits.example";
/// The label by which the rate limit service decides, which a request need not have.
const OPTIONAL: &str =
    "{request_headers: {key: kat-req-rls-allow, header_name: x-allow, omit_if_not_present: true}}";

/// Starts a rate limit service.
async fn service(address: &str) -> Result<Server> {
    let service = GrpcRls::new("limits", ApiVersion::V3);
    Server::start(&Listen::on(address), service.router()).await
}

/// A RateLimitService with these fields.
fn limits(service: &str, more: &str) -> String {
    let spec = format!("service: '{service}', protocol_version: v3, domain: shop{more}");
    object("RateLimitService", "limits", &spec)
}

/// A Mapping with one group of labels, in the domain of the service.
fn labelled(name: &str, service: &str, labels: &str) -> String {
    let more = format!(", labels: {{shop: [{{g: [{labels}]}}]}}");
    mapping(name, HOST, &format!("/{name}/"), service, &more)
}

fn query(space: &Space, path: &str, headers: &[(&str, &str)]) -> Value {
    let mut all = json!({"Host": HOST});
    for (name, value) in headers {
        all[*name] = json!(value);
    }
    json!({"url": format!("http://{}{path}", space.http()), "headers": all})
}

/// Asks until each worker of Envoy answers with this status.
async fn answers(query: &Value, status: u64) -> Result<Value> {
    until(&query.to_string(), || async {
        let mut answers = ask_all(vec![query.clone(); CONNECTIONS]).await?;
        for answer in &answers {
            ensure!(answer["status"] == status, "{answer}");
        }
        Ok(answers.swap_remove(0))
    })
    .await
}

pub(crate) async fn requests_are_limited_by_their_labels(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.71.1:80", "limited").await?;
    let address = "10.96.71.2:8081";
    let _service = service(address).await?;
    let fixed = "{generic_key: {key: area, value: shop}}";
    let manifests = [
        host("limits", HOST, ""),
        mapping("free", HOST, "/free/", "10.96.71.1", ""),
        mapping(
            "other",
            HOST,
            "/other/",
            "10.96.71.1",
            ", labels: {elsewhere: [{g: [{generic_key: {value: a}}]}]}",
        ),
        labelled("optional", "10.96.71.1", &format!("{fixed}, {OPTIONAL}")),
        labelled(
            "required",
            "10.96.71.1",
            &format!(
                "{fixed}, {{request_headers: {{key: kat-req-rls-allow, header_name: x-allow}}}}"
            ),
        ),
        labelled("alone", "10.96.71.1", OPTIONAL),
        limits(address, ", timeout_ms: 5000, failure_mode_deny: true"),
    ];
    space.apply(&manifests.concat())?;
    let (yes, no) = ([("x-allow", "true")], [("x-allow", "no")]);
    let limited = answers(&query(space, "/optional/", &no), 429).await?;
    let version = returned(&limited, "Kat-Resp-Rls-Protocol-Version");
    ensure!(*version == json!(["v3"]), "{limited}");
    answers(&query(space, "/optional/", &yes), 200).await?;
    // only the label is left out, or else the whole description
    answers(&query(space, "/optional/", &[]), 429).await?;
    answers(&query(space, "/required/", &[]), 200).await?;
    answers(&query(space, "/required/", &no), 429).await?;
    // no description is empty
    answers(&query(space, "/alone/", &[]), 200).await?;
    answers(&query(space, "/alone/", &no), 429).await?;
    answers(&query(space, "/free/", &no), 200).await?;
    answers(&query(space, "/other/", &no), 200).await?;

    // without a service in use nothing is limited
    space.delete("ratelimitservice/limits")?;
    answers(&query(space, "/optional/", &no), 200).await?;
    until("the condition of a Mapping", || async {
        let path = "{.status.conditions[*].message}";
        let messages = space.field("mapping/optional", path)?;
        ensure!(
            messages.contains("there is no RateLimitService"),
            "{messages}"
        );
        Ok(())
    })
    .await
}

pub(crate) async fn the_failure_mode_decides_when_the_service_fails(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.71.11:80", "limited").await?;
    // it accepts connections, and never answers
    let _silent = TcpListener::bind("10.96.71.12:8081").await?;
    let manifests = [
        host("limits", HOST, ""),
        labelled("all", "10.96.71.11", "{generic_key: {value: all}}"),
    ];
    space.apply(&manifests.concat())?;
    answers(&query(space, "/all/", &[]), 200).await?;
    for (what, service, deny, status) in [
        ("dead", "10.96.71.19:8081", true, 500),
        ("dead", "10.96.71.19:8081", false, 200),
        ("slow", "10.96.71.12:8081", true, 500),
        ("slow", "10.96.71.12:8081", false, 200),
        ("missing", "nothing:8081", true, 500),
        ("missing", "nothing:8081", false, 200),
    ] {
        let more = format!(", timeout_ms: 100, failure_mode_deny: {deny}");
        space.apply(&limits(service, &more))?;
        let answer = answers(&query(space, "/all/", &[]), status).await;
        answer.map_err(|error| error.context(format!("{what}, failure_mode_deny: {deny}")))?;
    }
    Ok(())
}

pub(crate) async fn limited_grpc_requests_get_the_status_as_configured(
    space: &Space,
) -> Result<()> {
    let _echo = Server::start(
        &Listen::on("10.96.71.21:80"),
        GrpcEcho::new("echo").router(),
    )
    .await?;
    let address = "10.96.71.22:8081";
    let _service = service(address).await?;
    space.apply(&host("limits", HOST, ""))?;
    let more = ", rewrite: '', grpc: true, labels: {shop: [{g: [{generic_key: {value: all}}]}]}";
    space.apply(&mapping(
        "grpc",
        HOST,
        "/echo.EchoService/",
        "10.96.71.21",
        more,
    ))?;
    let url = format!("http://{}/echo.EchoService/Echo", space.http());
    let call = json!({"url": url, "grpc_type": "real", "headers": {"Host": HOST}});
    // the client reports that a server is unavailable as an error of its own
    for (status, used) in [
        ("code = Unavailable ", false),
        (r#""Grpc-Status":["8"]"#, true),
    ] {
        let more = format!(", timeout_ms: 5000, grpc: {{use_resource_exhausted_code: {used}}}");
        space.apply(&limits(address, &more))?;
        until("the status of a limited call", || async {
            let answer = ask(call.clone()).await?;
            ensure!(answer.to_string().contains(status), "{answer}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn changes_of_a_rate_limit_service_lose_no_request(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.71.31:80", "limited").await?;
    let address = "10.96.71.32:8081";
    let _service = service(address).await?;
    let manifests = [
        host("limits", HOST, ""),
        labelled(
            "all",
            "10.96.71.31",
            "{generic_key: {key: kat-req-rls-allow, value: 'true'}}",
        ),
        labelled("none", "10.96.71.31", "{generic_key: {value: none}}"),
    ];
    space.apply(&manifests.concat())?;
    let (open, limited) = (query(space, "/all/", &[]), query(space, "/none/", &[]));
    answers(&open, 200).await?;
    let loads = Loads::start(&space.http(), HOST, "/all/");
    for round in 0..3 {
        space.apply(&limits(
            address,
            ", timeout_ms: 5000, failure_mode_deny: true",
        ))?;
        answers(&limited, 429).await?;
        // other settings, and another cluster
        let more = format!(
            ", timeout_ms: {}, failure_mode_deny: true, stats_name: s{round}",
            6000 + round
        );
        space.apply(&limits(address, &more))?;
        answers(&limited, 429).await?;
        space.delete("ratelimitservice/limits")?;
        answers(&limited, 200).await?;
    }
    loads.finish().await
}
