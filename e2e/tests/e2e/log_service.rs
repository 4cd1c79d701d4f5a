//! LogServices: what they get, and that requests do not suffer from their changes.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    client::{Loads, get},
    wait::until,
};
use nuncio_kat::server::{GrpcAls, Http, Listen, Server};
use serde_json::{Value, json};

use crate::{
    Space,
    answer::ask,
    fixture::{host, mapping, object},
};

const HOST: &str = "logs.example";

async fn sink(address: &str) -> Result<Server> {
    Server::start(&Listen::on(address), GrpcAls::default().router()).await
}

/// What a sink got.
async fn logs(address: &str) -> Result<Value> {
    let answer = get(address, "logs", "/logs").await?;
    Ok(serde_json::from_str(&answer.body)?)
}

/// The entry about this path.
async fn entry(address: &str, path: &str) -> Result<Value> {
    until(&format!("the log of {path}"), || async {
        let logs = logs(address).await?;
        let mut entries = logs["alsv3-http"].as_array().into_iter().flatten();
        let is_meant = |entry: &&Value| entry["request"]["original_path"] == path;
        entries
            .find(is_meant)
            .cloned()
            .with_context(|| logs.to_string())
    })
    .await
}

/// Asks for a path until a sink has an entry about it, and returns that.
async fn logged(space: &Space, address: &str, path: &str) -> Result<Value> {
    until(&format!("{path} at {address}"), || async {
        get(&space.http(), HOST, path).await?;
        tokio::time::timeout(std::time::Duration::from_secs(3), entry(address, path)).await?
    })
    .await
}

fn log_service(name: &str, address: &str, more: &str) -> String {
    let spec = format!("service: '{address}', protocol_version: v3{more}");
    object("LogService", name, &spec)
}

pub(crate) async fn requests_and_connections_are_logged(space: &Space) -> Result<()> {
    let (first, second, connections) = ("10.96.72.2:9000", "10.96.72.3:9000", "10.96.72.4:9000");
    let _sinks = (
        sink(first).await?,
        sink(second).await?,
        sink(connections).await?,
    );
    let _backend =
        Server::start(&Listen::on("10.96.72.1:80"), Http::new("logged").router()).await?;
    let headers = "{header_name: X-All}, {header_name: x-request, during_response: false, during_trailer: false}, {header_name: x-response, during_request: false}";
    let manifests = [
        host("logs", HOST, ""),
        mapping("logged", HOST, "/", "10.96.72.1", ""),
        object("TCPMapping", "logged", "port: 6801, service: 10.96.72.1"),
        log_service(
            "first",
            first,
            &format!(", driver: http, driver_config: {{additional_log_headers: [{headers}]}}"),
        ),
        log_service("second", second, ", driver: http"),
        log_service("third", connections, ", driver: tcp"),
    ];
    space.apply(&manifests.concat())?;
    logged(space, first, "/ready").await?;
    logged(space, second, "/ready-too").await?;

    let headers = json!({"Host": HOST, "x-all": "1", "x-request": "2", "x-response": "3",
        "kat-req-http-requested-header": "x-response"});
    let answer =
        ask(json!({"url": format!("http://{}/with-headers", space.http()), "headers": headers}))
            .await?;
    ensure!(answer["status"] == 200, "{answer}");
    let found = entry(first, "/with-headers").await?;
    let expected = json!({"x-all": "1", "x-request": "2"});
    ensure!(found["request"]["request_headers"] == expected, "{found}");
    let expected = json!({"x-response": "3"});
    ensure!(found["response"]["response_headers"] == expected, "{found}");
    ensure!(
        found["response"]["response_code"]["value"] == 200,
        "{found}"
    );
    let found = entry(second, "/with-headers").await?;
    ensure!(found["request"]["request_headers"].is_null(), "{found}");

    // requests are connections for the other driver, beside those of TCPMappings
    let tcp = space.gateway.instance.port(6801);
    until("the log of a connection", || async {
        get(&tcp, "any", "/").await?;
        let logs = logs(connections).await?;
        let entries = logs["alsv3-tcp"].as_array().into_iter().flatten();
        let to = |cluster: &str| {
            let mut entries = entries.clone();
            entries.any(|entry| {
                let properties = &entry["connection_properties"];
                entry["common_properties"]["upstream_cluster"] == cluster
                    && properties["sent_bytes"] != 0
            })
        };
        ensure!(to("10.96.72.1:80"), "{logs}");
        ensure!(logs["alsv3-http"].is_null(), "{logs}");
        Ok(())
    })
    .await
}

pub(crate) async fn changes_of_a_log_service_lose_no_request(space: &Space) -> Result<()> {
    let (first, second) = ("10.96.72.12:9000", "10.96.72.13:9000");
    let _sinks = (sink(first).await?, sink(second).await?);
    let _backend =
        Server::start(&Listen::on("10.96.72.11:80"), Http::new("logged").router()).await?;
    space.apply(
        &[
            host("logs", HOST, ""),
            mapping("logged", HOST, "/", "10.96.72.11", ""),
        ]
        .concat(),
    )?;
    space.answers(HOST, "/", 200, "").await?;
    let loads = Loads::start(&space.http(), HOST, "/load");
    for round in 0..3 {
        space.apply(&log_service("logs", first, ", driver: http"))?;
        logged(space, first, &format!("/first-{round}")).await?;
        space.apply(&log_service("logs", second, ", driver: http"))?;
        logged(space, second, &format!("/second-{round}")).await?;
        // nobody listens there
        space.apply(&log_service("logs", "10.96.72.19:9000", ", driver: http"))?;
        space.delete("logservice/logs")?;
    }
    loads.finish().await
}
