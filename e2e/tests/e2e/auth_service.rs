//! AuthServices in front of real traffic.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::{Connection, Loads},
    wait::until,
};
use nuncio_kat::server::{ApiVersion, GrpcAuth, Http, Listen, Server};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    Space,
    answer::{answered, ask},
    fixture::{host, mapping, object, service},
};

/// The header by which a kat server answers with a status.
const STATUS: &str = "kat-req-http-requested-status";
const GRPC_STATUS: &str = "kat-req-extauth-requested-status";
/// What an AuthService with proto http passes on, so that tests can say how the service answers.
const CONTROLS: &str = "allowed_request_headers: [kat-req-http-requested-status, kat-req-http-requested-header, \
    kat-req-http-requested-backend-delay, x-seen, content-type], allowed_authorization_headers: [x-answer]";

/// A query through the gateway of this space.
fn query(space: &Space, host: &str, path: &str, headers: &[(&str, &str)]) -> Value {
    let mut all = json!({"Host": host});
    for (name, value) in headers {
        all[*name] = json!(value);
    }
    json!({"url": format!("http://{}{path}", space.http()), "headers": all})
}

/// Waits until an object is programmed as it was last applied.
async fn programmed(space: &Space, object: &str) -> Result<()> {
    condition(space, object, "Programmed", "True").await
}

/// Waits until a condition of an object has this status for what was last applied.
async fn condition(space: &Space, object: &str, name: &str, status: &str) -> Result<()> {
    until(&format!("{name} of {object}"), || async {
        let generation = space.field(object, "{.metadata.generation}")?;
        let path = format!("{{.status.conditions[?(@.type==\"{name}\")]}}");
        let found: Value = serde_json::from_str(&space.field(object, &path)?)?;
        ensure!(
            found["observedGeneration"].as_i64() == generation.parse().ok()
                && found["status"] == status,
            "{found}"
        );
        Ok(())
    })
    .await
}

fn auth(name: &str, service: &str, more: &str) -> String {
    object(
        "AuthService",
        name,
        &format!("auth_service: '{service}', {more}"),
    )
}

/// The headers that a kat backend got, by lower-case name.
fn received(answer: &Value) -> &Value {
    &answer["json"]["request"]["headers"]
}

pub(crate) async fn an_http_service_decides(space: &Space) -> Result<()> {
    let host_name = "http.auth.example";
    let _backend = Server::start(&Listen::on("10.96.61.1:80"), Http::new("up").router()).await?;
    let checks = Http::new("auth").include_extauth(true).router();
    let _auth = Server::start(&Listen::on("10.96.61.2:80"), checks).await?;
    let more = format!(
        "{CONTROLS}, path_prefix: /check, add_auth_headers: {{x-gateway: edge}}, include_body: {{max_bytes: 8, allow_partial: false}}"
    );
    space.apply(
        &[
            host("http", host_name, ""),
            mapping("http", host_name, "/", "10.96.61.1", ""),
            mapping(
                "bypass",
                host_name,
                "/bypass/",
                "10.96.61.1",
                ", bypass_auth: true",
            ),
            mapping(
                "redirect",
                host_name,
                "/redirect/",
                "other.example",
                ", host_redirect: true",
            ),
            auth("http", "10.96.61.2", &more),
        ]
        .concat(),
    )?;
    let denied = query(space, host_name, "/a", &[(STATUS, "401")]);
    let answer = answered(&denied, 401).await?;
    ensure!(answer["headers"]["X-Nothing"].is_null(), "{answer}");
    programmed(space, "authservice/http").await?;
    let answer = answered(&query(space, host_name, "/a", &[("x-secret", "1")]), 200).await?;
    ensure!(
        received(&answer)["x-secret"] == json!(["1"]),
        "the upstream has all headers: {answer}"
    );
    // a denial is the service's, with its body and the headers that are passed on
    let headers = [
        (STATUS, "302"),
        ("kat-req-http-requested-header", "location"),
        ("location", "/login"),
    ];
    let answer = ask(query(space, host_name, "/a", &headers)).await?;
    ensure!(answer["status"] == 302, "{answer}");
    // redirects and Mappings that bypass it are not authorized
    let path = query(space, host_name, "/redirect/", &[(STATUS, "401")]);
    answered(&path, 301).await?;
    let answer = ask(query(space, host_name, "/bypass/", &[(STATUS, "418")])).await?;
    ensure!(answer["status"] == 418, "{answer}");
    // a body that is too large is not passed on in part
    let mut large = query(space, host_name, "/a", &[("content-type", "text/plain")]);
    large["method"] = json!("POST");
    large["body"] = json!("MTIzNDU2Nzg5");
    let answer = ask(large).await?;
    ensure!(answer["status"] == 413, "{answer}");
    // a service that cannot be used closes the gateway, but not probes
    space.apply(&auth("http", "10.96.61.2", "proto: grpc"))?;
    let answer = answered(&query(space, host_name, "/a", &[]), 500).await?;
    let body = &answer["json"];
    ensure!(
        body["status_code"] == 500
            && body["request_id"].as_str().is_some_and(|id| id.len() > 8)
            && body["message"]
                .as_str()
                .is_some_and(|text| text.contains("AuthService") && text.contains("http")),
        "{answer}"
    );
    condition(space, "authservice/http", "Accepted", "False").await?;
    let answer = ask(query(space, host_name, "/bypass/", &[])).await?;
    ensure!(answer["status"] == 500, "{answer}");
    let probe = query(space, host_name, "/ambassador/v0/check_alive", &[]);
    let answer = ask(probe).await?;
    ensure!(answer["status"] != 500, "{answer}");
    space.delete("authservice/http")?;
    answered(&query(space, host_name, "/a", &[]), 200)
        .await
        .map(drop)
}

pub(crate) async fn a_grpc_service_decides(space: &Space) -> Result<()> {
    let host_name = "grpc.auth.example";
    let _backend = Server::start(&Listen::on("10.96.62.1:80"), Http::new("up").router()).await?;
    let checks = GrpcAuth::new("grpc", ApiVersion::V3).router();
    let _auth = Server::start(&Listen::on("10.96.62.3:80"), checks).await?;
    let grpc =
        "proto: grpc, protocol_version: v3, include_body: {max_bytes: 4, allow_partial: true}";
    space.apply(
        &[
            host("grpc", host_name, ""),
            mapping("grpc", host_name, "/", "10.96.62.1", ""),
            mapping(
                "extensions",
                host_name,
                "/extensions/",
                "10.96.62.1",
                ", auth_context_extensions: {tenant: blue}",
            ),
            auth("grpc", "10.96.62.3", grpc),
        ]
        .concat(),
    )?;
    let denied = query(space, host_name, "/a", &[(GRPC_STATUS, "401")]);
    let answer = answered(&denied, 401).await?;
    ensure!(
        answer["json"]["backend"] == "grpc",
        "the body of the denial: {answer}"
    );
    let allowed = [("kat-req-extauth-append", "x-added=by-auth")];
    let answer = answered(&query(space, host_name, "/a", &allowed), 200).await?;
    ensure!(
        received(&answer).to_string().contains("by-auth"),
        "{answer}"
    );
    let path = query(space, host_name, "/extensions/", &[]);
    let answer = answered(&path, 200).await?;
    ensure!(
        received(&answer).to_string().contains("blue"),
        "context extensions: {answer}"
    );
    let mut partial = query(space, host_name, "/a", &[(GRPC_STATUS, "403")]);
    partial["method"] = json!("POST");
    partial["body"] = json!("MTIzNDU2Nzg5");
    let answer = ask(partial).await?;
    let body = answer.to_string();
    ensure!(
        answer["status"] == 403 && body.contains("1234") && !body.contains("12345"),
        "{answer}"
    );
    Ok(())
}

pub(crate) async fn failures_of_the_service_are_handled_as_set(space: &Space) -> Result<()> {
    let host_name = "failing.auth.example";
    let _backend = Backend::start("10.96.63.1:80", "up").await?;
    let hung = TcpListener::bind("10.96.63.5:80").await?;
    space.apply(
        &[
            host("failing", host_name, ""),
            mapping("failing", host_name, "/", "10.96.63.1", ""),
        ]
        .concat(),
    )?;
    let path = query(space, host_name, "/", &[]);
    answered(&path, 200).await?;
    let (dead, slow) = ("10.96.63.4", "10.96.63.5");
    let grpc = "proto: grpc, protocol_version: v3, timeout_ms: 300";
    for (service, more, status) in [
        (dead, "timeout_ms: 300", 403),
        (dead, "timeout_ms: 300, status_on_error: {code: 503}", 503),
        (dead, "timeout_ms: 300, failure_mode_allow: true", 200),
        (slow, "timeout_ms: 300, status_on_error: {code: 429}", 429),
        (slow, grpc, 403),
        (dead, &format!("{grpc}, failure_mode_allow: true"), 200),
    ] {
        space.apply(&auth("failing", service, more))?;
        programmed(space, "authservice/failing").await?;
        answered(&path, status).await.context(more.to_owned())?;
    }
    drop(hung);
    // one whose TLSContext is missing cannot be called at all, whatever its failure mode
    let more = "tls: nowhere, failure_mode_allow: true";
    space.apply(&auth("failing", dead, more))?;
    answered(&path, 500).await.map(drop)
}

/// Requests that the service rejects, one after the other on a connection that was there before it.
struct Unauthorized {
    connection: Connection,
    address: String,
    host: &'static str,
    path: &'static str,
}

impl Unauthorized {
    async fn new(space: &Space, host: &'static str, path: &'static str) -> Result<Self> {
        Ok(Self {
            connection: Connection::open(&space.http()).await?,
            address: space.http(),
            host,
            path,
        })
    }

    async fn status(&mut self) -> Result<u16> {
        if self.connection.is_over() {
            self.connection = Connection::open(&self.address).await?;
        }
        let headers = [(STATUS, "403")];
        let answer = self.connection.get_with(self.host, self.path, &headers);
        Ok(answer.await?.status)
    }

    /// None of many requests is served.
    async fn check(&mut self, when: &str) -> Result<()> {
        for _ in 0..50 {
            let status = self.status().await?;
            ensure!(status != 200, "{when}: served without authorization");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

pub(crate) async fn changes_under_load_lose_and_open_nothing(space: &Space) -> Result<()> {
    let host_name = "load.auth.example";
    let _backend = Backend::start("10.96.64.1:80", "up").await?;
    let _auth = Server::start(&Listen::on("10.96.64.2:80"), Http::new("auth").router()).await?;
    let _other = Server::start(&Listen::on("10.96.64.6:80"), Http::new("auth").router()).await?;
    space.apply(
        &[
            host("load", host_name, ""),
            mapping("load", host_name, "/", "10.96.64.1", ""),
        ]
        .concat(),
    )?;
    answered(&query(space, host_name, "/", &[]), 200).await?;
    let mut intruder = Unauthorized::new(space, host_name, "/").await?;
    ensure!(intruder.status().await? == 200, "there is an AuthService");
    let http = space.http();
    let loads = Loads::start(&http, host_name, "/");
    for round in 0..3 {
        for (service, more) in [
            ("10.96.64.2", ""),
            ("10.96.64.2", "timeout_ms: 900"),
            ("10.96.64.6", "timeout_ms: 900"),
            (
                "10.96.64.6",
                "path_prefix: /check, failure_mode_allow: true",
            ),
            (
                "10.96.64.6",
                "add_auth_headers: {x-a: b}, stats_name: other",
            ),
        ] {
            space.apply(&auth("load", service, &format!("{CONTROLS}, {more}")))?;
            if (service, more) != ("10.96.64.2", "") {
                intruder.check("while it changes").await?;
            }
            programmed(space, "authservice/load").await?;
            let when = format!("round {round}, {service} {more}");
            intruder.check(&when).await?;
            let mut fresh = Unauthorized::new(space, host_name, "/").await?;
            fresh.check(&when).await?;
        }
        space.delete("authservice/load")?;
        let path = query(space, host_name, "/", &[(STATUS, "403")]);
        answered(&path, 200).await?;
    }
    loads.finish().await
}

pub(crate) async fn mappings_name_their_service(space: &Space) -> Result<()> {
    let host_name = "named.auth.example";
    let _backend = Backend::start("10.96.65.1:80", "up").await?;
    let _auth = Server::start(&Listen::on("10.96.65.2:80"), Http::new("auth").router()).await?;
    let manifests = [
        host("named", host_name, ""),
        mapping("open", host_name, "/", "10.96.65.1", ""),
        mapping("named", host_name, "/named/", "10.96.65.1", ""),
        auth("some", "10.96.65.2", &format!("{CONTROLS}, default: false")),
    ];
    space.apply(&manifests.concat())?;
    answered(&query(space, host_name, "/named/", &[]), 200).await?;
    let mut intruder = Unauthorized::new(space, host_name, "/named/").await?;
    ensure!(intruder.status().await? == 200, "it is used unasked");
    // it keeps connections open; some of its requests are denied on purpose
    let _loads = Loads::start(&space.http(), host_name, "/");
    let named = |service: &str| {
        let more = format!(", auth_service: {service}");
        mapping("named", host_name, "/named/", "10.96.65.1", &more)
    };
    // connections that Envoy drains with the filters of before are closed to it
    space.apply(&named("some"))?;
    let denied = query(space, host_name, "/named/", &[(STATUS, "401")]);
    answered(&denied, 401).await?;
    programmed(space, "mapping/named").await?;
    intruder.check("on a connection of before").await?;
    answered(&query(space, host_name, "/named/", &[]), 200).await?;
    answered(&query(space, host_name, "/", &[(STATUS, "401")]), 200).await?;
    // the default service, or that it cannot be used, is no matter to a Mapping that names another one
    space.apply(&auth("all", "10.96.65.2", "proto: grpc"))?;
    answered(&query(space, host_name, "/bad/", &[]), 500).await?;
    answered(&denied, 401).await?;
    answered(&query(space, host_name, "/named/", &[]), 200).await?;
    space.delete("authservice/all")?;
    answered(&query(space, host_name, "/", &[]), 200).await?;
    // one that does not exist
    space.apply(&named("nobody"))?;
    answered(&query(space, host_name, "/named/", &[]), 500).await?;
    condition(space, "mapping/named", "ResolvedRefs", "False").await?;
    intruder.check("after another change of filters").await?;
    space.apply(&named("some"))?;
    answered(&denied, 401).await?;
    space.delete("authservice/some")?;
    answered(&query(space, host_name, "/named/", &[]), 500).await?;
    intruder.check("after its end").await?;
    Ok(())
}

pub(crate) async fn a_service_that_appears_later_is_called(space: &Space) -> Result<()> {
    let host_name = "later.auth.example";
    let _backend = Backend::start("10.96.66.1:80", "up").await?;
    let _auth = Server::start(&Listen::on("10.96.66.7:80"), Http::new("auth").router()).await?;
    let name = format!("later.{}.svc.cluster.local", space.namespace);
    let manifests = [
        host("later", host_name, ""),
        mapping("later", host_name, "/", "10.96.66.1", ""),
        auth("later", &name, CONTROLS),
    ];
    space.apply(&manifests.concat())?;
    let path = query(space, host_name, "/", &[]);
    answered(&path, 403).await?;
    condition(space, "authservice/later", "ResolvedRefs", "False").await?;
    space.apply(&service("later", "10.96.66.7"))?;
    answered(&path, 200).await?;
    let denied = query(space, host_name, "/", &[(STATUS, "401")]);
    answered(&denied, 401).await?;
    condition(space, "authservice/later", "ResolvedRefs", "True").await
}
