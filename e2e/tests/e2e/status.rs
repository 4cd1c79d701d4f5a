//! Status says what is served.

use anyhow::{Result, ensure};
use nuncio_e2e::wait::until;

use crate::{
    World,
    fixture::{host, mapping},
};

/// Waits until a condition of an object has this status and a reason or message that contains the text.
pub(crate) async fn condition(
    world: &World,
    object: &str,
    kind: &str,
    status: &str,
    text: &str,
) -> Result<()> {
    let path = format!(
        r#"{{range .status.conditions[?(@.type=="{kind}")]}}{{.status}} {{.reason}} {{.message}}{{end}}"#
    );
    until(&format!("{kind} of {object}"), || async {
        let found = world.plane.field("default", object, &path)?;
        ensure!(
            found.starts_with(status) && found.contains(text),
            "it is {found:?}"
        );
        Ok(())
    })
    .await
}

/// Waits until all Envoys have an object of ours as it was applied last.
pub(crate) async fn programmed(world: &World, object: &str) -> Result<()> {
    let path = r#"{.metadata.generation}{range .status.conditions[?(@.type=="Programmed")]} {.observedGeneration} {.status}{end}"#;
    until(&format!("the last generation of {object}"), || async {
        let found = world.plane.field("default", object, path)?;
        let words: Vec<&str> = found.split(' ').collect();
        let is_it = matches!(words[..], [last, seen, "True"] if last == seen);
        ensure!(is_it, "generations and status are {found:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn conditions_and_columns_say_what_is_served(world: &mut World) -> Result<()> {
    let manifests = [
        host("status", "status.example", ""),
        mapping("status", "status.example", "/status/", "10.96.5.1", ""),
    ];
    world.plane.apply(&manifests.concat())?;
    for object in ["host/status", "mapping/status", "listener/http"] {
        for kind in ["Accepted", "ResolvedRefs", "Programmed"] {
            condition(world, object, kind, "True", "").await?;
        }
    }
    condition(world, "mapping/status", "Programmed", "True", "1/1 Envoys").await?;
    let state = world
        .plane
        .field("default", "mapping/status", "{.status.state}")?;
    ensure!(state == "Running", "the state is {state:?}");
    let table = world
        .plane
        .kubectl(&["get", "mappings,hosts,listeners", "-n", "default"], "")?;
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
    world.plane.apply(&mapping(
        "status",
        "status.example",
        "/other/",
        "10.96.5.1",
        "",
    ))?;
    until("the observed generation", || async {
        let generation =
            world
                .plane
                .field("default", "mapping/status", "{.metadata.generation}")?;
        let observed = world.plane.field(
            "default",
            "mapping/status",
            r#"{.status.conditions[?(@.type=="Programmed")].observedGeneration}"#,
        )?;
        ensure!(
            generation == observed && generation != "1",
            "{observed} of {generation}"
        );
        Ok(())
    })
    .await
}

pub(crate) async fn status_is_written_once_per_change(world: &mut World) -> Result<()> {
    let manifests = [
        host("status", "status.example", ""),
        mapping("once", "status.example", "/once/", "10.96.5.1", ""),
    ];
    world.plane.apply(&manifests.concat())?;
    condition(world, "mapping/once", "Programmed", "True", "").await?;
    idle(world).await?;
    let before = world.replica.metric("nuncio_status_writes_total").await?;
    for number in 0..5 {
        world.plane.apply(&mapping(
            "once",
            "status.example",
            &format!("/once/{number}/"),
            "10.96.5.1",
            "",
        ))?;
        condition(world, "mapping/once", "Programmed", "True", "").await?;
    }
    idle(world).await?;
    let writes = world.replica.metric("nuncio_status_writes_total").await? - before;
    ensure!(writes <= 10.0, "five edits led to {writes} writes");
    Ok(())
}

/// Waits until what is written is of the last generation and nothing waits to be written.
async fn idle(world: &World) -> Result<()> {
    until("the last generation", || async {
        let generation = world
            .plane
            .field("default", "mapping/once", "{.metadata.generation}")?;
        let observed = world.plane.field(
            "default",
            "mapping/once",
            r#"{.status.conditions[?(@.type=="Programmed")].observedGeneration}"#,
        )?;
        ensure!(generation == observed, "{observed} of {generation}");
        let pending = world.replica.metric("nuncio_status_pending").await?;
        ensure!(pending < 0.5, "{pending} statuses wait");
        Ok(())
    })
    .await
}

pub(crate) async fn a_missing_service_and_a_missing_host_are_told(world: &mut World) -> Result<()> {
    let manifests = [
        host("status", "status.example", ""),
        mapping("no-service", "status.example", "/no-service/", "nobody", ""),
        mapping("no-host", "nowhere.example", "/", "10.96.5.1", ""),
    ];
    world.plane.apply(&manifests.concat())?;
    condition(
        world,
        "mapping/no-service",
        "ResolvedRefs",
        "False",
        "ServiceNotFound",
    )
    .await?;
    condition(world, "mapping/no-host", "Programmed", "False", "NotServed").await?;
    condition(
        world,
        "mapping/no-host",
        "Accepted",
        "True",
        "NoMatchingHost",
    )
    .await?;
    let state = world
        .plane
        .field("default", "mapping/no-host", "{.status.state}")?;
    ensure!(state == "Inactive", "the state is {state:?}");
    // the Service that was missed comes
    world
        .plane
        .apply(&crate::fixture::service("nobody", "10.96.5.2"))?;
    condition(world, "mapping/no-service", "ResolvedRefs", "True", "").await
}
