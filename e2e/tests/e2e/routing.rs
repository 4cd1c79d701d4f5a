//! What is applied reaches traffic.

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::Authority,
    client::{get, get_tls},
    gateway::Envoy,
    wait::until,
};

use crate::{
    Space,
    fixture::{endpoints, host, mapping, service},
    status::programmed,
};

/// Metric: number of resources sent to Envoys.
const SENT: &str = "nuncio_xds_response_resources_total";

pub(crate) async fn what_is_applied_edited_and_deleted_reaches_traffic(
    space: &Space,
) -> Result<()> {
    let _one = Backend::start("10.96.1.1:80", "one").await?;
    let _two = Backend::start("10.96.1.2:80", "two").await?;
    let manifests = [
        service("routing-one", "10.96.1.1"),
        service("routing-two", "10.96.1.2"),
        host("routing", "routing.example", ""),
        mapping("routing", "routing.example", "/a/", "routing-one", ""),
    ];
    space.apply(&manifests.concat())?;
    space
        .answers("routing.example", "/a/x", 200, "one GET /x")
        .await?;
    space.answers("routing.example", "/b/", 404, "").await?;
    space.answers("elsewhere.example", "/a/", 404, "").await?;
    space.apply(&mapping(
        "routing",
        "routing.example",
        "/a/",
        "routing-two",
        ", rewrite: /r/",
    ))?;
    space
        .answers("routing.example", "/a/x", 200, "two GET /r/x")
        .await?;
    space.delete("mapping/routing")?;
    space.answers("routing.example", "/a/x", 404, "").await
}

pub(crate) async fn endpoints_of_a_service_are_followed(space: &Space) -> Result<()> {
    let _one = Backend::start("10.244.2.1:8000", "one").await?;
    let _two = Backend::start("10.244.2.2:8000", "two").await?;
    let manifests = [
        service("pods", "10.96.2.1"),
        endpoints("pods", &["10.244.2.1"]),
        host("pods", "pods.example", ""),
        mapping("pods", "pods.example", "/", "pods", ", resolver: endpoint"),
    ];
    space.apply(&manifests.concat())?;
    space.answers("pods.example", "/", 200, "one").await?;
    // once all objects are programmed, no other update is pending
    for object in [
        "listener/http",
        "listener/https",
        "host/pods",
        "mapping/pods",
    ] {
        programmed(space, object).await?;
    }
    let before = space.gateway.replica.metric(SENT).await?;
    space.apply(&endpoints("pods", &["10.244.2.2"]))?;
    space.answers("pods.example", "/", 200, "two").await?;
    let sent = space.gateway.replica.metric(SENT).await? - before;
    ensure!(
        (sent - 1.0).abs() < 0.1,
        "a change of endpoints sent {sent} resources"
    );
    space.apply(&endpoints("pods", &[]))?;
    space.answers("pods.example", "/", 503, "").await
}

pub(crate) async fn tls_is_served_and_certificates_rotate(space: &Space) -> Result<()> {
    let _one = Backend::start("10.96.3.1:80", "one").await?;
    let (first, second) = (Authority::new()?, Authority::new()?);
    let manifests = [
        service("tls", "10.96.3.1"),
        first.issue(&["tls.example"])?.secret(&space.namespace, "tls"),
        "apiVersion: getambassador.io/v3alpha1\nkind: Host\nmetadata: {name: tls}\nspec: {hostname: tls.example, tlsSecret: {name: tls}}\n---\n".to_owned(),
        mapping("tls", "tls.example", "/", "tls", ""),
    ];
    space.apply(&manifests.concat())?;
    until("TLS", || async {
        let answer = get_tls(&space.https(), "tls.example", "/x", &first.der()).await?;
        ensure!(
            answer.status == 200 && answer.body == "one GET /x",
            "{answer:?}"
        );
        Ok(())
    })
    .await?;
    until("the redirect", || async {
        let redirect = get(&space.http(), "tls.example", "/x").await?;
        let location = redirect.headers.get("location").map(String::as_str);
        ensure!(
            redirect.status == 301 && location == Some("https://tls.example/x"),
            "{redirect:?}"
        );
        Ok(())
    })
    .await?;
    ensure!(
        get_tls(&space.https(), "other.example", "/", &first.der())
            .await
            .is_err(),
        "an unknown name is served"
    );
    let listeners = space
        .gateway
        .envoy
        .statistic("listener_manager.listener_modified")
        .await?;
    space.apply(
        &second
            .issue(&["tls.example"])?
            .secret(&space.namespace, "tls"),
    )?;
    until("the new certificate", || async {
        get_tls(&space.https(), "tls.example", "/", &second.der())
            .await
            .map(drop)
    })
    .await?;
    let modified = space
        .gateway
        .envoy
        .statistic("listener_manager.listener_modified")
        .await?;
    ensure!(modified == listeners, "a rotation changed a listener");
    Ok(())
}

pub(crate) async fn weights_share_requests(space: &Space) -> Result<()> {
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
    space.apply(&manifests.concat())?;
    space.answers("weights.example", "/", 200, "").await?;
    until("the canary", || async {
        get(&space.http(), "weights.example", "/").await?;
        ensure!(canary.requests() > 0, "it gets no requests");
        Ok(())
    })
    .await?;
    let before = (stable.requests(), canary.requests());
    for _ in 0..1000 {
        get(&space.http(), "weights.example", "/").await?;
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
    space: &mut Space,
) -> Result<()> {
    let _one = Backend::start("10.96.4.3:80", "one").await?;
    let instance = &space.gateway.instance;
    let other = Envoy::start(
        &instance.name("envoy", 1),
        &instance.xds(0),
        &instance.admin(1),
        "sotw",
    )?;
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
    space.apply(&manifests.concat())?;
    space.answers("both.example", "/a/", 200, "one").await?;
    same_configuration(&space.gateway.envoy, &other, "/gone/").await?;
    space.delete("mapping/gone")?;
    space.apply(
        &[
            endpoints("both", &["10.244.4.4"]),
            mapping("both", "both.example", "/b/", "both", ""),
        ]
        .concat(),
    )?;
    same_configuration(&space.gateway.envoy, &other, "/b/").await?;
    let configuration = other.configuration().await?;
    let routes = configuration["dynamic_route_configs"].concat();
    ensure!(
        !routes.contains("/gone/"),
        "a deleted route is still served"
    );
    // both listen on the same port: with the first gone all requests go to the second
    space.own_gateway()?.envoy.process.kill();
    for _ in 0..20 {
        space.answers("both.example", "/b/", 200, "one").await?;
    }
    Ok(())
}

/// Waits until both have the same configuration, which contains `text`, and checks that neither has rejected an update.
async fn same_configuration(one: &Envoy, other: &Envoy, text: &str) -> Result<()> {
    until(text, || async {
        let (one, other) = (one.configuration().await?, other.configuration().await?);
        let routes = one["dynamic_route_configs"].concat();
        ensure!(routes.contains(text), "missing in the route tables");
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
        ensure!(rejected == 0, "{rejected} updates were rejected");
    }
    Ok(())
}
