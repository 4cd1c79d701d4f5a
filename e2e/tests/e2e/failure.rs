//! Backends that fail, are slow or overloaded: retries, timeouts, limits, copies and balancing under real traffic.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, wait::until};
use nuncio_kat::server::{HealthCheck, Http, Listen, Server};
use serde_json::json;

use crate::{
    Space,
    answer::{CONNECTIONS, answered, ask, ask_all, backend, query},
    fixture::{endpoints, host, mapping, service},
};

pub(crate) async fn failures_are_retried_and_slowness_ends(space: &Space) -> Result<()> {
    let listen = Listen::on("10.96.23.1:80");
    let _server = Server::start(&listen, Http::new("slow").router()).await?;
    let _other = Server::start(
        &Listen::on("10.96.23.2:80"),
        HealthCheck::new("counted", 200, 500).router(),
    )
    .await?;
    let manifests = [
        service("failure", "10.96.23.1"),
        host("failure", "failure.example", ""),
        mapping(
            "failure-short",
            "failure.example",
            "/short/",
            "failure",
            ", timeout_ms: 300",
        ),
        mapping(
            "failure-long",
            "failure.example",
            "/long/",
            "failure",
            ", timeout_ms: 0",
        ),
        mapping(
            "failure-tried",
            "failure.example",
            "/tried/",
            "failure",
            ", retry_policy: {retry_on: 5xx, num_retries: 2}",
        ),
        mapping(
            "failure-each",
            "failure.example",
            "/each/",
            "failure",
            ", timeout_ms: 5000, retry_policy: {retry_on: 5xx, num_retries: 1, per_try_timeout: 200ms}",
        ),
        mapping("failure-once", "failure.example", "/once/", "failure", ""),
    ];
    space.apply(&manifests.concat())?;
    answered(&query("failure.example", "/once/", &[]), 200).await?;
    let delay = [("Kat-Req-Http-Requested-Backend-Delay", "1000")];
    let answer = ask(query("failure.example", "/short/", &delay)).await?;
    ensure!(answer["status"] == 504, "{answer}");
    let answer = ask(query("failure.example", "/long/", &delay)).await?;
    ensure!(answer["status"] == 200, "{answer}");
    let answer = ask(query("failure.example", "/each/", &delay)).await?;
    ensure!(answer["status"] == 504, "{answer}");

    let cluster = format!("failure_{}_80", space.namespace.replace('-', "_"));
    let total = format!("cluster.{cluster}.upstream_rq_total");
    let requests = || space.gateway.envoy.statistic(&total);
    let failing = [("Kat-Req-Http-Requested-Status", "500")];
    let before = requests().await?;
    ask(query("failure.example", "/tried/", &failing)).await?;
    let tried = requests().await? - before;
    ensure!(tried == 3, "a request that fails is tried {tried} times");
    let before = requests().await?;
    ask(query("failure.example", "/once/", &failing)).await?;
    let tried = requests().await? - before;
    ensure!(
        tried == 1,
        "without a retry policy it is tried {tried} times"
    );
    Ok(())
}

pub(crate) async fn a_shadow_sees_copies(space: &Space) -> Result<()> {
    let main = Backend::start("10.96.23.11:80", "main").await?;
    let copy = Backend::start("10.96.23.12:80", "copy").await?;
    let part = Backend::start("10.96.23.13:80", "part").await?;
    let manifests = [
        host("shadow", "shadow.example", ""),
        mapping("shadow-main", "shadow.example", "/all/", "10.96.23.11", ""),
        mapping(
            "shadow-copy",
            "shadow.example",
            "/all/",
            "10.96.23.12",
            ", shadow: true",
        ),
        mapping(
            "shadow-main-2",
            "shadow.example",
            "/part/",
            "10.96.23.11",
            "",
        ),
        mapping(
            "shadow-part",
            "shadow.example",
            "/part/",
            "10.96.23.13",
            ", shadow: true, weight: 20",
        ),
    ];
    space.apply(&manifests.concat())?;
    answered(&query("shadow.example", "/part/", &[]), 200).await?;
    until("the shadow that was applied last", || async {
        ask_all(vec![query("shadow.example", "/part/", &[]); CONNECTIONS]).await?;
        ensure!(part.requests() > 0, "it gets no copies");
        Ok(())
    })
    .await?;
    let before = (main.requests(), copy.requests());
    for _ in 0..20 {
        let answer = ask(query("shadow.example", "/all/", &[])).await?;
        ensure!(
            answer["text"]
                .as_str()
                .is_some_and(|text| text.starts_with("main")),
            "{answer}"
        );
    }
    until("the copies", || async {
        let (main, copy) = (main.requests() - before.0, copy.requests() - before.1);
        ensure!((main, copy) == (20, 20), "{main} requests, {copy} copies");
        Ok(())
    })
    .await?;
    let before = part.requests();
    for _ in 0..400 {
        ask(query("shadow.example", "/part/", &[])).await?;
    }
    // 400 draws of 20 %: 80 expected, standard deviation 8; five of these are a false alarm in two million runs
    until("some copies", || async {
        let copies = part.requests() - before;
        ensure!(
            (40..=120).contains(&copies),
            "{copies} of 400 requests were copied, 80 were expected"
        );
        Ok(())
    })
    .await
}

pub(crate) async fn a_hash_keeps_a_client_with_its_backend(space: &Space) -> Result<()> {
    let mut servers = Vec::new();
    let addresses: Vec<String> = (1..=4)
        .map(|number| format!("10.244.24.{number}"))
        .collect();
    for address in &addresses {
        let listen = Listen::on(format!("{address}:8000"));
        servers.push(Server::start(&listen, Http::new(address.as_str()).router()).await?);
    }
    let named: Vec<&str> = addresses.iter().map(String::as_str).collect();
    let manifests = [
        service("hashed", "10.96.24.1"),
        endpoints("hashed", &named),
        host("hashed", "hashed.example", ""),
        mapping(
            "hashed-header",
            "hashed.example",
            "/header/",
            "hashed",
            ", resolver: endpoint, load_balancer: {policy: ring_hash, header: x-user}",
        ),
        mapping(
            "hashed-cookie",
            "hashed.example",
            "/cookie/",
            "hashed",
            ", resolver: endpoint, load_balancer: {policy: maglev, cookie: {name: stick, ttl: 60s, path: /}}",
        ),
        mapping(
            "hashed-source",
            "hashed.example",
            "/source/",
            "hashed",
            ", resolver: endpoint, load_balancer: {policy: ring_hash, source_ip: true}",
        ),
        mapping(
            "hashed-turns",
            "hashed.example",
            "/turns/",
            "hashed",
            ", resolver: endpoint, load_balancer: {policy: round_robin}",
        ),
        mapping(
            "hashed-least",
            "hashed.example",
            "/least/",
            "hashed",
            ", resolver: endpoint, load_balancer: {policy: least_request}",
        ),
    ];
    space.apply(&manifests.concat())?;
    answered(&query("hashed.example", "/least/", &[]), 200).await?;
    a_header_keeps_a_user().await?;
    a_cookie_keeps_a_client().await?;
    for (path, expected) in [("/source/", 1), ("/turns/", 4)] {
        let mut reached = BTreeSet::new();
        for _ in 0..40 {
            let answer = ask(query("hashed.example", path, &[])).await?;
            reached.insert(backend(&answer).to_owned());
        }
        ensure!(reached.len() == expected, "{path} reached {reached:?}");
    }
    Ok(())
}

async fn a_header_keeps_a_user() -> Result<()> {
    let mut reached = BTreeSet::new();
    for user in 0..40 {
        let user = user.to_string();
        let mut backends = BTreeSet::new();
        for _ in 0..3 {
            let answer = ask(query("hashed.example", "/header/", &[("x-user", &user)])).await?;
            backends.insert(backend(&answer).to_owned());
        }
        ensure!(backends.len() == 1, "user {user} reached {backends:?}");
        reached.extend(backends);
    }
    ensure!(reached.len() > 1, "all users reached {reached:?}");
    Ok(())
}

async fn a_cookie_keeps_a_client() -> Result<()> {
    let answer = ask(query("hashed.example", "/cookie/", &[])).await?;
    let first = backend(&answer).to_owned();
    let cookie = answer["headers"]["Set-Cookie"][0]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    ensure!(cookie.starts_with("stick="), "{answer}");
    let cookie = cookie.split(';').next().unwrap_or_default();
    for _ in 0..5 {
        let answer = ask(query("hashed.example", "/cookie/", &[("Cookie", cookie)])).await?;
        ensure!(
            backend(&answer) == first,
            "{cookie} reached {first}, then {answer}"
        );
    }
    Ok(())
}

pub(crate) async fn a_circuit_breaker_refuses_what_is_too_much(space: &Space) -> Result<()> {
    let _server = Server::start(&Listen::on("10.96.25.1:80"), Http::new("busy").router()).await?;
    let manifests = [
        host("busy", "busy.example", ""),
        mapping(
            "busy-limited",
            "busy.example",
            "/limited/",
            "10.96.25.1",
            ", circuit_breakers: [{max_connections: 1, max_pending_requests: 1}]",
        ),
        mapping(
            "busy-high",
            "busy.example",
            "/high/",
            "10.96.25.1",
            ", priority: high, circuit_breakers: [{max_connections: 1, max_pending_requests: 1}]",
        ),
        mapping("busy-free", "busy.example", "/free/", "10.96.25.1", ""),
    ];
    space.apply(&manifests.concat())?;
    answered(&query("busy.example", "/free/", &[]), 200).await?;
    let delay = [("Kat-Req-Http-Requested-Backend-Delay", "300")];
    for (path, is_limited) in [("/limited/", true), ("/free/", false), ("/high/", false)] {
        let answers = ask_all(vec![query("busy.example", path, &delay); 20]).await?;
        let rejected = answers
            .iter()
            .filter(|answer| answer["status"] == 503)
            .count();
        let served = answers
            .iter()
            .filter(|answer| answer["status"] == 200)
            .count();
        ensure!(rejected + served == 20, "{answers:?}");
        ensure!(
            (rejected > 10) == is_limited,
            "{rejected} of 20 requests to {path} got 503"
        );
        ensure!(served > 0, "no request to {path} is served");
    }
    Ok(())
}

pub(crate) async fn unhealthy_endpoints_are_left_out(space: &Space) -> Result<()> {
    let _good = Server::start(
        &Listen::on("10.244.26.1:8000"),
        HealthCheck::new("good", 200, 500).router(),
    )
    .await?;
    let _bad = Server::start(
        &Listen::on("10.244.26.2:8000"),
        HealthCheck::new("bad", 200, 500).router(),
    )
    .await?;
    let manifests = [
        service("checked", "10.96.26.1"),
        endpoints("checked", &["10.244.26.1", "10.244.26.2"]),
        host("checked", "checked.example", ""),
        mapping(
            "checked",
            "checked.example",
            "/",
            "checked",
            ", rewrite: '', resolver: endpoint, health_checks: [{interval: 200ms, timeout: 1s, unhealthy_threshold: 1, health_check: {http: {path: /healthz, expected_statuses: [{min: 200, max: 299}]}}}]",
        ),
    ];
    space.apply(&manifests.concat())?;
    until("both backends", || async {
        let mut reached = BTreeSet::new();
        for answer in ask_all(vec![query("checked.example", "/x", &[]); 20]).await? {
            reached.insert(backend(&answer).to_owned());
        }
        ensure!(
            reached == BTreeSet::from(["bad".to_owned(), "good".to_owned()]),
            "{reached:?}"
        );
        Ok(())
    })
    .await?;
    // this request makes one of the two unhealthy
    let answer = ask(json!({"url": "http://10.244.26.2:8000/makeUnhealthy/"})).await?;
    ensure!(backend(&answer) == "bad", "{answer}");
    until("the bad one to be left out", || async {
        for answer in ask_all(vec![query("checked.example", "/x", &[]); 20]).await? {
            ensure!(backend(&answer) == "good", "{answer}");
        }
        Ok(())
    })
    .await
}
