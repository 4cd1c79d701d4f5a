//! Edits of objects.

use std::time::Duration;

use anyhow::{Result, ensure};
use nuncio_e2e::{
    client::{get, get_tls, open_tls},
    wait::until,
};
use tokio::time::sleep;

use super::{Form, apply};
use crate::{
    fixture::{host, mapping, object},
    installation::{HOST, Installation, TRAFFIC},
};

/// What the Mapping of traffic needs besides its prefix.
const TRAFFIC_MAPPING: &str =
    ", allow_upgrade: [websocket], timeout_ms: 30000, idle_timeout_ms: 30000";

/// Waits until a path of traffic answers with this status.
async fn answers(stage: &Installation, path: &str, status: u16) -> Result<()> {
    until(path, || async {
        let answer = get(&stage.target.http, HOST, path).await?;
        ensure!(answer.status == status, "status {}", answer.status);
        Ok(())
    })
    .await
}

/// Random edits of Mappings and Hosts, some of them invalid.
pub(super) async fn random(stage: &mut Installation, form: Form) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(10);
    for number in 0..form.choose(15, 500) {
        let name = format!("edit-{}", random.u32(0..20));
        let prefix = format!("/{}/", random.u32(0..10));
        let more = match random.u32(0..6) {
            0 => ", timeout_ms: 4000".to_owned(),
            1 => format!(", weight: {}", random.u32(1..100)),
            2 => ", headers: {x-version: two}".to_owned(),
            3 => ", regex_rewrite: {pattern: '(', substitution: x}".to_owned(),
            4 => ", add_response_headers: {x-edited: {value: 'yes'}}".to_owned(),
            _ => ", cors: {origins: ['https://a.example']}".to_owned(),
        };
        match random.u32(0..10) {
            0..5 => apply(stage, &mapping(&name, HOST, &prefix, "backend", &more))?,
            5 | 6 => apply(stage, &mapping(&name, "'*'", &prefix, "backend", &more))?,
            7 => apply(stage, &host(&name, &format!("{name}.example"), ""))?,
            kind => {
                let kind = if kind == 8 { "host" } else { "mapping" };
                let arguments = ["delete", "-n", TRAFFIC, kind, &name, "--ignore-not-found"];
                stage.plane.kubectl(&arguments, "")?;
            }
        }
        if number % 5 == 0 {
            // the route of traffic itself
            let more = format!(
                "{TRAFFIC_MAPPING}, add_response_headers: {{x-edit: {{value: '{number}'}}}}"
            );
            apply(
                stage,
                &mapping("traffic", HOST, "/traffic/", "backend", &more),
            )?;
        }
    }
    let last = format!("/last-{}/", random.u32(..));
    apply(stage, &mapping("last", HOST, &last, "backend", ""))?;
    answers(stage, &last, 200).await
}

/// The Host of traffic.
fn traffic_host(more: &str) -> String {
    object(
        "Host",
        "traffic",
        &format!(
            "hostname: {HOST}, tlsSecret: {{name: traffic}}, requestPolicy: {{insecure: {{action: Route}}}}{more}"
        ),
    )
}

const ALPN: &str = "alpn_protocols: 'h2,http/1.1'";

/// Edits of the Host of traffic, and other Hosts that come and go.
pub(super) async fn hosts(stage: &mut Installation, form: Form) -> Result<()> {
    for number in 0..form.choose(2, 20) {
        let other = format!("host-{number}.example");
        let edits = [
            traffic_host(&format!(", tls: {{{ALPN}, min_tls_version: v1.2}}")),
            host_of(&other),
            traffic_host(&format!(
                ", tls: {{{ALPN}}}, mappingSelector: {{matchLabels: {{}}}}"
            )),
            traffic_host(&format!(", tls: {{{ALPN}}}")),
        ];
        for edit in edits {
            apply(stage, &edit)?;
        }
        until("the other Host", || async {
            let answer = get(&stage.target.http, &other, "/anything/").await?;
            ensure!(answer.status == 404, "status {}", answer.status);
            Ok(())
        })
        .await?;
        stage
            .plane
            .delete(TRAFFIC, &format!("host/host-{number}"))?;
    }
    Ok(())
}

fn host_of(hostname: &str) -> String {
    let name = hostname.split('.').next().unwrap_or_default();
    crate::fixture::host(name, hostname, "")
}

/// Listeners that come and go, and edits of those of traffic.
pub(super) async fn listener(stage: &mut Installation, form: Form) -> Result<()> {
    let listener = |name: &str, port: u16, more: &str| {
        let spec = format!(
            "port: {port}, protocol: HTTP, securityModel: XFP, hostBinding: {{namespace: {{from: ALL}}}}{more}"
        );
        object("Listener", name, &spec)
    };
    for _ in 0..form.choose(2, 20) {
        apply(stage, &listener("extra", 8090, ""))?;
        apply(stage, &listener("extra", 8090, ", l7Depth: 1"))?;
        apply(stage, &listener("extra", 8091, ""))?;
        stage.plane.delete(TRAFFIC, "listener/extra")?;
        let patch = |depth: u32| format!("{{\"spec\": {{\"l7Depth\": {depth}}}}}");
        for depth in [1, 0] {
            for name in ["http", "https"] {
                let patch = patch(depth);
                stage.kubectl(&["patch", "listener", name, "--type=merge", "-p", &patch])?;
            }
        }
    }
    Ok(())
}

/// A TLSContext for the Host of traffic.
pub(super) async fn tls_context(stage: &mut Installation, form: Form) -> Result<()> {
    for number in 0..form.choose(2, 20) {
        let spec = format!("hosts: [{HOST}], secret: traffic, {ALPN}, min_tls_version: v1.2");
        apply(stage, &object("TLSContext", "traffic", &spec))?;
        apply(stage, &traffic_host(", tlsContext: {name: traffic}"))?;
        let spec = format!("{spec}, max_tls_version: v1.{}", 2 + number % 2);
        apply(stage, &object("TLSContext", "traffic", &spec))?;
        apply(stage, &traffic_host(&format!(", tls: {{{ALPN}}}")))?;
        stage.plane.delete(TRAFFIC, "tlscontext/traffic")?;
    }
    Ok(())
}

/// The certificate of traffic rotates.
pub(super) async fn certificate(stage: &mut Installation, form: Form) -> Result<()> {
    let Some((https, _)) = stage.target.https.clone() else {
        return Ok(());
    };
    for _ in 0..form.choose(3, 30) {
        let next = stage.authority.issue(&[HOST])?;
        apply(stage, &next.secret(TRAFFIC, "traffic"))?;
        let (next, authority) = (next.der()?, stage.authority.der());
        until("the next certificate", || async {
            let connection = open_tls(&https, HOST, &authority).await?;
            ensure!(
                connection.certificate().as_ref() == Some(&next),
                "an older one"
            );
            Ok(())
        })
        .await?;
        let answer = get_tls(&https, HOST, "/traffic/rotated", &authority).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
    }
    Ok(())
}

/// Routes the traffic in another way, and back.
async fn reroute(stage: &Installation, ways: &[&str], times: usize) -> Result<()> {
    let resolver = "apiVersion: getambassador.io/v3alpha1\nkind: KubernetesEndpointResolver\nmetadata: {name: endpoints}\n---\n";
    apply(stage, resolver)?;
    for _ in 0..times {
        for way in ways {
            let more = format!("{TRAFFIC_MAPPING}{way}");
            apply(
                stage,
                &mapping("traffic", HOST, "/traffic/", "backend", &more),
            )?;
            // its effect, before the next change
            sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

const BY_ENDPOINT: &str = ", resolver: endpoints, load_balancer: {policy: round_robin}";
const CHECKED: &str = ", resolver: endpoints, load_balancer: {policy: round_robin}, health_checks: [{unhealthy_threshold: 5, healthy_threshold: 1, interval: 1s, timeout: 2s, health_check: {http: {path: /traffic/health, expected_statuses: [{min: 200, max: 201}]}}}]";

/// Endpoint routing comes and goes.
pub(super) async fn endpoints(stage: &mut Installation, form: Form) -> Result<()> {
    reroute(stage, &[BY_ENDPOINT, ""], form.choose(2, 10)).await
}

/// Health checks come and go.
pub(super) async fn health_checks(stage: &mut Installation, form: Form) -> Result<()> {
    reroute(
        stage,
        &[CHECKED, BY_ENDPOINT, CHECKED, ""],
        form.choose(1, 10),
    )
    .await
}

/// A Mapping by DNS, to a headless Service.
pub(super) async fn dns(stage: &mut Installation, form: Form) -> Result<()> {
    apply(
        stage,
        "apiVersion: v1\nkind: Service\nmetadata: {name: headless}\nspec: {clusterIP: None, ports: [{name: http, port: 9000}]}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {name: named}\nspec: {type: ExternalName, externalName: headless.traffic.svc.cluster.local}\n---\n",
    )?;
    let more = TRAFFIC_MAPPING;
    let slice = |addresses: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: headless-1, labels: {{kubernetes.io/service-name: headless}}}}\naddressType: IPv4\nports: [{{name: http, port: 9000}}]\nendpoints: [{addresses}]\n---\n"
        )
    };
    apply(stage, &slice("{addresses: [10.244.0.1]}"))?;
    apply(stage, &mapping("named", HOST, "/named/", "named:9000", ""))?;
    answers(stage, "/named/", 200).await?;
    for _ in 0..form.choose(1, 5) {
        apply(
            stage,
            &mapping("traffic", HOST, "/traffic/", "named:9000", more),
        )?;
        apply(
            stage,
            &slice("{addresses: [10.244.0.1]}, {addresses: [10.244.250.1]}"),
        )?;
        apply(stage, &slice("{addresses: [10.244.0.1]}"))?;
        apply(
            stage,
            &mapping("traffic", HOST, "/traffic/", "backend", more),
        )?;
    }
    Ok(())
}
