//! Status: conditions and columns.

use anyhow::{Result, ensure};
use nuncio_e2e::wait::until;

use crate::{
    Space,
    fixture::{host, mapping, object},
};

/// Waits until a condition of an object has this status and a reason or message that contains the text.
pub(crate) async fn condition(
    space: &Space,
    object: &str,
    kind: &str,
    status: &str,
    text: &str,
) -> Result<()> {
    let path = format!(
        r#"{{range .status.conditions[?(@.type=="{kind}")]}}{{.status}} {{.reason}} {{.message}}{{end}}"#
    );
    until(&format!("{kind} of {object}"), || async {
        let found = space.field(object, &path)?;
        ensure!(
            found.starts_with(status) && found.contains(text),
            "it is {found:?}"
        );
        Ok(())
    })
    .await
}

/// Waits until an object is accepted and its condition does not name this rival.
pub(crate) async fn uncontested(space: &Space, object: &str, rival: &str) -> Result<()> {
    let path = r#"{range .status.conditions[?(@.type=="Accepted")]}{.status} {.message}{end}"#;
    until(&format!("{object} without {rival}"), || async {
        let found = space.field(object, path)?;
        ensure!(
            found.starts_with("True") && !found.contains(rival),
            "it is {found:?}"
        );
        Ok(())
    })
    .await
}

/// Waits until all Envoys have the last generation of an object.
pub(crate) async fn programmed(space: &Space, object: &str) -> Result<()> {
    let path = r#"{.metadata.generation}{range .status.conditions[?(@.type=="Programmed")]} {.observedGeneration} {.status}{end}"#;
    until(&format!("the last generation of {object}"), || async {
        let found = space.field(object, path)?;
        let words: Vec<&str> = found.split(' ').collect();
        let is_it = matches!(words[..], [last, seen, "True"] if last == seen);
        ensure!(is_it, "generations and status are {found:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn conditions_and_columns_say_what_is_served(space: &Space) -> Result<()> {
    let manifests = [
        host("status", "status.example", ""),
        mapping("status", "status.example", "/status/", "10.96.5.1", ""),
    ];
    space.apply(&manifests.concat())?;
    for object in ["host/status", "mapping/status", "listener/http"] {
        for kind in ["Accepted", "ResolvedRefs", "Programmed"] {
            condition(space, object, kind, "True", "").await?;
        }
    }
    condition(space, "mapping/status", "Programmed", "True", "1/1 Envoys").await?;
    state(space, "mapping/status", "Running").await?;
    let table = space.plane.kubectl(
        &["get", "mappings,hosts,listeners", "-n", &space.namespace],
        "",
    )?;
    for column in [
        "HOSTNAME",
        "SOURCE PREFIX",
        "DEST SERVICE",
        "STATE",
        "PROGRAMMED",
        "REASON",
        "AGE",
        "PORT",
        "PROTOCOL",
        "SECURITY",
    ] {
        ensure!(table.contains(column), "{column} is missing in\n{table}");
    }
    ensure!(
        table.lines().any(|line| line.contains("mapping")
            && line.contains("/status/")
            && line.contains("Running")
            && line.contains("True")),
        "{table}"
    );
    space.apply(&mapping(
        "status",
        "status.example",
        "/other/",
        "10.96.5.1",
        "",
    ))?;
    programmed(space, "mapping/status").await
}

/// Waits until the state of an object is this.
async fn state(space: &Space, object: &str, state: &str) -> Result<()> {
    until(&format!("state {state} of {object}"), || async {
        let found = space.field(object, "{.status.state}")?;
        ensure!(found == state, "it is {found:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn status_is_written_once_per_change(space: &Space) -> Result<()> {
    let manifests = [
        host("once", "once.example", ""),
        mapping("once", "once.example", "/once/", "10.96.5.1", ""),
    ];
    space.apply(&manifests.concat())?;
    idle(space).await?;
    let before = space
        .gateway
        .replica
        .metric("nuncio_status_writes_total")
        .await?;
    for number in 0..5 {
        space.apply(&mapping(
            "once",
            "once.example",
            &format!("/once/{number}/"),
            "10.96.5.1",
            "",
        ))?;
        programmed(space, "mapping/once").await?;
    }
    idle(space).await?;
    let writes = space
        .gateway
        .replica
        .metric("nuncio_status_writes_total")
        .await?
        - before;
    ensure!(writes <= 10.0, "five edits caused {writes} writes");
    Ok(())
}

/// Waits until every status is of the last generation, and none waits to be written.
async fn idle(space: &Space) -> Result<()> {
    for object in [
        "listener/http",
        "listener/https",
        "host/once",
        "mapping/once",
    ] {
        programmed(space, object).await?;
    }
    until("the last status", || async {
        let replica = &space.gateway.replica;
        let pending = replica.metric("nuncio_status_pending").await?;
        ensure!(pending < 0.5, "{pending} statuses are pending");
        Ok(())
    })
    .await
}

pub(crate) async fn a_missing_service_and_a_missing_host_are_told(space: &Space) -> Result<()> {
    let manifests = [
        host("missing", "missing.example", ""),
        mapping(
            "no-service",
            "missing.example",
            "/no-service/",
            "absent",
            "",
        ),
        mapping("no-host", "nowhere.example", "/", "10.96.5.1", ""),
    ];
    space.apply(&manifests.concat())?;
    condition(
        space,
        "mapping/no-service",
        "ResolvedRefs",
        "False",
        "ServiceNotFound",
    )
    .await?;
    condition(space, "mapping/no-host", "Programmed", "False", "NotServed").await?;
    condition(
        space,
        "mapping/no-host",
        "Accepted",
        "True",
        "NoMatchingHost",
    )
    .await?;
    state(space, "mapping/no-host", "Inactive").await?;
    // the missing Service is created
    space.apply(&crate::fixture::service("absent", "10.96.5.2"))?;
    condition(space, "mapping/no-service", "ResolvedRefs", "True", "").await
}

pub(crate) async fn objects_without_effect_say_so(space: &Space) -> Result<()> {
    let manifests = [
        object("Module", "ambassador", "config: {server_name: elsewhere}"),
        object("DevPortal", "portal", "default: true"),
    ];
    space.apply(&manifests.concat())?;
    let text = "only the Module ambassador in namespace";
    condition(space, "module/ambassador", "Accepted", "", text).await?;
    let text = "a DevPortal has no effect";
    condition(space, "devportal/portal", "Accepted", "", text).await
}
