//! `nuncio migrate-storage`: what etcd has before and after, interruptions, and what cannot be migrated.

use std::{
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use nuncio_e2e::{
    etcd,
    process::Process,
    wait::until,
    workspace::{nuncio, root},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::rig::{APPLY, KINDS, Rig, Stored, mapping};

const ACCOUNT: &str = "nuncio-migrate-storage";
const DEFINITION: &str = "mappings.getambassador.io";
/// Objects. `APIEXT_OBJECTS` sets another number.
const OBJECTS: usize = 3_000;
/// Most memory of a migration, in MiB; a debug build.
const MEMORY: f64 = 60.0;

/// What a run has printed.
struct Run {
    output: Output,
    report: Value,
}

impl Run {
    fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    /// What it says of a kind.
    fn kind(&self, name: &str) -> Result<&Value> {
        let mut kinds = self.report["kinds"].as_array().into_iter().flatten();
        let found = kinds.find(|kind| kind["kind"] == name);
        found.with_context(|| format!("no {name} in {}", self.report))
    }
}

impl Rig {
    /// Starts a cluster with a webhook, and a ServiceAccount for migrations.
    async fn with_migration(stored: Stored) -> Result<Self> {
        let rig = Self::start(stored, 1).await?;
        let path = root().join("kustomize/components/migrate-storage/rbac.yaml");
        let path = path.display().to_string();
        rig.plane
            .kubectl(&[&APPLY[..], &["-f", &path]].concat(), "")?;
        Ok(rig)
    }

    /// Runs a migration to its end.
    fn migrate(&self, arguments: &[&str]) -> Result<Run> {
        let output = Command::new(nuncio()?)
            .args(["migrate-storage", "-o", "json"])
            .args(arguments)
            .env("KUBECONFIG", self.plane.account_kubeconfig(ACCOUNT)?)
            .output()?;
        let report = serde_json::from_slice(&output.stdout).with_context(|| {
            let error = String::from_utf8_lossy(&output.stderr);
            format!("no report: {error}")
        })?;
        Ok(Run { output, report })
    }

    /// A migration that goes on.
    fn migration(&self, name: &str) -> Result<Process> {
        let kubeconfig = self.plane.account_kubeconfig(ACCOUNT)?;
        let kubeconfig = kubeconfig.display().to_string();
        let arguments = ["migrate-storage", "--kind", "mapping", "-o", "json"];
        Process::start(name, &nuncio()?, arguments, &[("KUBECONFIG", &kubeconfig)])
    }

    /// The stored versions of Mappings, sorted.
    fn stored_versions(&self) -> Result<Vec<String>> {
        let stored = &self.definition()?["status"]["storedVersions"];
        let mut stored: Vec<String> = serde_json::from_value(stored.clone())?;
        stored.sort();
        Ok(stored)
    }

    /// The place that a run has left behind.
    fn place(&self) -> Result<Option<String>> {
        let definition = self.definition()?;
        let conditions = definition["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        let found = conditions.find(|condition| condition["type"] == "StorageMigrated");
        Ok(found.and_then(|found| found["message"].as_str().map(str::to_owned)))
    }

    /// Makes Mappings of v2.
    pub(super) async fn make(&self, number: usize) -> Result<()> {
        let old = self.mappings("v2");
        stream::iter(0..number)
            .map(|number| {
                let old = old.clone();
                async move {
                    let object = json!({
                        "apiVersion": "getambassador.io/v2", "kind": "Mapping",
                        "metadata": {"name": format!("many-{number:05}")},
                        "spec": {
                            "prefix": format!("/many/{number}/"), "service": "many.default",
                            "host": format!("h{}.example", number % 100),
                            "headers": {"x-a": true}, "add_request_headers": {"x-b": "b"}, "tls": true,
                        },
                    });
                    let object = serde_json::from_value(object)?;
                    old.create(&PostParams::default(), &object).await?;
                    anyhow::Ok(())
                }
            })
            .buffer_unordered(16)
            .try_collect()
            .await
    }
}

/// How many objects of a resource etcd has in each of the versions v2 and v3alpha1.
async fn versions(plural: &str) -> Result<(usize, usize)> {
    let stored = etcd::stored(plural).await?;
    let count = |version: &str| {
        let version = format!("getambassador.io/{version}");
        let of_version = stored
            .iter()
            .filter(|object| object["apiVersion"] == *version);
        of_version.count()
    };
    Ok((count("v2"), count("v3alpha1")))
}

pub(crate) async fn objects_are_stored_again_and_old_versions_removed() -> Result<()> {
    let mut rig = Rig::with_migration(Stored::V2).await?;
    let plurals = one_of_each_kind(&rig).await?;
    let old = "prefix: /old/, service: old, tls: true, host: old.example, headers: {x-a: true}";
    rig.plane.apply("default", &mapping("v2", "old", old))?;
    rig.plane.apply("kube-system", &mapping("v2", "old", old))?;
    for plural in &plurals {
        let (old, new) = versions(plural).await?;
        ensure!(old > 0 && new == 0, "{plural}: {old} and {new}");
    }
    rig.store(Stored::V3Alpha1)?;
    until("the storage version", || async {
        rig.plane.apply(
            "default",
            &mapping("v2", "probe", "prefix: /p/, service: p"),
        )?;
        ensure!(versions("mappings").await?.1 > 0, "still v2");
        Ok(())
    })
    .await?;
    let before = rig
        .mappings("v3alpha1")
        .list(&ListParams::default())
        .await?;

    // converts, but stores nothing
    let (old, new) = versions("mappings").await?;
    let dry = rig.migrate(&["--dry-run"])?;
    ensure!(dry.code() == Some(0), "{}", dry.report);
    let rewritten = dry.kind("Mapping")?["rewritten"].as_u64();
    ensure!(rewritten == Some((old + new) as u64), "{}", dry.report);
    ensure!(versions("mappings").await? == (old, new));
    ensure!(rig.stored_versions()? == ["v2", "v3alpha1"]);
    ensure!(rig.place()?.is_none());

    let run = rig.migrate(&[])?;
    ensure!(run.code() == Some(0), "{}", run.report);
    let found = run.kind("Mapping")?;
    ensure!(
        found["state"] == "migrated" && found["storedVersions"] == json!(["v3alpha1"]),
        "{found}"
    );
    ensure!(
        found["rewritten"] == old && found["current"] == new,
        "{found}"
    );
    for plural in &plurals {
        let (old, new) = versions(plural).await?;
        ensure!(old == 0 && new > 0, "{plural}: {old} and {new}");
        let get = [
            "get",
            "crd",
            &format!("{plural}.getambassador.io"),
            "-o",
            "json",
        ];
        let definition: Value = serde_json::from_str(&rig.plane.kubectl(&get, "")?)?;
        let stored = &definition["status"]["storedVersions"];
        ensure!(*stored == json!(["v3alpha1"]), "{plural}: {stored}");
    }
    ensure!(rig.place()?.is_none());
    // nothing that users see has changed
    let after = rig
        .mappings("v3alpha1")
        .list(&ListParams::default())
        .await?;
    ensure!(before.items.len() == after.items.len());
    for (mut before, after) in before.items.into_iter().zip(after.items) {
        before.metadata.resource_version = after.metadata.resource_version.clone();
        ensure!(before == after, "{before:?}\nis now\n{after:?}");
    }
    // and there is nothing left to do
    let again = rig.migrate(&[])?;
    ensure!(again.code() == Some(0), "{}", again.report);
    ensure!(
        again.kind("Mapping")?["state"] == "current",
        "{}",
        again.report
    );
    without_old_versions(&mut rig).await
}

/// Applies the example of each kind with several versions; returns the resources.
async fn one_of_each_kind(rig: &Rig) -> Result<Vec<String>> {
    let mut plurals = Vec::new();
    rig.plane
        .kubectl(&["create", "namespace", "certificates"], "")?;
    for entry in std::fs::read_dir(root().join("crds/tests/testdata"))? {
        let path = entry?.path();
        let kind = path.file_stem().unwrap_or_default().to_string_lossy();
        if kind == "listener" {
            continue;
        }
        let path = path.display().to_string();
        until(&path, || async {
            let apply = [&APPLY[..], &["-f", &path]].concat();
            rig.plane.kubectl(&apply, "").map(drop)
        })
        .await?;
        plurals.push(format!("{kind}s"));
    }
    ensure!(plurals.len() == KINDS, "{plurals:?}");
    Ok(plurals)
}

/// As the documentation has it: neither the webhook nor the older versions.
async fn without_old_versions(rig: &mut Rig) -> Result<()> {
    rig.kill(1);
    let none = json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}}).to_string();
    let get = ["get", "crd", "-o", "name"];
    let names = rig.plane.kubectl(&get, "")?;
    for name in names
        .lines()
        .filter(|name| name.ends_with(".getambassador.io"))
    {
        let patch = ["patch", name, "--type=merge", "-p", &none];
        rig.plane.kubectl(&patch, "")?;
    }
    let definitions = root().join("config/crd").display().to_string();
    let apply = [&APPLY[..], &["-k", &definitions]].concat();
    rig.plane.kubectl(&apply, "")?;
    let definition = rig.definition()?;
    let versions = definition["spec"]["versions"].as_array();
    ensure!(
        versions.is_some_and(|versions| versions.len() == 1),
        "{}",
        definition["spec"]["versions"]
    );
    until("objects without a webhook", || async {
        let read = rig.mappings("v3alpha1").get("old").await?;
        let spec = &read.data["spec"];
        ensure!(
            spec["hostname"] == "old.example" && spec["regex_headers"]["x-a"] == ".*",
            "{spec}"
        );
        Ok(())
    })
    .await
}

pub(crate) async fn a_migration_goes_on_where_it_was_interrupted() -> Result<()> {
    let number = std::env::var("APIEXT_OBJECTS").ok();
    let number = number.map_or(Ok(OBJECTS), |number| number.parse())?;
    let rig = Rig::with_migration(Stored::V2).await?;
    rig.make(number).await?;
    rig.store(Stored::V3Alpha1)?;
    // asked to stop: it remembers the place
    let mut first = rig.migration("nuncio-migration-1")?;
    until("a part", || async {
        ensure!(versions("mappings").await?.1 > number / 10, "nothing yet");
        Ok(())
    })
    .await?;
    first.signal(Signal::TERM);
    let status = first.exit(Duration::from_secs(5)).context("it goes on")?;
    ensure!(status.code() == Some(1), "{status}");
    let (old, new) = versions("mappings").await?;
    ensure!(old > 0, "all objects were stored at once");
    eprintln!("interrupted with {new} of {} objects", old + new);
    let place = rig.place()?.context("no place")?;
    ensure!(
        place.contains("migrating to v3alpha1, done up to default/many-"),
        "{place}"
    );
    ensure!(rig.stored_versions()? == ["v2", "v3alpha1"]);

    // killed
    let mut second = rig.migration("nuncio-migration-2")?;
    until("a further part", || async {
        let further = versions("mappings").await?.1;
        ensure!(further > new + number / 10, "{further}");
        Ok(())
    })
    .await?;
    second.kill();
    ensure!(versions("mappings").await?.0 > 0, "it was too fast");

    // to the end, while others edit and delete
    let start = Instant::now();
    let mut third = rig.migration("nuncio-migration-3")?;
    let mut memory = 0_f64;
    let (mut edited, mut deleted) = (0, 0);
    while third.is_running() {
        memory = memory.max(third.memory_mib());
        let place = number - 1 - edited - deleted;
        let name = format!("many-{place:05}");
        if place % 2 == 0 {
            let parameters = DeleteParams::default();
            rig.mappings("v2").delete(&name, &parameters).await?;
            deleted += 1;
        } else {
            let edit = Patch::Merge(json!({"spec": {"service": "edited"}}));
            let parameters = PatchParams::default();
            rig.mappings("v2").patch(&name, &parameters, &edit).await?;
            edited += 1;
        }
    }
    let taken = start.elapsed();
    let log = std::fs::read_to_string(&third.log)?;
    let report = log.split_once("\n{\n").context("no report")?.1;
    let report: Value = serde_json::from_str(&format!("{{{report}"))?;
    let found = &report["kinds"][0];
    eprintln!(
        "{taken:?}, {memory:.0} MiB, while {edited} were edited and {deleted} deleted: {found}"
    );
    ensure!(found["state"] == "migrated", "{found}");
    ensure!(
        found["skipped"].as_u64().is_some_and(|skipped| skipped > 0),
        "{found}"
    );
    ensure!(edited > 0 && deleted > 0, "nothing was edited");
    ensure!(memory < MEMORY, "{memory} MiB");
    let (old, new) = versions("mappings").await?;
    // the probe of the rig is one more
    ensure!(old == 0 && new == number + 1 - deleted, "{old} and {new}");
    ensure!(rig.stored_versions()? == ["v3alpha1"]);
    ensure!(rig.place()?.is_none());
    Ok(())
}

pub(crate) async fn an_object_that_cannot_be_stored_is_named() -> Result<()> {
    let rig = Rig::with_migration(Stored::V2).await?;
    // a schema that lets everything pass, as older releases have had
    let definition = rig.definition()?;
    let versions_of = definition["spec"]["versions"].as_array();
    let index = versions_of.into_iter().flatten();
    let index = index
        .map(|version| &version["name"])
        .position(|name| name == "v2");
    let index = index.context("no v2")?;
    let path = format!("/spec/versions/{index}/schema/openAPIV3Schema/properties/spec");
    let any = json!({"x-kubernetes-preserve-unknown-fields": true});
    let patch = json!([{"op": "replace", "path": path, "value": any}]).to_string();
    let patch = ["patch", "crd", DEFINITION, "--type=json", "-p", &patch];
    rig.plane.kubectl(&patch, "")?;
    for name in ["a-good", "c-good"] {
        let good = mapping("v2", name, "prefix: /, service: s");
        rig.plane.apply("default", &good)?;
    }
    let bad = "{apiVersion: getambassador.io/v2, kind: Mapping, metadata: {name: b-bad, namespace: default}, spec: text}";
    until("the other schema", || async {
        rig.plane
            .kubectl(&["create", "--validate=false", "-f", "-"], bad)
            .map(drop)
    })
    .await?;
    rig.store(Stored::V3Alpha1)?;
    let run = rig.migrate(&["--kind", "mapping"])?;
    ensure!(run.code() == Some(1), "{}", run.report);
    let found = run.kind("Mapping")?;
    ensure!(found["state"] == "failed", "{found}");
    let failed = found["failed"].as_array().context("no failures")?;
    ensure!(
        failed.len() == 1 && failed[0]["object"] == "default/b-bad",
        "{found}"
    );
    let reason = failed[0]["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("spec: must be an object"), "{reason}");
    // the others are stored, and nothing is lost
    let (old, new) = versions("mappings").await?;
    ensure!(old == 1 && new >= 2, "{old} and {new}");
    ensure!(rig.stored_versions()? == ["v2", "v3alpha1"]);
    let place = rig.place()?.context("no place")?;
    ensure!(place.ends_with("done up to default/a-good"), "{place}");

    // repaired while its version is the stored one; the apiserver converts it for any other write, even to delete it
    rig.store(Stored::V2)?;
    let fix = [
        "patch",
        "mappings.v2.getambassador.io",
        "b-bad",
        "--type=merge",
        "-p",
        r#"{"spec": {"prefix": "/", "service": "s"}}"#,
    ];
    until("the repair", || async {
        rig.plane.kubectl(&fix, "").map(drop)
    })
    .await?;
    rig.store(Stored::V3Alpha1)?;
    let run = rig.migrate(&["--kind", "mapping"])?;
    ensure!(run.code() == Some(0), "{}", run.report);
    ensure!(rig.stored_versions()? == ["v3alpha1"]);
    ensure!(versions("mappings").await?.0 == 0);
    Ok(())
}

pub(crate) async fn without_permission_or_conversion_nothing_is_stored() -> Result<()> {
    let rig = Rig::with_migration(Stored::V2).await?;
    rig.store(Stored::V3Alpha1)?;
    // the rules are those for definitions, for their status, and for objects
    for (rule, missing) in [
        (2, r#"cannot list resource "mappings""#),
        (
            1,
            r#"cannot patch resource "customresourcedefinitions/status""#,
        ),
        (0, r#"cannot get resource "customresourcedefinitions""#),
    ] {
        let patch = json!([{"op": "remove", "path": format!("/rules/{rule}")}]).to_string();
        let patch = ["patch", "clusterrole", ACCOUNT, "--type=json", "-p", &patch];
        rig.plane.kubectl(&patch, "")?;
        until(missing, || async {
            let run = rig.migrate(&["--kind", "mapping"])?;
            let found = run.kind("Mapping")?;
            let error = found["error"].as_str().unwrap_or_default();
            ensure!(run.code() == Some(1), "{found}");
            ensure!(
                error.contains("missing permission: ") && error.contains(missing),
                "{found}"
            );
            Ok(())
        })
        .await?;
    }
    let path = root().join("kustomize/components/migrate-storage/rbac.yaml");
    let path = path.display().to_string();
    rig.plane
        .kubectl(&[&APPLY[..], &["-f", &path]].concat(), "")?;
    // without a conversion, fields would be dropped
    let none = json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}}).to_string();
    let patch = ["patch", "crd", DEFINITION, "--type=merge", "-p", &none];
    rig.plane.kubectl(&patch, "")?;
    let (old, new) = versions("mappings").await?;
    ensure!(old > 0, "{old} and {new}");
    until("the error", || async {
        let run = rig.migrate(&["--kind", "mapping"])?;
        ensure!(run.code() == Some(1), "{}", run.report);
        let error = run.kind("Mapping")?["error"].as_str().unwrap_or_default();
        ensure!(error.contains("conversion strategy is None"), "{error}");
        Ok(())
    })
    .await?;
    ensure!(versions("mappings").await? == (old, new));
    Ok(())
}
