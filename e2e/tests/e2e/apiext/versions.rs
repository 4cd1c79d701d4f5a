//! Objects written in one version and read in another.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{WatchEvent, WatchParams};
use nuncio_e2e::wait::until;
use serde_json::Value;
use tokio::time::timeout;

use super::rig::{Rig, Stored, mapping};

/// A Mapping of v2 whose fields have other names and shapes in v3alpha1.
const OLD: &str = "prefix: /old/, service: old, tls: true, host: old.example, headers: {x-a: true}, \
    add_request_headers: {x-b: one}, ambassador_id: default, timeout_ms: 1000";

pub(crate) async fn what_is_written_in_v2_is_read_in_v3alpha1_and_back() -> Result<()> {
    for stored in [Stored::V2, Stored::V3Alpha1] {
        check(stored).await.with_context(|| format!("{stored:?}"))?;
    }
    Ok(())
}

async fn check(stored: Stored) -> Result<()> {
    let rig = Rig::start(stored, 2).await?;
    let plane = &rig.plane;
    let read = |version: &str| -> Result<Value> {
        let kind = format!("mappings.{version}.getambassador.io");
        let text = plane.kubectl(&["get", &kind, "old", "-o", "json"], "")?;
        Ok(serde_json::from_str(&text)?)
    };
    plane.apply("default", &mapping("v2", "old", OLD))?;
    let new = read("v3alpha1")?;
    ensure!(new["apiVersion"] == "getambassador.io/v3alpha1", "{new}");
    for (field, value) in [
        ("/hostname", "old.example"),
        ("/service", "https://old"),
        ("/regex_headers/x-a", ".*"),
        ("/add_request_headers/x-b/value", "one"),
        ("/ambassador_id/0", "default"),
    ] {
        ensure!(
            new["spec"]
                .pointer(field)
                .is_some_and(|found| found == value),
            "{field}: {new}"
        );
    }
    // as an editor does: read, change, replace
    let text = new.to_string().replace("old.example", "new.example");
    let text = text.replace("\"timeout_ms\":1000", "\"timeout_ms\":2000");
    plane.kubectl(&["replace", "-f", "-"], &text)?;
    let kind = "mappings.v3alpha1.getambassador.io";
    let old = read("v2")?;
    ensure!(old["spec"]["host"] == "new.example", "{old}");
    ensure!(old["spec"]["timeout_ms"] == 2000, "{old}");
    ensure!(
        old["spec"]["tls"] == true && old["spec"]["service"] == "old",
        "{old}"
    );
    ensure!(old["spec"]["headers"]["x-a"] == true, "{old}");
    let oldest = read("v1")?;
    ensure!(oldest["spec"]["host"] == "new.example", "{oldest}");
    let list = plane.kubectl(&["get", kind, "-o", "name"], "")?;
    ensure!(list.contains("mapping.getambassador.io/old"), "{list}");
    watch(&rig).await
}

/// A watch in one version sees what is written in another one.
async fn watch(rig: &Rig) -> Result<()> {
    let api = rig.mappings("v3alpha1");
    let start = api.list(&Default::default()).await?;
    let version = start.metadata.resource_version.unwrap_or_default();
    let mut events = api.watch(&WatchParams::default(), &version).await?.boxed();
    for number in 0..3 {
        let spec = format!("prefix: /{number}/, service: s, host: watched.example");
        rig.plane
            .apply("default", &mapping("v2", "watched", &spec))?;
        let event = timeout(Duration::from_secs(10), events.try_next()).await??;
        let (Some(WatchEvent::Added(object)) | Some(WatchEvent::Modified(object))) = event else {
            anyhow::bail!("{event:?}")
        };
        ensure!(
            object.data["spec"]["hostname"] == "watched.example",
            "{:?}",
            object.data
        );
        ensure!(
            object.data["spec"]["prefix"] == format!("/{number}/"),
            "{:?}",
            object.data
        );
    }
    until("metrics", || async {
        let mut objects = 0.0;
        for number in rig.replicas.keys() {
            let name = "nuncio_apiext_objects_total{result=\"converted\"}";
            objects += rig.metric(*number, name).await?;
        }
        ensure!(objects > 5.0, "{objects}");
        Ok(())
    })
    .await
}
