//! Requests that need conversions, one after the other without a pause, and what fails of them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use kube::{
    Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::rig::{Rig, mapping, mappings};

/// Clients at a time.
const CLIENTS: u32 = 3;
/// Longest list of failures that is shown.
const SHOWN: usize = 10;

/// Requests that go on until they are finished.
pub(super) struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    calls: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Makes an object for each client, and starts.
    pub(super) fn start(rig: &Rig) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let name = format!("load-{number}");
            let object = mapping(
                "v2",
                &name,
                "prefix: /load/, service: s, host: load.example",
            );
            rig.plane.apply("default", &object)?;
            tasks.spawn(client(rig.client.clone(), name, shared.clone()));
        }
        Ok(Self { shared, tasks })
    }

    /// Waits for some more requests.
    pub(super) async fn proceed(&self) {
        let target = self.calls() + 100;
        while self.calls() < target {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many requests there were.
    pub(super) fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// How many requests have failed.
    pub(super) fn failures(&self) -> usize {
        self.shared.lock().len()
    }

    /// Ends; an error if a request has failed.
    pub(super) async fn finish(mut self) -> Result<u64> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        while self.tasks.join_next().await.is_some() {}
        let calls = self.calls();
        let failures = self.shared.lock();
        let number = failures.len();
        let shown: Vec<_> = failures.iter().take(SHOWN).cloned().collect();
        ensure!(
            number == 0,
            "{number} of {calls} requests failed:\n{}",
            shown.join("\n")
        );
        Ok(calls)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Edits an object in one version after the other, and reads it in the other ones.
async fn client(client: Client, name: String, shared: Arc<Shared>) {
    let versions = ["v1", "v2", "v3alpha1"];
    let apis = versions.map(|version| (version, mappings(&client, version)));
    let start = std::time::Instant::now();
    let mut round = 0;
    while !shared.is_over.load(Ordering::Relaxed) {
        for (version, api) in &apis {
            round += 1;
            let prefix = format!("/load/{round}/");
            let patch = Patch::Merge(json!({"spec": {"prefix": prefix}}));
            let patched = api.patch(&name, &PatchParams::default(), &patch).await;
            let mut results = vec![("patch", *version, patched.map(drop))];
            for (version, api) in &apis {
                let read = api.get(&name).await.map(|object| {
                    let found = object.data["spec"]["prefix"].clone();
                    (found != prefix.as_str()).then_some(found)
                });
                if let Ok(Some(found)) = &read {
                    let text = format!("get {version} has {found} instead of {prefix}");
                    shared.lock().push(text);
                }
                results.push(("get", *version, read.map(drop)));
                let listed = api.list(&ListParams::default()).await;
                results.push(("list", *version, listed.map(drop)));
            }
            for (verb, version, result) in results {
                shared.calls.fetch_add(1, Ordering::Relaxed);
                if let Err(error) = result {
                    let seconds = start.elapsed().as_secs_f64();
                    let text = format!("{seconds:.2} s: {verb} {version}: {error}");
                    shared.lock().push(text);
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
