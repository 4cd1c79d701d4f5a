//! Many old objects.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::api::ListParams;
use nuncio_e2e::{gateway::Replica, instance::Instance, wait::until_within};

use super::rig::{Rig, Stored};

/// Objects. `APIEXT_OBJECTS` sets another number.
const OBJECTS: usize = 10_000;
/// Most memory of a replica of the webhook, in MiB; a debug build.
const MEMORY: f64 = 100.0;

pub(crate) async fn ten_thousand_old_objects_are_listed() -> Result<()> {
    let number = std::env::var("APIEXT_OBJECTS").ok();
    let number = number.map_or(Ok(OBJECTS), |number| number.parse())?;
    let rig = Rig::start(Stored::V2, 2).await?;
    let start = Instant::now();
    rig.make(number).await?;
    eprintln!("{number} objects made in {:?}", start.elapsed());
    let before = rig.converted().await?;
    let start = Instant::now();
    let new = rig.mappings("v3alpha1");
    let list = new.list(&ListParams::default()).await?;
    let taken = start.elapsed();
    ensure!(list.items.len() > number, "{} objects", list.items.len());
    for object in &list.items {
        let spec = &object.data["spec"];
        let name = object.metadata.name.as_deref().unwrap_or_default();
        ensure!(
            !name.starts_with("many-") || spec["regex_headers"]["x-a"] == ".*",
            "{spec}"
        );
    }
    let (reviews, objects) = rig.converted().await?;
    eprintln!(
        "listed in {taken:?}, with {} objects in {} reviews",
        objects - before.1,
        reviews - before.0
    );
    // the operator lists them when it starts
    let start = Instant::now();
    let kubeconfig = rig.plane.operator_kubeconfig();
    let replica = Replica::launch(&kubeconfig, &Instance::default(), 0)?;
    until_within(Duration::from_secs(120), "the operator", || async {
        replica.readiness().await.map(drop)
    })
    .await?;
    eprintln!("operator ready after {:?}", start.elapsed());
    let known = replica.metric("nuncio_objects{kind=\"Mapping\"}").await?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let expected = number as f64;
    ensure!(known >= expected, "{known} Mappings");
    for (number, process) in &rig.replicas {
        let memory = process.memory_mib();
        let seconds = process.cpu_seconds();
        eprintln!("replica {number}: {memory:.0} MiB, {seconds:.1} s of CPU");
        ensure!(memory < MEMORY, "replica {number} has {memory} MiB");
    }
    Ok(())
}

impl Rig {
    /// Reviews and objects that were converted.
    async fn converted(&self) -> Result<(f64, f64)> {
        let (mut reviews, mut objects) = (0.0, 0.0);
        for number in self.replicas.keys() {
            let name = |what| format!("nuncio_apiext_{what}_total{{result=\"converted\"}}");
            reviews += self.metric(*number, &name("reviews")).await?;
            objects += self.metric(*number, &name("objects")).await?;
        }
        Ok((reviews, objects))
    }
}
