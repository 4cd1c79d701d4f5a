//! Part `endpoints`: how long a change of endpoints takes from the apiserver to traffic, alone and while the endpoints of other
//! Services change many times a second, and what such changes cost.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, sleep},
};

use crate::client::Connection;

use super::{
    cost::{Cost, settle},
    latencies::Latencies,
    options::Options,
    rig::{HTTP, Rig},
    table,
};

/// How many requests to the apiserver are under way at most.
const WRITERS: u32 = 32;
/// Longest wait for a change to reach traffic.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long others change before anything is measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long others are counted at least.
const WINDOW: Duration = Duration::from_secs(5);
/// Addresses and names of the two backends.
const BACKENDS: [(&str, &str); 2] = [("10.96.1.1", "one"), ("10.96.1.2", "two")];

/// Measures all sizes, without other changes and with them.
pub(super) async fn run(options: &Options) -> Result<()> {
    table::head(
        "Changes of endpoints, of Services with a Mapping each. Times are in milliseconds, p50 / p99 / max, from sending the \
         request to the apiserver to the first answer of another backend; in brackets p50 from the apiserver's answer. \
         Meanwhile the endpoints of other Services change this often, if the apiserver is as fast. CPU is for each of all changes, in \
         milliseconds: that of the operator; that of Envoy's main thread, which takes configuration. Bytes are those sent \
         to Envoy for each change.",
        &[
            "Services",
            "others per second, wanted",
            "others per second",
            "time",
            "CPU",
            "CPU of Envoy",
            "bytes",
        ],
        &[],
    );
    for size in options.sizes(&[100, 1_000]) {
        let rig = Rig::start(&manifests(size)?).await?;
        let probe = Probe {
            api: slices(&rig.client),
        };
        probe
            .shows(&mut Connection::open(HTTP).await?, BACKENDS[0].1)
            .await?;
        settle(&rig.replica).await?;
        for rate in [0, options.rate / 10, options.rate] {
            table::row(&measure(&rig, &probe, size, rate, options.edits).await?);
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
async fn measure(
    rig: &Rig,
    probe: &Probe,
    size: usize,
    rate: u32,
    edits: usize,
) -> Result<Vec<String>> {
    let others = Others::start(&rig.client, size, rate);
    sleep(WARM_UP).await;
    let (start, changed) = (Instant::now(), others.changed());
    let before = Cost::now(rig).await?;
    let times = probe.edits(edits).await?;
    sleep(WINDOW.saturating_sub(start.elapsed())).await;
    let changed = others.changed() - changed;
    let cost = Cost::now(rig).await?.since(&before, changed + edits);
    Ok(vec![
        size.to_string(),
        rate.to_string(),
        format!("{:.0}", changed as f64 / start.elapsed().as_secs_f64()),
        times.to_string(),
        format!("{:.2}", cost.cpu * 1e3),
        format!("{:.2}", cost.envoy_cpu * 1e3),
        format!("{:.0}", cost.bytes),
    ])
}

/// The Host, and Services `e-NUMBER` with endpoints and a Mapping. The first is the one that is measured.
fn manifests(size: usize) -> Result<String> {
    let mut manifests = "\
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: host, namespace: default}
spec: {hostname: host.example, requestPolicy: {insecure: {action: Route}}}
---
"
    .to_owned();
    for number in 0..=size {
        let address = format!("10.96.{}.{}", 100 + number / 250, 1 + number % 250);
        let endpoint = BACKENDS[0].0;
        write!(
            manifests,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: e-{number}, namespace: default}}\n\
             spec: {{clusterIP: {address}, ports: [{{name: http, port: 80}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: e-{number}, namespace: default, labels: {{kubernetes.io/service-name: e-{number}}}}}\n\
             addressType: IPv4\nports: [{{name: http, port: 80}}]\nendpoints: [{{addresses: [{endpoint}]}}]\n---\n\
             apiVersion: getambassador.io/v3alpha1\nkind: Mapping\nmetadata: {{name: e-{number}, namespace: default}}\n\
             spec: {{hostname: host.example, prefix: /e-{number}/, service: e-{number}, resolver: endpoint}}\n---\n",
        )?;
    }
    Ok(manifests)
}

fn slices(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<k8s_openapi::api::discovery::v1::EndpointSlice>(&());
    Api::namespaced_with(client.clone(), "default", &resource)
}

async fn set(api: &Api<DynamicObject>, number: usize, address: &str) -> kube::Result<()> {
    let patch = Patch::Merge(json!({"endpoints": [{"addresses": [address]}]}));
    let (name, params) = (format!("e-{number}"), PatchParams::default());
    api.patch(&name, &params, &patch).await.map(drop)
}

/// The Service that is measured.
struct Probe {
    api: Api<DynamicObject>,
}

impl Probe {
    async fn edits(&self, count: usize) -> Result<Latencies> {
        let mut times = Latencies::default();
        let mut connection = Connection::open(HTTP).await?;
        for edit in 1..=count {
            let (address, name) = BACKENDS[edit % 2];
            let sent = Instant::now();
            set(&self.api, 0, address).await?;
            let answered = Instant::now();
            self.shows(&mut connection, name).await?;
            times.add(sent.elapsed(), answered.elapsed());
        }
        // as it was before
        set(&self.api, 0, BACKENDS[0].0).await?;
        self.shows(&mut connection, BACKENDS[0].1).await?;
        Ok(times)
    }

    /// Waits until this backend answers. Envoy may close the connection in between: then there is a new one.
    async fn shows(&self, connection: &mut Connection, name: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            match connection.get("host.example", "/e-0/").await {
                Ok(answer) if answer.status == 200 && answer.body.starts_with(name) => {
                    return Ok(());
                }
                Ok(_) => {}
                Err(_closed) => *connection = Connection::open(HTTP).await?,
            }
            ensure!(start.elapsed() < PATIENCE, "{name} does not answer");
            sleep(Duration::from_micros(300)).await;
        }
    }
}

/// Changes of the other Services. They end when dropped.
struct Others {
    changed: Arc<AtomicUsize>,
    _writers: JoinSet<()>,
}

impl Others {
    /// Starts this many changes a second.
    fn start(client: &Client, size: usize, rate: u32) -> Self {
        let changed = Arc::new(AtomicUsize::new(0));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (api, changed) = (slices(client), changed.clone());
            if rate == 0 {
                continue;
            }
            writers.spawn(async move {
                let own = Duration::from_secs(1) * WRITERS / rate;
                let start = tokio::time::Instant::now() + own * writer / WRITERS;
                let mut ticks = interval_at(start, own);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let number = changed.fetch_add(1, Ordering::Relaxed);
                    let address = format!("10.244.{}.{}", number / 250 % 250, 1 + number % 250);
                    // one that fails is not repeated: the next follows
                    let _ = set(&api, 1 + number % size, &address).await;
                }
            });
        }
        Self {
            changed,
            _writers: writers,
        }
    }

    /// How many have been made so far.
    fn changed(&self) -> usize {
        self.changed.load(Ordering::Relaxed)
    }
}
