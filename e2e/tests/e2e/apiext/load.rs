//! Requests that need conversions, one after the other without a pause, and what fails of them. The apiserver keeps its
//! connections, so that it would rarely notice a certificate that it does not trust; [`late_apiserver`] verifies all the time.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use k8s_openapi::{
    ByteString, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use nuncio_e2e::{
    client::Connection,
    control_plane::{ControlPlane, page},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::rig::{Rig, SERVER_NAME, address, health, mapping, mappings};

/// Clients at a time.
const CLIENTS: u32 = 3;
/// How late an apiserver learns of a change. Replicas wait for longer.
const LATE: Duration = Duration::from_secs(3);
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
    /// Makes an object for each client, and starts; with what verifies certificates as a late apiserver does.
    pub(super) fn start(rig: &Rig) -> Result<Self> {
        let mut load = Self::start_in(&rig.plane, &rig.client)?;
        let late = late_apiserver(rig.client.clone(), load.shared.clone());
        load.tasks.spawn(late);
        Ok(load)
    }

    /// The same in any cluster, without the verification.
    pub(super) fn start_in(plane: &ControlPlane, client: &Client) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for number in 0..CLIENTS {
            let name = format!("load-{number}");
            let object = mapping(
                "v2",
                &name,
                "prefix: /load/, service: s, host: load.example",
            );
            plane.apply("default", &object)?;
            tasks.spawn(edit(client.clone(), name, shared.clone()));
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

/// Connects to all replicas that are ready like an apiserver that learns of each `caBundle` some seconds late.
async fn late_apiserver(client: Client, shared: Arc<Shared>) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client);
    let mut bundles = VecDeque::new();
    while !shared.is_over.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(20)).await;
        let Ok(definition) = definitions.get("mappings.getambassador.io").await else {
            shared.lock().push("get definition failed".to_owned());
            continue;
        };
        let bundle = serde_json::to_value(&definition.spec.conversion).unwrap_or_default();
        let bundle: Option<ByteString> = bundle
            .pointer("/webhook/clientConfig/caBundle")
            .and_then(|bundle| serde_json::from_value(bundle.clone()).ok());
        bundles.push_back((Instant::now(), bundle.unwrap_or_default().0));
        while bundles.get(1).is_some_and(|(at, _)| at.elapsed() > LATE) {
            bundles.pop_front();
        }
        let Some((_, bundle)) = bundles.front() else {
            continue;
        };
        for number in 1..=3 {
            // the end of a replica is no matter of trust
            if page(&health(number), "/probes/ready").await.is_err() {
                continue;
            }
            shared.calls.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = handshake(number, bundle).await
                && page(&health(number), "/probes/ready").await.is_ok()
            {
                let text = format!("handshake with replica {number}: {error:#}");
                shared.lock().push(text);
            }
        }
    }
}

async fn handshake(number: u8, bundle: &[u8]) -> Result<()> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(bundle) {
        roots.add(root?)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = address(number);
    let opened = Connection::open_tls(&address, SERVER_NAME, config.into());
    opened.await.map(drop)
}

/// Edits an object in one version after the other, and reads it in the other ones.
async fn edit(client: Client, name: String, shared: Arc<Shared>) {
    let versions = ["v1", "v2", "v3alpha1"];
    let apis = versions.map(|version| (version, mappings(&client, version)));
    let start = Instant::now();
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
