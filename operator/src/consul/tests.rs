use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use nuncio_core::reconcile::Token;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle, time::timeout};

use super::*;

/// An agent as far as this crate uses one.
#[derive(Clone, Default)]
struct Fake(Arc<Inner>);

#[derive(Default)]
struct Inner {
    answer: Mutex<Answer>,
    changed: Notify,
    queries: Mutex<Vec<(String, HeaderMap)>>,
    is_silent: AtomicBool,
}

#[derive(Clone)]
struct Answer {
    index: u64,
    status: StatusCode,
    body: String,
    is_filtered: bool,
}

impl Default for Answer {
    fn default() -> Self {
        Self {
            index: 10,
            status: StatusCode::OK,
            body: instances(&[]),
            is_filtered: false,
        }
    }
}

/// An answer with these instances: address of the node, address of the service, port.
fn instances(all: &[(&str, &str, u16)]) -> String {
    let instance = |(node, service, port): &(&str, &str, u16)| json!({"Node": {"Node": "n", "Address": node}, "Service": {"Service": "s", "Address": service, "Port": port}, "Checks": []});
    Value::Array(all.iter().map(instance).collect()).to_string()
}

impl Fake {
    fn set(&self, change: impl FnOnce(&mut Answer)) {
        change(&mut self.0.answer.lock().unwrap());
        self.0.changed.notify_waiters();
    }

    fn instances(&self, index: u64, all: &[(&str, &str, u16)]) {
        self.set(|answer| {
            answer.index = index;
            answer.body = instances(all);
        });
    }

    fn queries(&self) -> Vec<(String, HeaderMap)> {
        self.0
            .queries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Serves on this address.
    async fn serve(&self, address: &str) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let router = Router::new()
            .route("/v1/health/service/{name}", axum::routing::get(health))
            .with_state(self.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper_util::service::TowerToHyperService::new(router.clone());
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service),
                );
            }
        });
        (address, task)
    }
}

async fn health(
    State(fake): State<Fake>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let queries = || {
        fake.0
            .queries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    };
    queries().push((format!("{name}?{query}"), headers));
    if fake.0.is_silent.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
    let index = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("index="));
    loop {
        let changed = fake.0.changed.notified();
        let answer = fake.0.answer.lock().unwrap().clone();
        if index != Some(&answer.index.to_string()) {
            let mut headers = vec![("x-consul-index", answer.index.to_string())];
            if answer.is_filtered {
                headers.push(("x-consul-results-filtered-by-acls", "true".to_owned()));
            }
            let mut response = (answer.status, answer.body).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            return response;
        }
        changed.await;
    }
}

/// The loop, with what it is told and what it tells.
struct World {
    wanted: watch::Sender<WantedConsul>,
    changes: mpsc::Receiver<Batch>,
    /// The rest of the last batch: on a busy machine it can have several.
    rest: VecDeque<Change>,
    metrics: Metrics,
    task: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn service(name: &str) -> ConsulService {
    ConsulService {
        resolver: None,
        datacenter: "dc1".into(),
        name: name.into(),
    }
}

fn agent(address: &str) -> Agent {
    Agent {
        address: Some(address.into()),
        ..Agent::default()
    }
}

fn wanted(name: &str, agent: Agent) -> WantedConsul {
    [(service(name), Some(agent.into()))].into()
}

impl World {
    fn new(wanted: WantedConsul, environment: Environment) -> Self {
        let (wanted, receiver) = watch::channel(wanted);
        let (sender, changes) = mpsc::channel(8);
        let metrics = Metrics::default();
        let task = tokio::spawn(follow(
            receiver,
            sender.into(),
            environment,
            metrics.clone(),
        ));
        Self {
            wanted,
            changes,
            rest: VecDeque::new(),
            metrics,
            task,
        }
    }

    fn of(address: &str) -> Self {
        Self::new(wanted("web", agent(address)), Environment::default())
    }

    /// The services that are watched, and those that fail.
    fn counts(&self) -> (i64, i64) {
        let metrics = &self.metrics;
        (metrics.consul_services.get(), metrics.consul_failing.get())
    }

    /// The next change.
    async fn change(&mut self) -> (ConsulService, Option<ConsulState>) {
        if self.rest.is_empty() {
            let next = timeout(Duration::from_secs(20), self.changes.recv());
            let batch = next.await.expect("a change in time").expect("a change");
            self.rest = batch.changes.into();
        }
        match self.rest.pop_front() {
            Some(Change::Consul(service, state)) => (service, state),
            other => panic!("{other:?}"),
        }
    }

    /// The next state: addresses, and the problem.
    async fn state(&mut self) -> (Vec<String>, Option<String>) {
        let (_, state) = self.change().await;
        let state = state.expect("a state");
        let addresses = state.addresses.iter().map(ToString::to_string);
        (addresses.collect(), state.problem)
    }
}

fn addresses(all: &[&str]) -> (Vec<String>, Option<String>) {
    (all.iter().map(|&text| text.to_owned()).collect(), None)
}

mod hostile;

#[tokio::test]
async fn changes_of_a_service_are_followed() {
    let fake = Fake::default();
    fake.instances(10, &[("10.0.0.9", "10.0.0.2", 80), ("10.0.0.1", "", 81)]);
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let mut world = World::of(&address);
    // the address of the node is used for a service without one
    assert_eq!(
        world.state().await,
        addresses(&["10.0.0.1:81", "10.0.0.2:80"])
    );
    // neither is usable: one without a port, one without an address
    fake.instances(11, &[("10.0.0.1", "", 0), ("", "", 80)]);
    assert_eq!(world.state().await, addresses(&[]));
    fake.instances(
        12,
        &[("10.0.0.9", "fd00::1", 80), ("10.0.0.9", "localhost", 80)],
    );
    let (all, problem) = world.state().await;
    assert_eq!(
        (all, problem),
        addresses(&["[fd00::1]:80"]),
        "what needs no DNS comes first"
    );
    let (all, _) = world.state().await;
    assert!(all.contains(&"127.0.0.1:80".to_owned()), "{all:?}");
    let queries = fake.queries();
    assert_eq!(queries[0].0, "web?passing=true&dc=dc1");
    assert_eq!(
        queries[1].0,
        "web?passing=true&dc=dc1&index=10&wait=30000ms"
    );
}

#[tokio::test]
async fn the_last_addresses_stay_while_the_agent_is_away() {
    let fake = Fake::default();
    fake.instances(10, &[("10.0.0.1", "", 80)]);
    let (address, server) = fake.serve("127.0.0.1:0").await;
    let mut world = World::of(&address);
    assert_eq!(world.state().await, addresses(&["10.0.0.1:80"]));
    server.abort();
    let _ = server.await;
    // the agent ends the query that is under way, and refuses others
    fake.set(|answer| {
        answer.status = StatusCode::INTERNAL_SERVER_ERROR;
        answer.body = "rpc error making call: token 5ecre7".to_owned();
    });
    fake.set(|answer| answer.index = 9);
    let (all, problem) = world.state().await;
    assert_eq!(all, ["10.0.0.1:80"]);
    let problem = problem.unwrap();
    assert_eq!(
        problem,
        format!("Consul agent at {address}: HTTP 500: rpc error")
    );
    let (all, problem) = world.state().await;
    assert_eq!(all, ["10.0.0.1:80"]);
    assert!(problem.unwrap().contains("refused"));
    assert_eq!(world.counts(), (1, 1));
    // it comes back and counts from the start
    fake.set(|answer| {
        *answer = Answer {
            index: 2,
            body: instances(&[("10.0.0.2", "", 80)]),
            ..Answer::default()
        }
    });
    let before = fake.queries().len();
    let (_, _server) = fake.serve(&address).await;
    assert_eq!(world.state().await, addresses(&["10.0.0.2:80"]));
    assert_eq!(fake.queries()[before].0, "web?passing=true&dc=dc1");
    assert_eq!(world.counts(), (1, 0));
}

#[tokio::test]
async fn an_index_that_goes_backwards_starts_anew() {
    let fake = Fake::default();
    fake.instances(10, &[("10.0.0.1", "", 80)]);
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let mut world = World::of(&address);
    assert_eq!(world.state().await, addresses(&["10.0.0.1:80"]));
    fake.instances(5, &[("10.0.0.2", "", 80)]);
    assert_eq!(world.state().await, addresses(&["10.0.0.2:80"]));
    // an index of 0 would never block
    fake.instances(0, &[("10.0.0.3", "", 80)]);
    assert_eq!(world.state().await, addresses(&["10.0.0.3:80"]));
    tokio::time::sleep(Duration::from_millis(500)).await;
    let queries = fake.queries();
    let indexes: Vec<&str> = queries
        .iter()
        .map(|(query, _)| {
            query
                .split("index=")
                .nth(1)
                .unwrap_or("0&")
                .split('&')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(indexes[..3], ["0", "10", "0"]);
    assert!(indexes.len() < 20, "queries are slowed down: {indexes:?}");
}

#[tokio::test]
async fn a_silent_agent_is_waited_for_with_patience() {
    let fake = Fake::default();
    fake.0.is_silent.store(true, Ordering::Relaxed);
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let started = Instant::now();
    let mut world = World::of(&address);
    let (all, problem) = world.state().await;
    assert!(started.elapsed() < PATIENCE + Duration::from_secs(2));
    assert!(all.is_empty());
    assert_eq!(
        problem.unwrap(),
        format!("Consul agent at {address}: no answer within 3 s")
    );
    // an agent that is reached meanwhile is not held up by it
    let other = Fake::default();
    other.instances(1, &[("10.0.0.1", "", 80)]);
    let (address, _server) = other.serve("127.0.0.1:0").await;
    world.wanted.send_modify(|wanted| {
        wanted.insert(service("other"), Some(agent(&address).into()));
    });
    let (name, state) = timeout(Duration::from_secs(2), world.change())
        .await
        .unwrap();
    assert_eq!(
        (name, state.unwrap().addresses.len()),
        (service("other"), 1)
    );
}

#[tokio::test]
async fn a_service_is_followed_as_long_as_it_is_wanted() {
    let fake = Fake::default();
    fake.instances(10, &[("10.0.0.1", "", 80)]);
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let mut world = World::of(&address);
    world.state().await;
    // what is known stays while the agent must not be queried, and while another agent answers
    world
        .wanted
        .send_modify(|wanted| *wanted = [(service("web"), None)].into());
    let quiet = timeout(Duration::from_millis(300), world.changes.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let other = Fake::default();
    other.instances(1, &[("10.0.0.2", "", 80)]);
    let (address, _server) = other.serve("127.0.0.1:0").await;
    world.wanted.send_replace(wanted("web", agent(&address)));
    assert_eq!(world.state().await, addresses(&["10.0.0.2:80"]));
    fake.instances(11, &[("10.0.0.3", "", 80)]);
    world.wanted.send_replace(WantedConsul::new());
    assert_eq!(world.change().await, (service("web"), None));
    let queries = other.queries().len();
    other.instances(2, &[]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(other.queries().len(), queries);
}

#[tokio::test]
async fn the_token_is_sent_and_never_shown() {
    let fake = Fake::default();
    fake.set(|answer| {
        answer.is_filtered = true;
        answer.status = StatusCode::OK;
    });
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let secret = "5ecre7";
    let agent = Agent {
        token: Some(Token(secret.into())),
        ..agent(&address)
    };
    assert!(!format!("{agent:?}").contains(secret));
    let mut world = World::new(wanted("web", agent), Environment::default());
    let (_, problem) = world.state().await;
    let problem = problem.unwrap();
    assert!(
        problem.ends_with("the token lacks a permission: service:read and node:read are needed"),
        "{problem}"
    );
    assert!(!problem.contains(secret));
    assert_eq!(fake.queries()[0].1["x-consul-token"], secret);
}

#[tokio::test]
async fn the_environment_says_what_a_resolver_does_not() {
    let fake = Fake::default();
    fake.instances(10, &[("10.0.0.1", "", 80)]);
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "fr0mf1le\n").unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let variables = [
        ("HOST", host),
        ("CONSUL_HTTP_ADDR", &format!("http://${{HOST}}:{port}")),
        ("CONSUL_HTTP_TOKEN", "fr0mv4r1able"),
        ("CONSUL_HTTP_TOKEN_FILE", file.to_str().unwrap()),
        ("CONSUL_HTTP_AUTH", "user:word"),
        ("CONSUL_NAMESPACE", "team a"),
        ("CONSUL_PARTITION", "p"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let environment: Environment = variables.into_iter().collect();
    assert!(!format!("{environment:?}").contains("fr0m"));
    let mut world = World::new(wanted("web", Agent::default()), environment);
    assert_eq!(world.state().await, addresses(&["10.0.0.1:80"]));
    let (query, headers) = fake.queries()[0].clone();
    assert_eq!(query, "web?passing=true&dc=dc1&ns=team%20a&partition=p");
    assert_eq!(headers["x-consul-token"], "fr0mf1le");
    assert_eq!(headers["authorization"], "Basic dXNlcjp3b3Jk");
}

#[tokio::test]
async fn what_is_no_agent_is_reported_without_its_text() {
    let fake = Fake::default();
    let (address, _server) = fake.serve("127.0.0.1:0").await;
    let cases: [(StatusCode, &str, &str); 3] = [
        (
            StatusCode::OK,
            "<html>private</html>",
            "is it a Consul agent?",
        ),
        (StatusCode::FORBIDDEN, "private", "HTTP 403"),
        (
            StatusCode::FORBIDDEN,
            "private: ACL not found",
            "HTTP 403: ACL not found",
        ),
    ];
    for (status, body, expected) in cases {
        fake.set(|answer| {
            answer.status = status;
            answer.body = body.to_owned();
        });
        let mut world = World::of(&address);
        let (_, problem) = world.state().await;
        let problem = problem.unwrap();
        assert!(
            problem.ends_with(expected) && !problem.contains("private"),
            "{problem}"
        );
    }
    let variables = [("SECRET".to_owned(), "a b".to_owned())];
    let environment = variables.into_iter().collect();
    let mut world = World::new(wanted("web", agent("$SECRET:8500")), environment);
    let (_, problem) = world.state().await;
    assert_eq!(
        problem.unwrap(),
        "Consul agent at $SECRET:8500: invalid address once its variables are replaced: the host must be a DNS name or an IP address"
    );
}
