//! Installing and removing Nuncio as its users do.

#[path = "install/manifests.rs"]
mod manifests;
#[path = "install/ways.rs"]
mod ways;

use std::{fs, time::Instant};

use anyhow::{Result, ensure};
use nuncio_e2e::{client::get, control_plane::ControlPlane, wait::until, workspace::root};

use crate::installation::{Installation, NUNCIO, record};

pub(crate) use manifests::overlays_and_components_are_valid;
pub(crate) use ways::{
    a_gateway_for_one_namespace_serves_no_other, envoys_in_the_network_of_their_node_serve_traffic,
    the_minimal_overlay_serves_traffic, the_production_overlay_serves_traffic,
};

/// The commands in README.md that install Nuncio and a route, without `kubectl`.
fn commands() -> Result<Vec<String>> {
    let text = fs::read_to_string(root().join("README.md"))?;
    let lines = text.lines().filter_map(|line| {
        let command = line.strip_prefix("    kubectl ")?.split(" #").next()?;
        command.starts_with("apply -k").then(|| command.to_owned())
    });
    let commands: Vec<String> = lines.collect();
    ensure!(
        commands.len() == 2,
        "README.md must install with two commands, not {commands:?}"
    );
    Ok(commands)
}

fn kubectl(plane: &ControlPlane, command: &str) -> Result<()> {
    let words: Vec<&str> = command.split_whitespace().collect();
    plane.kubectl(&words, "").map(drop)
}

pub(crate) async fn two_commands_serve_traffic_and_two_remove_everything() -> Result<()> {
    let start = Instant::now();
    let commands = commands()?;
    let install = |plane: &ControlPlane| {
        let mut commands = commands.iter();
        commands.try_for_each(|command| kubectl(plane, command))
    };
    let installation = Installation::start_by(install).await?;
    until("the route of the quickstart", || async {
        let answer = get(&installation.target.http, "any.example", "/hello/world").await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    })
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    record(&format!("from no cluster to traffic: {seconds:.1} s"))?;
    let plane = &installation.plane;
    let before = plane.kubectl(&["api-resources", "-o", "name"], "")?;
    ensure!(before.contains("getambassador.io"), "{before}");
    for command in commands.iter().rev() {
        let delete = command.replacen("apply", "delete", 1) + " --wait=false";
        kubectl(plane, &delete)?;
    }
    until("removal without leftovers", || async {
        for what in [
            "namespace",
            "customresourcedefinitions",
            "clusterroles",
            "clusterrolebindings",
            "mutatingwebhookconfigurations,validatingwebhookconfigurations",
        ] {
            let found = plane.kubectl(&["get", what, "-o", "name"], "")?;
            let left = found.lines().find(|name| {
                name.contains("nuncio") || name.contains("getambassador") || name.contains(NUNCIO)
            });
            ensure!(left.is_none(), "{left:?} is left");
        }
        Ok(())
    })
    .await
}
