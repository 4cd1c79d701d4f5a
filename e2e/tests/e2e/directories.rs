//! Manifests in directories beside the cluster: what comes before its objects, and what is served until it has been listed.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::Load,
    control_plane::{APISERVER, NAMESPACE},
    fault_proxy::FaultProxy,
    process::Process,
    wait::until,
    workspace::nuncio,
};

use crate::{
    Space,
    fixture::{mapping, service},
    status::condition,
};

const HOST: &str = "directories.example";

/// Starts the operator of the space again, with another apiserver and these directories.
fn operator(space: &mut Space, kubeconfig: &Path, static_config: &Path, init: &Path) -> Result<()> {
    let instance = space.gateway.instance.clone();
    let gateway = space.own_gateway()?;
    gateway.replica.process.kill();
    let name = gateway.replica.name().to_owned();
    gateway.replica.process = Process::start(
        &name,
        &nuncio()?,
        [
            "operator",
            "--xds-address",
            &instance.xds(0),
            "--health-address",
            &instance.health(0),
            "--init-config",
            &init.display().to_string(),
        ],
        &[
            ("KUBECONFIG", &kubeconfig.display().to_string()),
            ("AMBASSADOR_ID", &instance.id),
            ("AMBASSADOR_NAMESPACE", NAMESPACE),
            (
                "AMBASSADOR_ENVOY_BIND_ADDRESS",
                &instance.address.to_string(),
            ),
            (
                "AMBASSADOR_CONFIG_DIR",
                &static_config.display().to_string(),
            ),
            ("POD_NAME", &name),
        ],
    )?;
    Ok(())
}

pub(crate) async fn files_are_served_until_and_before_the_cluster(space: &mut Space) -> Result<()> {
    let _static = Backend::start("10.96.6.45:80", "static").await?;
    let _cluster = Backend::start("10.96.6.46:80", "cluster").await?;
    let _init = Backend::start("10.96.6.47:80", "init").await?;
    let id = space.gateway.instance.id.clone();
    let namespace = space.namespace.clone();
    space.apply(&service("directories", "10.96.6.46"))?;
    let prefix = mapping("directories", HOST, "/", "directories", "");
    let kept = mapping("kept", HOST, "/kept/", "directories", "");
    space.apply(&[prefix, kept].concat())?;
    space.answers(HOST, "/", 200, "cluster").await?;

    let (fixed, init) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let flat = format!(
        "---\napiVersion: getambassador.io/v3alpha1\nkind: Listener\nname: http\nambassador_id: [{id}]\nport: 8080\nprotocol: HTTP\nsecurityModel: XFP\nhostBinding: {{namespace: {{from: ALL}}}}\n---\napiVersion: getambassador.io/v2\nkind: Mapping\nname: static\nambassador_id: {id}\nhost: {HOST}\nprefix: /\nservice: 10.96.6.45\n"
    );
    fs::write(fixed.path().join("static.yaml"), flat)?;
    let shadow = |prefix: &str| {
        format!(
            "apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: directories, namespace: {namespace}}}\nspec: {{ambassador_id: [{id}], hostname: {HOST}, prefix: {prefix}, service: 10.96.6.47}}\n"
        )
    };
    let file = init.path().join("init.yaml");
    fs::write(&file, shadow("/"))?;

    // the apiserver is not there
    let address = space.gateway.instance.port(6445);
    let original = space.plane.operator_kubeconfig();
    let kubeconfig = original.with_extension(&space.namespace);
    fs::write(
        &kubeconfig,
        fs::read_to_string(&original)?.replace(APISERVER, &address),
    )?;
    operator(space, &kubeconfig, fixed.path(), init.path())?;
    space.answers(HOST, "/", 200, "static").await?;
    let readiness = space.gateway.replica.readiness().await;
    ensure!(readiness.is_err(), "ready without a list: {readiness:?}");

    // it comes back: all of it is served at once, and the files of one directory come first
    let load = Load::start(&space.http(), HOST, "/");
    let _proxy = FaultProxy::start(&address, APISERVER).await?;
    space.answers(HOST, "/kept/", 200, "cluster").await?;
    space.answers(HOST, "/", 200, "init").await?;
    load.finish().await?;
    until("ready", || async {
        space.gateway.replica.readiness().await.map(drop)
    })
    .await?;
    let by = "also defined by the Kubernetes API; using the one of the init-config directory";
    condition(space, "mapping/directories", "Accepted", "True", by).await?;

    // edited, broken and removed
    fs::write(&file, shadow("/edited/"))?;
    space.answers(HOST, "/edited/", 200, "init").await?;
    space.answers(HOST, "/", 404, "").await?;
    fs::remove_file(&file)?;
    space.answers(HOST, "/", 200, "cluster").await?;
    space.answers(HOST, "/edited/", 200, "cluster").await
}
