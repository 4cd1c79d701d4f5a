//! Each way to install that needs nothing else in the cluster, until traffic flows. Prometheus and cert-manager are only
//! checked against their schemas.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend, client::get, control_plane::ControlPlane, node::Node, wait::until,
    workspace::root,
};

use super::manifests::compose;
use crate::installation::{BACKEND, HOST, NUNCIO, ROUTE, TRAFFIC, balancer, images};

/// The node's own address.
const NODE: &str = "10.244.0.1";

/// Applies a folder in an empty cluster whose Pods run.
struct Way {
    plane: ControlPlane,
    _node: Node,
    _images: tempfile::TempDir,
    _backend: Backend,
}

impl Way {
    async fn start(path: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let images = images(folder.path())?;
        let plane = ControlPlane::start_empty().await?;
        let node = Node::start(&plane, images).await?;
        let backend = Backend::start(BACKEND, "way").await?;
        plane.kubectl(&["apply", "-k", &path.display().to_string()], "")?;
        plane.kubectl(&["create", "namespace", TRAFFIC], "")?;
        Ok(Self {
            plane,
            _node: node,
            _images: folder,
            _backend: backend,
        })
    }

    /// Applies the route of traffic in a namespace, and waits until requests to this address take it.
    async fn serves(&self, namespace: &str, address: &str) -> Result<()> {
        until("the kinds", || async { self.plane.apply(namespace, ROUTE) }).await?;
        until("the first answer", || async {
            let answer = get(address, HOST, "/traffic/first").await?;
            ensure!(answer.status == 200, "status {}", answer.status);
            Ok(())
        })
        .await
    }
}

fn overlay(name: &str) -> PathBuf {
    root().join("kustomize/overlays").join(name)
}

/// Writes a kustomization of the base with a component into a folder.
fn component(folder: &Path, name: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    compose(
        &path,
        &[&root().join("kustomize/components").join(name)],
        None,
    )?;
    Ok(path)
}

pub(crate) async fn the_minimal_overlay_serves_traffic() -> Result<()> {
    let way = Way::start(&overlay("minimal")).await?;
    let service = "service/nuncio-envoy";
    let address = way.plane.field(NUNCIO, service, "{.spec.clusterIP}")?;
    way.serves(TRAFFIC, &format!("{address}:80")).await
}

pub(crate) async fn the_production_overlay_serves_traffic() -> Result<()> {
    let way = Way::start(&overlay("production")).await?;
    let address = balancer(&way.plane).await?;
    way.serves(TRAFFIC, &format!("{address}:80")).await
}

pub(crate) async fn envoys_in_the_network_of_their_node_serve_traffic() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let way = Way::start(&component(folder.path(), "host-network")?).await?;
    way.serves(TRAFFIC, &format!("{NODE}:8080")).await
}

pub(crate) async fn a_gateway_for_one_namespace_serves_no_other() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let way = Way::start(&component(folder.path(), "single-namespace")?).await?;
    let address = format!("{}:80", balancer(&way.plane).await?);
    way.serves(NUNCIO, &address).await?;
    let elsewhere = ROUTE.replace(HOST, "elsewhere.example");
    way.plane.apply(TRAFFIC, &elsewhere)?;
    // a change in its own namespace is served after that one would have been
    let later = ROUTE
        .replace(HOST, "later.example")
        .replace("name: traffic", "name: later");
    way.plane.apply(NUNCIO, &later)?;
    until("a later change", || async {
        let answer = get(&address, "later.example", "/traffic/later").await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    })
    .await?;
    let answer = get(&address, "elsewhere.example", "/traffic/first").await?;
    ensure!(answer.status == 404, "status {}", answer.status);
    Ok(())
}
