//! Clocks that jump by a day, while everything runs.
//!
//! libfaketime moves the clock of a container by what a file in a ConfigMap says. Monotonic clocks go on as they do, as with
//! a jump of a real one. The clock of Envoy itself is not moved: Envoy hangs with libfaketime.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::jiff::{Timestamp, fmt::rfc2822};
use nuncio_e2e::{
    client::get,
    wait::{until, until_within},
    workspace::faketime,
};
use rustix::process::Signal;
use serde_json::json;

use super::{Form, all_serve_a_change};
use crate::installation::{Installation, NUNCIO, OWN_CLOCK};

/// How long a change may take while streams go on.
const PROMPT: Duration = Duration::from_secs(20);
/// How long new connections may take to recover.
const RECOVERY: Duration = Duration::from_secs(60);
/// Longest time until a kubelet, here the node agent, has written a changed ConfigMap, and the process has read it.
const WRITTEN: Duration = Duration::from_secs(20);
const CONNECTIONS: &str = "envoy_cluster_upstream_cx_total{envoy_cluster_name=\"xds_cluster\"}";

/// The ports where the Pods of a Deployment show their time.
const DEPLOYMENTS: [(&str, u16); 2] = [("nuncio", 8877), ("nuncio-envoy", 8006)];

/// Clocks jump by a day and back, those of control planes and those of Envoys.
pub(super) async fn moved(stage: &mut Installation, form: Form) -> Result<()> {
    for deployment in &DEPLOYMENTS[..form.choose(1, 2)] {
        prepare(stage, deployment.0).await?;
        for days in form.choose(&[1][..], &[1, -1]) {
            let result = jump(stage, *deployment, *days).await;
            result.with_context(|| format!("{} moved by {days} days", deployment.0))?;
        }
    }
    Ok(())
}

/// Makes the clock of a Deployment one that can be moved.
async fn prepare(stage: &Installation, deployment: &str) -> Result<()> {
    let map = format!("clock-{deployment}");
    let library = format!("--from-file=library={}", faketime()?.display());
    stage.kubectl(&[
        "create",
        "configmap",
        &map,
        &library,
        "--from-literal=offset=+0",
    ])?;
    let (container, image) = match deployment {
        "nuncio" => ("nuncio", "nuncio"),
        _ => ("envoy", OWN_CLOCK),
    };
    let environment = [
        ("LD_PRELOAD", "/etc/clock/library"),
        ("FAKETIME_TIMESTAMP_FILE", "/etc/clock/offset"),
        ("FAKETIME_CACHE_DURATION", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let environment = environment.map(|(name, value)| json!({"name": name, "value": value}));
    let patch = json!({"spec": {"template": {"spec": {
        "volumes": [{"name": "clock", "configMap": {"name": map}}],
        "containers": [{
            "name": container, "image": image, "env": environment,
            "volumeMounts": [{"name": "clock", "mountPath": "/etc/clock", "readOnly": true}],
        }],
    }}}});
    let name = format!("deployment/{deployment}");
    stage.kubectl(&["patch", &name, "-p", &patch.to_string()])?;
    stage.kubectl(&["rollout", "status", &name, "--timeout=120s"])?;
    stage.has_replicas(deployment, 2).await?;
    // only streams that are there can go on
    all_serve_a_change(stage, RECOVERY).await
}

/// Moves the clocks of a Deployment, waits until all its Pods show it, and returns once changes are served.
async fn jump(stage: &Installation, deployment: (&str, u16), days: i64) -> Result<()> {
    for days in [days, 0] {
        let made = connections(stage).await?;
        move_clocks(stage, deployment.0, days).await?;
        if days > 0 {
            shows(stage, deployment, days).await?;
        }
        // streams go on
        all_serve_a_change(stage, PROMPT).await?;
        let after = connections(stage).await?;
        ensure!(after == made, "{after} connections after {made}");
        if days < 0 && deployment.0 == "nuncio" {
            // a process that starts with this clock rejects the certificate of the apiserver, which is as old as the cluster
            continue;
        }
        reconnect(stage).await?;
        // processes that have run before may show a later time: they remember it
        if deployment.0 == "nuncio" {
            shows(stage, deployment, days).await?;
        }
    }
    Ok(())
}

/// Ends all streams; new ones must be there in time.
async fn reconnect(stage: &Installation) -> Result<()> {
    for pod in stage.pods("nuncio")? {
        stage.node.signal(NUNCIO, &pod, Signal::KILL)?;
    }
    all_serve_a_change(stage, RECOVERY).await?;
    until("both control planes", || stage.has_replicas("nuncio", 2)).await
}

/// How many connections the Envoys have made to the control plane.
async fn connections(stage: &Installation) -> Result<f64> {
    let mut sum = 0.0;
    for pod in stage.pods("nuncio-envoy")? {
        sum += stage.metric(&pod, CONNECTIONS).await?;
    }
    ensure!(sum > 1.5, "{sum} connections of two Envoys");
    Ok(sum)
}

/// Writes the offset, and waits until all Pods of the Deployment have it.
async fn move_clocks(stage: &Installation, name: &str, days: i64) -> Result<()> {
    let offset = format!("{:+}", days * 24 * 3600);
    let patch = json!({"data": {"offset": offset}}).to_string();
    let map = format!("configmap/clock-{name}");
    stage.kubectl(&["patch", &map, "--type=merge", "-p", &patch])?;
    for pod in stage.pods(name)? {
        until_within(WRITTEN, &pod, || async {
            let found = stage.node.read(NUNCIO, &pod, "/etc/clock/offset")?;
            ensure!(found == offset, "{found}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until all Pods of a Deployment show a time that is as many days ahead.
async fn shows(stage: &Installation, (name, port): (&str, u16), days: i64) -> Result<()> {
    for pod in stage.pods(name)? {
        let address = stage.address(&pod, port)?;
        until_within(WRITTEN, &pod, || async {
            let answer = get(&address, "localhost", "/").await?;
            let date = answer.headers.get("date").context("no date")?;
            let date = rfc2822::parse(date)?.timestamp();
            let ahead = date.duration_since(Timestamp::now()).as_secs();
            let is_moved = (ahead - days * 24 * 3600).abs() < 60;
            ensure!(is_moved, "its clock is {ahead} s ahead");
            Ok(())
        })
        .await?;
    }
    Ok(())
}
