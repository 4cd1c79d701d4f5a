//! What must hold once every fault is over.

use std::{collections::BTreeMap, fs};

use anyhow::{Result, ensure};
use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use serde_json::Value;

use super::{PATIENCE, change::Kind, side::Side, world::World};
use crate::{
    gateway::{Envoy, Replica},
    wait::until_within,
    workspace::logs,
};

/// Lines that no log of ours may have.
const DEFECTS: [&str; 2] = ["panicked at", "Envoy rejected configuration"];
/// Names of resources that differ, at most so many of which are shown.
const SHOWN: usize = 5;

/// What does not hold, as text.
///
/// # Errors
/// Something does not start.
pub(super) async fn verify(world: &mut World) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut keep = |result: Result<()>| {
        if let Err(error) = result {
            findings.push(format!("{error:#}"));
        }
    };
    for side in &world.sides {
        keep(equals_fresh(world, side).await);
    }
    for kind in [
        Kind::Mapping,
        Kind::Host,
        Kind::TcpMapping,
        Kind::TlsContext,
    ] {
        keep(has_status(world, kind).await);
    }
    keep(logs_are_good());
    findings.extend(world.ended());
    Ok(findings)
}

/// An Envoy has what one has that starts now, at a control plane that starts now.
async fn equals_fresh(world: &World, side: &Side) -> Result<()> {
    let number = u16::try_from(side.number)? + 2;
    let instance = &side.instance;
    let mut replica = Replica::launch(&world.plane.operator_kubeconfig(), instance, number)?;
    replica.ready().await?;
    let fresh = Envoy::start(
        &instance.name("envoy", number),
        &instance.xds(number),
        &instance.admin(number),
        "delta",
    )?;
    fresh.ready().await?;
    let what = format!("the configuration of Envoy {}", side.number);
    until_within(PATIENCE, &what, || async {
        let (own, fresh) = (
            side.envoy.whole_configuration().await?,
            fresh.whole_configuration().await?,
        );
        let differs = difference(&own, &fresh);
        ensure!(differs.is_empty(), "{differs}");
        Ok(())
    })
    .await
}

/// Resources that only one of both has, or that differ.
fn difference(
    own: &BTreeMap<String, Vec<String>>,
    fresh: &BTreeMap<String, Vec<String>>,
) -> String {
    let mut differ = Vec::new();
    for (section, expected) in fresh {
        let found = own.get(section).map_or(&[][..], Vec::as_slice);
        let extra = found.iter().filter(|one| !expected.contains(one));
        let missing = expected.iter().filter(|one| !found.contains(one));
        differ.extend(extra.map(|one| format!("{section}: has {}", start(one))));
        differ.extend(missing.map(|one| format!("{section}: has not {}", start(one))));
    }
    let more = differ.len().saturating_sub(SHOWN);
    differ.truncate(SHOWN);
    if more > 0 {
        differ.push(format!("{more} more"));
    }
    differ.join("\n  ")
}

/// The beginning of a text.
fn start(text: &str) -> String {
    text.chars().take(300).collect()
}

/// The statuses of all objects of a kind are those of their present generations.
async fn has_status(world: &World, kind: Kind) -> Result<()> {
    let resource = kind.resource();
    let api: Api<DynamicObject> = Api::all_with(world.client.clone(), &resource);
    until_within(
        PATIENCE,
        &format!("statuses of {}", resource.plural),
        || async {
            for object in api.list(&ListParams::default()).await? {
                let conditions = object.data["status"]["conditions"].as_array();
                let generation = |condition: &Value| condition["observedGeneration"].as_i64();
                let is_current = conditions.is_some_and(|all| {
                    let mut all = all.iter();
                    all.len() > 0 && all.all(|one| generation(one) == object.metadata.generation)
                });
                let name = object.metadata.name.unwrap_or_default();
                ensure!(is_current, "{name}: {}", object.data["status"]);
            }
            Ok(())
        },
    )
    .await
}

/// No replica has panicked, and no Envoy has rejected anything.
fn logs_are_good() -> Result<()> {
    for entry in fs::read_dir(logs()?)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with("nuncio") {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
        let bad = text
            .lines()
            .find(|line| DEFECTS.iter().any(|defect| line.contains(defect)));
        ensure!(
            bad.is_none(),
            "{}: {}",
            path.display(),
            bad.unwrap_or_default()
        );
    }
    Ok(())
}
