//! What is applied reaches traffic.

use std::time::Duration;

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::Authority,
    client::{get, get_tls},
    gateway::Envoy,
    gateway::xds_address,
    wait::until,
};

use tokio::time::sleep;

use crate::{
    World,
    fixture::{HTTP, HTTPS, endpoints, host, mapping, service},
};

/// How many resources Envoys were told.
const SENT: &str = "xds_response_resources_total";

/// Waits until a path is answered with this status and a body that begins so.
pub(crate) async fn answers(hostname: &str, path: &str, status: u16, body: &str) -> Result<()> {
    until(path, || async {
        let answer = get(HTTP, hostname, path).await?;
        ensure!(
            answer.status == status && answer.body.starts_with(body),
            "{} {:?}",
            answer.status,
            answer.body
        );
        Ok(())
    })
    .await
}

pub(crate) async fn what_is_applied_edited_and_deleted_reaches_traffic(
    world: &mut World,
) -> Result<()> {
    let _one = Backend::start("10.96.1.1:80", "one").await?;
    let _two = Backend::start("10.96.1.2:80", "two").await?;
    let manifests = [
        service("routing-one", "10.96.1.1"),
        service("routing-two", "10.96.1.2"),
        host("routing", "routing.example", ""),
        mapping("routing", "routing.example", "/a/", "routing-one", ""),
    ];
    world.plane.apply(&manifests.concat())?;
    answers("routing.example", "/a/x", 200, "one GET /x").await?;
    answers("routing.example", "/b/", 404, "").await?;
    answers("elsewhere.example", "/a/", 404, "").await?;
    world.plane.apply(&mapping(
        "routing",
        "routing.example",
        "/a/",
        "routing-two",
        ", rewrite: /r/",
    ))?;
    answers("routing.example", "/a/x", 200, "two GET /r/x").await?;
    world.plane.delete("default", "mapping/routing")?;
    answers("routing.example", "/a/x", 404, "").await
}

pub(crate) async fn endpoints_of_a_service_are_followed(world: &mut World) -> Result<()> {
    let _one = Backend::start("10.244.2.1:8000", "one").await?;
    let _two = Backend::start("10.244.2.2:8000", "two").await?;
    let manifests = [
        service("pods", "10.96.2.1"),
        endpoints("pods", &["10.244.2.1"]),
        host("pods", "pods.example", ""),
        mapping("pods", "pods.example", "/", "pods", ", resolver: endpoint"),
    ];
    world.plane.apply(&manifests.concat())?;
    answers("pods.example", "/", 200, "one").await?;
    // what the tests before this one have left behind may still be on its way
    let before = until("Envoy to have everything", || async {
        let first = world.replica.metric(SENT).await?;
        sleep(Duration::from_millis(500)).await;
        let then = world.replica.metric(SENT).await?;
        ensure!((then - first).abs() < 0.1, "{then} resources after {first}");
        Ok(then)
    })
    .await?;
    world.plane.apply(&endpoints("pods", &["10.244.2.2"]))?;
    answers("pods.example", "/", 200, "two").await?;
    let sent = world.replica.metric(SENT).await? - before;
    ensure!(
        (sent - 1.0).abs() < 0.1,
        "a change of endpoints sent {sent} resources"
    );
    world.plane.apply(&endpoints("pods", &[]))?;
    answers("pods.example", "/", 503, "").await
}

pub(crate) async fn tls_is_served_and_certificates_rotate(world: &mut World) -> Result<()> {
    let _one = Backend::start("10.96.3.1:80", "one").await?;
    let (first, second) = (Authority::new()?, Authority::new()?);
    let manifests = [
        service("tls", "10.96.3.1"),
        first.issue(&["tls.example"])?.secret("default", "tls"),
        "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {name: tls, namespace: default}\nspec: {hostname: tls.example, tlsSecret: {name: tls}}\n---\n".to_owned(),
        mapping("tls", "tls.example", "/", "tls", ""),
    ];
    world.plane.apply(&manifests.concat())?;
    until("TLS", || async {
        let answer = get_tls(HTTPS, "tls.example", "/x", &first.der()).await?;
        ensure!(
            answer.status == 200 && answer.body == "one GET /x",
            "{answer:?}"
        );
        Ok(())
    })
    .await?;
    let redirect = get(HTTP, "tls.example", "/x").await?;
    ensure!(
        redirect.status == 301,
        "cleartext is answered with {}",
        redirect.status
    );
    ensure!(
        redirect
            .headers
            .get("location")
            .is_some_and(|to| to == "https://tls.example/x"),
        "{redirect:?}"
    );
    ensure!(
        get_tls(HTTPS, "other.example", "/", &first.der())
            .await
            .is_err(),
        "an unknown name is served"
    );
    let listeners = world
        .envoy
        .statistic("listener_manager.listener_modified")
        .await?;
    world
        .plane
        .apply(&second.issue(&["tls.example"])?.secret("default", "tls"))?;
    until("the new certificate", || async {
        get_tls(HTTPS, "tls.example", "/", &second.der())
            .await
            .map(drop)
    })
    .await?;
    let modified = world
        .envoy
        .statistic("listener_manager.listener_modified")
        .await?;
    ensure!(modified == listeners, "a rotation changed a listener");
    Ok(())
}

pub(crate) async fn weights_share_requests(world: &mut World) -> Result<()> {
    let stable = Backend::start("10.96.4.1:80", "stable").await?;
    let canary = Backend::start("10.96.4.2:80", "canary").await?;
    let manifests = [
        host("weights", "weights.example", ""),
        mapping("weights-stable", "weights.example", "/", "10.96.4.1", ""),
        mapping(
            "weights-canary",
            "weights.example",
            "/",
            "10.96.4.2",
            ", weight: 20",
        ),
    ];
    world.plane.apply(&manifests.concat())?;
    until("the canary", || async {
        get(HTTP, "weights.example", "/").await?;
        ensure!(canary.requests() > 0, "it gets nothing");
        Ok(())
    })
    .await?;
    let before = (stable.requests(), canary.requests());
    for _ in 0..1000 {
        get(HTTP, "weights.example", "/").await?;
    }
    let share = canary.requests() - before.1;
    ensure!(
        stable.requests() - before.0 + share == 1000,
        "requests went elsewhere"
    );
    // 20 % of 1,000 with six standard deviations to either side: fails by chance once in 500 million runs
    ensure!(
        (124..=276).contains(&share),
        "the canary got {share} of 1,000 requests"
    );
    Ok(())
}

pub(crate) async fn an_envoy_with_state_of_the_world_serves_the_same(
    world: &mut World,
) -> Result<()> {
    let _one = Backend::start("10.96.4.3:80", "one").await?;
    let other = Envoy::start("envoy-sotw", &xds_address(0), 8101, "sotw")?;
    other.ready().await?;
    let manifests = [
        host("both", "both.example", ""),
        service("both", "10.96.4.3"),
        endpoints("both", &["10.244.4.3"]),
        mapping("both", "both.example", "/a/", "both", ""),
        mapping("gone", "both.example", "/gone/", "both", ""),
        mapping(
            "both-pods",
            "both.example",
            "/pods/",
            "both",
            ", resolver: endpoint",
        ),
    ];
    world.plane.apply(&manifests.concat())?;
    answers("both.example", "/a/", 200, "one").await?;
    same_configuration(&world.envoy, &other, "/gone/").await?;
    world.plane.delete("default", "mapping/gone")?;
    world.plane.apply(
        &[
            endpoints("both", &["10.244.4.4"]),
            mapping("both", "both.example", "/b/", "both", ""),
        ]
        .concat(),
    )?;
    same_configuration(&world.envoy, &other, "/b/").await?;
    let told = other.configuration().await?;
    let routes = told["dynamic_route_configs"].concat();
    ensure!(
        !routes.contains("/gone/"),
        "what was deleted is still there"
    );
    // both listen on the same port: with the first gone all requests go to the second
    world.envoy.process.kill();
    for _ in 0..20 {
        answers("both.example", "/b/", 200, "one").await?;
    }
    world.envoy.restart()?;
    world.envoy.ready().await
}

/// Waits until both have been told the same, `text` included, and neither has refused anything.
async fn same_configuration(one: &Envoy, other: &Envoy, text: &str) -> Result<()> {
    until(text, || async {
        let (one, other) = (one.configuration().await?, other.configuration().await?);
        let routes = one["dynamic_route_configs"].concat();
        ensure!(routes.contains(text), "it is not there");
        for (section, resources) in &one {
            ensure!(
                *resources == other[section],
                "{section}: {resources:?} and {:?}",
                other[section]
            );
        }
        Ok(())
    })
    .await?;
    for envoy in [one, other] {
        let rejected = envoy.statistic("update_rejected").await?;
        ensure!(rejected == 0, "{rejected} updates were refused");
    }
    Ok(())
}
