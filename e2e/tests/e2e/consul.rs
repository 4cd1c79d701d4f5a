//! Services of Consul, with real agents.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::{Authority, secret},
    client::{Load, get},
    consul::Consul,
    process::Process,
    wait::until,
};
use serde_json::{Value, json};

use super::serve::{self, HTTP, gone, samples, serve_with};
use crate::{
    Space,
    fixture::{host, mapping, object},
    status::condition,
};

/// Where agents listen.
const WEST: Ipv4Addr = Ipv4Addr::new(127, 0, 71, 1);
const EAST: Ipv4Addr = Ipv4Addr::new(127, 0, 72, 1);

/// A directory that is served to an Envoy.
pub(crate) struct Served {
    directory: tempfile::TempDir,
    process: Option<Process>,
}

impl Served {
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        samples(directory.path())?;
        Ok(Self {
            directory,
            process: None,
        })
    }

    /// Starts the control plane, or starts it again.
    pub(crate) async fn start(&mut self) -> Result<()> {
        if self.process.take().is_some() {
            // its Envoy ends a moment later, and has the ports until then
            gone().await?;
        }
        let environment = [
            ("EAST", "127.0.72.1"),
            ("CONSUL_HTTP_ADDR", "127.0.71.1:8500"),
            ("NUNCIO_ZONE", "a"),
        ];
        self.process = Some(serve_with(self.directory.path(), &[], &environment)?);
        Ok(())
    }

    /// Writes a file at once.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = |name: &str| self.directory.path().join(name);
        let hidden = format!(".{name}");
        fs::write(path(&hidden), text)?;
        fs::rename(path(&hidden), path(&format!("{name}.yaml")))?;
        Ok(())
    }

    pub(crate) fn mapping(&self, name: &str, service: &str, more: &str) -> Result<()> {
        self.write(
            name,
            &mapping(name, "'*'", &format!("/{name}/"), service, more),
        )
    }

    fn log(&self) -> Result<String> {
        let log = self.process.as_ref().map(|process| process.log.clone());
        Ok(fs::read_to_string(log.as_deref().unwrap_or(Path::new("")))?)
    }
}

/// Waits until requests of a Mapping are answered like this.
pub(crate) async fn answers(mapping: &str, status: u16, body: &str) -> Result<()> {
    serve::answers(&format!("/{mapping}/"), status, body).await
}

fn resolver(name: &str, address: &str, datacenter: &str, more: &str) -> String {
    let spec = format!("address: '{address}', datacenter: {datacenter}{more}");
    object("ConsulResolver", name, &spec)
}

pub(crate) async fn services_of_an_agent_are_followed() -> Result<()> {
    let west = Consul::start("dc1", WEST, json!({}), "").await?;
    let east = Consul::start("east", EAST, json!({}), "").await?;
    let _one = Backend::start("127.0.0.1:9101", "one").await?;
    let _two = Backend::start("127.0.0.1:9102", "two").await?;
    let _three = Backend::start("127.0.0.1:9103", "three").await?;
    west.register("Web", "127.0.0.1:9101", true).await?;
    east.register("Web", "127.0.0.1:9103", true).await?;
    let mut served = Served::new()?;
    served.write("resolver", &resolver("east", "$EAST:8500", "east", ""))?;
    served.mapping("west", "Web", ", resolver: consul")?;
    served.mapping("east", "Web:1234", ", resolver: east")?;
    served.start().await?;
    answers("west", 200, "one").await?;
    answers("east", 200, "three").await?;
    // an instance that comes, one that fails its check, one that goes
    west.register("Web", "127.0.0.1:9102", true).await?;
    answers("west", 200, "two").await?;
    west.register("Web", "127.0.0.1:9101", false).await?;
    until("only the passing instance", || async {
        for _ in 0..10 {
            let answer = get(HTTP, "localhost", "/west/").await?;
            ensure!(answer.body.starts_with("two"), "{}", answer.body);
        }
        Ok(())
    })
    .await?;
    west.deregister("Web", "127.0.0.1:9102").await?;
    answers("west", 503, "").await?;
    west.register("Web", "127.0.0.1:9101", true).await?;
    answers("west", 200, "one").await?;
    // host names, and a service that nobody has registered
    west.register("named", "localhost:9102", true).await?;
    served.mapping("named", "named", ", resolver: consul-endpoint")?;
    answers("named", 200, "two").await?;
    served.mapping("nobody", "nobody", ", resolver: consul")?;
    answers("nobody", 503, "").await?;
    west.register("nobody", "127.0.0.1:9103", true).await?;
    answers("nobody", 200, "three").await?;
    // TCP
    let spec = "port: 5432, service: Web, resolver: east";
    served.write("tcp", &object("TCPMapping", "tcp", spec))?;
    until("a connection", || async {
        let answer = get("127.0.0.1:5432", "localhost", "/").await?;
        ensure!(answer.body.starts_with("three"), "{}", answer.body);
        Ok(())
    })
    .await
}

/// An agent that wants a client certificate of this authority, and this token.
async fn secure_agent(authority: &Authority, token: &str) -> Result<Consul> {
    let server = authority.issue(&["server.dc1.consul", "localhost"])?;
    let files = tempfile::tempdir()?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = files.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let https = json!({
        "ca_file": file("ca", &authority.pem())?,
        "cert_file": file("chain", &server.chain)?,
        "key_file": file("key", &server.key)?,
        "verify_incoming": true,
    });
    let more = json!({
        "tls": {"https": https, "defaults": {"verify_incoming": false}},
        "acl": acl(token),
    });
    Consul::start("dc1", WEST, more, token).await
}

/// Configuration of an agent that wants a token.
fn acl(token: &str) -> Value {
    let tokens = json!({"initial_management": token, "agent": token});
    json!({"enabled": true, "default_policy": "deny", "tokens": tokens})
}

pub(crate) async fn tls_and_tokens_are_used() -> Result<()> {
    const TOKEN: &str = "5ec7e700-0000-4000-8000-000000000001";
    let authority = Authority::new()?;
    let client = authority.issue(&["client.dc1.consul"])?;
    let consul = secure_agent(&authority, TOKEN).await?;
    let _one = Backend::start("127.0.0.1:9101", "one").await?;
    consul.register("web", "127.0.0.1:9101", true).await?;
    let mut served = Served::new()?;
    let token = |text: &str| secret("default", "token", "Opaque", &[("token", text)]);
    let secrets =
        ", token_secret: token, ca_secret: ca, tls_secret: client, sni: server.dc1.consul";
    served.write(
        "secrets",
        &[
            authority.secret("default", "ca"),
            client.secret("default", "client"),
        ]
        .concat(),
    )?;
    served.write("token", &token("5ec7e700-0000-4000-8000-00000000dead"))?;
    served.write(
        "resolver",
        &resolver("secure", &consul.https, "dc1", secrets),
    )?;
    served.mapping("web", "web", ", resolver: secure")?;
    served.mapping("steady", "127.0.0.1:9101", "")?;
    served.start().await?;
    // an unknown token, then the right one
    answers("steady", 200, "one").await?;
    answers("web", 503, "").await?;
    until("the reason", || async {
        ensure!(served.log()?.contains("ACL not found"), "it is not logged");
        Ok(())
    })
    .await?;
    served.write("token", &token(TOKEN))?;
    answers("web", 200, "one").await?;
    // without its client certificate the agent is not reached: what is known stays
    let no_client = secrets.replace(", tls_secret: client", "");
    served.write(
        "resolver",
        &resolver("secure", &consul.https, "dc1", &no_client),
    )?;
    until("the failure", || async {
        let log = served.log()?;
        let failures = log.matches("Consul agent failed").count();
        ensure!(failures >= 2, "{failures} failures are logged");
        Ok(())
    })
    .await?;
    answers("web", 200, "one").await?;
    // a name that the certificate does not have
    let other = secrets.replace("server.dc1.consul", "server.other.consul");
    served.write(
        "resolver-other",
        &resolver("other", &consul.https, "dc1", &other),
    )?;
    served.mapping("other", "web", ", resolver: other")?;
    answers("other", 503, "").await?;
    served.write(
        "resolver-other",
        &resolver("other", &consul.https, "dc1", secrets),
    )?;
    answers("other", 200, "one").await?;
    ensure!(!served.log()?.contains("5ec7e700"), "a token is in the log");
    Ok(())
}

pub(crate) async fn the_last_endpoints_stay_while_the_agent_is_away() -> Result<()> {
    let mut consul = Consul::start("dc1", WEST, json!({}), "").await?;
    let _one = Backend::start("127.0.0.1:9101", "one").await?;
    let _two = Backend::start("127.0.0.1:9102", "two").await?;
    consul.register("web", "127.0.0.1:9101", true).await?;
    let mut served = Served::new()?;
    served.mapping("web", "web", ", resolver: consul")?;
    served.start().await?;
    answers("web", 200, "one").await?;
    let load = Load::start(HTTP, "localhost", "/web/");
    consul.process.kill();
    until("the failure", || async {
        ensure!(
            served.log()?.contains("Consul agent failed"),
            "it is not logged"
        );
        Ok(())
    })
    .await?;
    // a change of something else goes on
    served.mapping("other", "127.0.0.1:9102", "")?;
    answers("other", 200, "two").await?;
    consul.restart().await?;
    until("the recovery", || async {
        ensure!(
            served.log()?.contains("Consul agent recovered"),
            "it is not logged"
        );
        Ok(())
    })
    .await?;
    let sent = load.finish().await?;
    ensure!(sent.requests > 20, "only {} requests", sent.requests);
    consul.register("web", "127.0.0.1:9102", true).await?;
    consul.deregister("web", "127.0.0.1:9101").await?;
    answers("web", 200, "two").await
}

pub(crate) async fn a_hung_agent_holds_up_nothing_else() -> Result<()> {
    const BOUND: Duration = Duration::from_secs(2);
    let west = Consul::start("dc1", WEST, json!({}), "").await?;
    let east = Consul::start("east", EAST, json!({}), "").await?;
    let _one = Backend::start("127.0.0.1:9101", "one").await?;
    let _two = Backend::start("127.0.0.1:9102", "two").await?;
    for agent in [&west, &east] {
        agent.register("web", "127.0.0.1:9101", true).await?;
    }
    let mut served = Served::new()?;
    served.write("resolver", &resolver("east", "${EAST}:8500", "east", ""))?;
    served.mapping("west", "web", ", resolver: consul")?;
    served.mapping("steady", "127.0.0.1:9101", "")?;
    served.start().await?;
    answers("west", 200, "one").await?;
    let load = Load::start(HTTP, "localhost", "/west/");
    west.pause();
    // other changes, and other agents
    let start = Instant::now();
    served.mapping("other", "127.0.0.1:9102", "")?;
    served.mapping("east", "web", ", resolver: east")?;
    answers("other", 200, "two").await?;
    answers("east", 200, "one").await?;
    east.register("web", "127.0.0.1:9102", true).await?;
    east.deregister("web", "127.0.0.1:9101").await?;
    answers("east", 200, "two").await?;
    let took = start.elapsed();
    eprintln!("changes took {took:?}");
    ensure!(took < BOUND, "changes took {took:?}");
    // a new service of the hung agent is not served from elsewhere meanwhile, and then not at all
    served.mapping("new", "web2", ", resolver: consul")?;
    answers("new", 503, "").await?;
    load.finish().await?;
    // a start without an answer: only the services of this agent are missing
    let start = Instant::now();
    served.start().await?;
    answers("steady", 200, "one").await?;
    answers("east", 200, "two").await?;
    let took = start.elapsed();
    eprintln!("a start took {took:?}");
    ensure!(took < Duration::from_secs(12), "a start took {took:?}");
    answers("west", 503, "").await?;
    west.resume();
    answers("west", 200, "one").await
}

/// An EndpointSlice of two of three addresses: the one with this number is ready, and the next one terminates.
fn slice(first: usize) -> String {
    let endpoint = |number: usize, conditions: &str| {
        let last = number % 3 + 1;
        format!("{{addresses: [127.0.7.{last}], conditions: {{{conditions}}}}}")
    };
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: pods-1, labels: {{kubernetes.io/service-name: pods}}}}\naddressType: IPv4\nports: [{{name: http, port: 8000}}]\nendpoints: [{}, {}]\n",
        endpoint(first, "ready: true"),
        endpoint(first + 1, "ready: false, serving: true, terminating: true")
    )
}

pub(crate) async fn churn_of_endpoints_loses_no_request() -> Result<()> {
    const ROUNDS: usize = 40;
    let consul = Consul::start("dc1", WEST, json!({}), "").await?;
    let addresses: Vec<String> = (1..=3).map(|last| format!("127.0.7.{last}:8000")).collect();
    let mut backends = Vec::new();
    for address in &addresses {
        backends.push(Backend::start(address, "pod").await?);
    }
    consul.register("web", &addresses[0], true).await?;
    let mut served = Served::new()?;
    served.write("service", &crate::fixture::service("pods", "10.96.7.1"))?;
    served.write("slice", &slice(0))?;
    served.mapping("pods", "pods", ", resolver: endpoint")?;
    served.mapping("web", "web", ", resolver: consul")?;
    served.start().await?;
    answers("pods", 200, "pod").await?;
    answers("web", 200, "pod").await?;
    let loads = ["/pods/", "/web/"].map(|path| {
        (
            Load::start(HTTP, "localhost", path),
            Load::start_connections(HTTP, "localhost", path),
        )
    });
    for round in 1..=ROUNDS {
        served.write("slice", &slice(round))?;
        consul.register("web", &addresses[round % 3], true).await?;
        consul
            .register("web", &addresses[(round + 1) % 3], true)
            .await?;
        consul
            .deregister("web", &addresses[(round + 2) % 3])
            .await?;
        // a canary that comes and goes gets requests once its addresses are known
        if round % 2 == 0 {
            let service = format!("canary-{round}");
            consul.register(&service, &addresses[0], true).await?;
            let more = ", resolver: consul, weight: 50";
            let canary = mapping("canary", "'*'", "/web/", &service, more);
            served.write("canary", &canary)?;
        } else if round > 1 {
            fs::remove_file(served.directory.path().join("canary.yaml"))?;
        }
        let all: Vec<u64> = backends.iter().map(Backend::requests).collect();
        until("requests in this round", || async {
            let now = backends.iter().map(Backend::requests);
            let more: u64 = now.zip(&all).map(|(now, before)| now - before).sum();
            ensure!(more > 20, "only {more}");
            Ok(())
        })
        .await?;
    }
    for (one, other) in loads {
        one.finish().await?;
        other.finish().await?;
    }
    for backend in &backends {
        ensure!(
            backend.requests() > 50,
            "a backend got {} requests",
            backend.requests()
        );
    }
    Ok(())
}

pub(crate) async fn a_resolver_reports_what_its_agent_lacks(space: &mut Space) -> Result<()> {
    const TOKEN: &str = "5ec7e700-0000-4000-8000-000000000002";
    const HOST: &str = "consul.example";
    let space = &*space;
    let consul = Consul::start("dc1", WEST, json!({"acl": acl(TOKEN)}), TOKEN).await?;
    let _one = Backend::start("127.0.0.1:9171", "one").await?;
    consul.register("web", "127.0.0.1:9171", true).await?;
    let resolver_has =
        |kind, status, text| condition(space, "consulresolver/agent", kind, status, text);
    let mapping_has =
        |status, text| condition(space, "mapping/consul", "ResolvedRefs", status, text);
    let apply = |text: String| space.apply(&text);
    let token = |text: &str| {
        secret(
            &space.namespace,
            "consul-token",
            "Opaque",
            &[("token", text)],
        )
    };
    apply(host("consul", HOST, ""))?;
    apply(mapping("consul", HOST, "/", "web", ", resolver: agent"))?;
    apply(object(
        "ConsulResolver",
        "agent",
        "address: '127.0.71.1:8500'",
    ))?;
    resolver_has("Accepted", "False", "datacenter is missing").await?;
    space.answers(HOST, "/", 503, "").await?;
    mapping_has("False", "InvalidResolver").await?;
    apply(resolver(
        "agent",
        &consul.http,
        "dc1",
        ", token_secret: consul-token",
    ))?;
    resolver_has("Accepted", "True", "").await?;
    resolver_has("ResolvedRefs", "False", "SecretNotFound").await?;
    apply(token("5ec7e700-0000-4000-8000-00000000dead"))?;
    resolver_has("ResolvedRefs", "False", "ACL not found").await?;
    mapping_has("False", "ConsulUnavailable").await?;
    space.answers(HOST, "/", 503, "").await?;
    apply(token(TOKEN))?;
    space.answers(HOST, "/", 200, "one").await?;
    resolver_has("ResolvedRefs", "True", "").await?;
    mapping_has("True", "").await?;
    consul.register("web", "127.0.0.1:9171", false).await?;
    mapping_has("False", "no passing instance").await
}
