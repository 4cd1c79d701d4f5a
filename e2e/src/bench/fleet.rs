//! What one change costs the xDS server with many Envoys, and what their streams keep in memory. The Envoys are simulated.

mod envoys;

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nuncio_xds::{
    Resource, ResourceType,
    ads::{Metrics, Server, Settings},
    cache::{self, Update, Writer},
    fleet::Fleet,
};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    process::Child,
    runtime,
    time::{sleep, timeout},
};

pub use envoys::{Variant, run as run_envoys};

use super::{Options, quantile::quantile, table};

/// Number of Envoys.
const ENVOYS: usize = 500;
/// Longest wait for all of them.
const PATIENCE: Duration = Duration::from_secs(300);
/// Name of the server's threads, by which their CPU time is found.
const SERVER: &str = "fleet-server";
/// Clients reject resources with this text.
const BAD: &[u8] = b"reject this";
/// Number of route tables, over which the routes are spread.
const TABLES: usize = 100;
/// Bytes of a cluster, of the endpoints of a cluster, and of a route.
const CLUSTER: usize = 300;
const ENDPOINTS: usize = 300;
const ROUTE: usize = 150;
/// How long memory settles after all Envoys are gone.
const SETTLE: Duration = Duration::from_secs(3);

/// Measures one change, one change right after every client has rejected another, and memory.
pub(super) async fn run(options: &Options) -> Result<()> {
    let title = format!(
        "One change, {ENVOYS} simulated Envoys on one replica. N clusters with endpoints each, and {TABLES} tables with N \
         routes. Memory is that of the server's process, in MiB: before, at the peak while all connect, with all of \
         them, after the changes, and after all are gone"
    );
    let columns = [
        "N",
        "variant",
        "all connected, s",
        "change, best ms",
        "p50 ms",
        "p99 ms",
        "CPU, p50 ms",
        "after 500 NACKs, p50 ms",
        "KiB per stream",
        "memory",
    ];
    table::head(&title, &columns, &["variant", "memory"]);
    for size in options.sizes(&[1000, 10_000]) {
        for variant in options.variants() {
            table::row(&measure(options, size, variant).await?);
        }
    }
    Ok(())
}

async fn measure(options: &Options, size: usize, variant: Variant) -> Result<Vec<String>> {
    // a full state for each change takes a while
    let edits = match variant {
        Variant::Delta => options.edits,
        Variant::Sotw => options.edits.min(10),
    };
    let mut rig = Rig::start(size).await?;
    let before = memory()?;
    let connected = rig.connect(variant).await?;
    let peak = memory_of("VmHWM")?;
    let with_all = memory()?;
    let (mut latencies, mut used) = (Vec::new(), Vec::new());
    for edit in 0..edits {
        let before = cpu()?;
        latencies.push(rig.change(edit).await?);
        used.push((cpu()? - before).as_secs_f64() * 1e3);
    }
    let mut after_nacks = Vec::new();
    if variant == Variant::Delta {
        for edit in 0..options.edits.min(20) {
            after_nacks.push(rig.change_after_nacks(options.edits + edit).await?);
        }
    }
    let after_changes = memory()?;
    rig.disconnect().await?;
    let after_all = memory()?;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let per_stream = (with_all.max(after_changes) - before) * 1024.0 / ENVOYS as f64;
    let memory = [before, peak, with_all, after_changes, after_all];
    Ok(vec![
        size.to_string(),
        variant.text().to_owned(),
        format!("{connected:.1}"),
        format!("{:.1}", quantile(0, &latencies)),
        format!("{:.1}", quantile(50, &latencies)),
        format!("{:.1}", quantile(99, &latencies)),
        format!("{:.1}", quantile(50, &used)),
        format!("{:.1}", quantile(50, &after_nacks)),
        format!("{per_stream:.0}"),
        memory.map(|mib| format!("{mib:.0}")).join(" / "),
    ])
}

struct Rig {
    writer: Writer,
    fleet: Fleet,
    size: usize,
    address: std::net::SocketAddr,
    envoys: Option<Child>,
    server: Option<runtime::Runtime>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

impl Rig {
    /// A server with the resources of this many Mappings.
    async fn start(size: usize) -> Result<Self> {
        let server = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(SERVER)
            .enable_all()
            .build()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let listener = listener.into_std()?;
        let (writer, cache) = cache::channel();
        let fleet = Fleet::new();
        let metrics = Metrics::new(&mut Registry::default());
        let settings = Settings {
            idle_timeout: PATIENCE,
            ..Settings::default()
        };
        let service = Server::new(cache, fleet.clone(), settings, metrics);
        server.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("it was a listener of tokio");
            let _ = service.serve(listener, std::future::pending()).await;
        });
        let mut rig = Self {
            writer,
            fleet,
            size,
            address,
            envoys: None,
            server: Some(server),
        };
        rig.apply(configuration(size));
        Ok(rig)
    }

    fn apply(&mut self, upserts: Vec<Resource>) -> u64 {
        self.writer.apply(Update {
            upserts,
            ..Update::default()
        })
    }

    /// How many seconds it takes until all Envoys have the configuration.
    async fn connect(&mut self, variant: Variant) -> Result<f64> {
        // from here on the peak of memory is recorded
        fs::write("/proc/self/clear_refs", "5")?;
        let started = Instant::now();
        self.envoys = Some(envoys::start(self.address, variant)?);
        let seq = self.writer.apply(Update::default());
        self.acknowledged(seq).await?;
        // a client with all clusters and listeners can be without endpoints and tables
        let mut counted = 0;
        while counted < 3 {
            sleep(Duration::from_millis(100)).await;
            let is_idle = self.fleet.acked_counts().keys().all(|acked| *acked >= seq);
            counted = if is_idle { counted + 1 } else { 0 };
        }
        Ok((started.elapsed() - Duration::from_millis(300)).as_secs_f64())
    }

    async fn disconnect(&mut self) -> Result<()> {
        if let Some(mut envoys) = self.envoys.take() {
            envoys.kill().await?;
        }
        let started = Instant::now();
        while !self.fleet.acked_counts().is_empty() {
            ensure!(started.elapsed() < PATIENCE, "streams do not end");
            sleep(Duration::from_millis(50)).await;
        }
        sleep(SETTLE).await;
        Ok(())
    }

    /// Waits until all clients have acknowledged this snapshot.
    async fn acknowledged(&mut self, seq: u64) -> Result<()> {
        let mut changes = self.fleet.subscribe_acknowledged();
        let envoys = self.envoys.as_mut().context("no Envoys")?;
        let wait = async {
            loop {
                let counts = self.fleet.acked_counts();
                if counts.range(seq..).map(|(_, count)| count).sum::<usize>() == ENVOYS {
                    return Ok(());
                }
                tokio::select! {
                    changed = changes.changed() => changed?,
                    ended = envoys.wait() => bail!("the Envoys ended: {}", ended?),
                }
            }
        };
        timeout(PATIENCE, wait)
            .await
            .context("no acknowledgement")?
    }

    /// How many milliseconds it takes until all clients have a change.
    async fn change(&mut self, edit: usize) -> Result<f64> {
        let started = Instant::now();
        let seq = self.apply(vec![endpoints(edit % self.size, &format!("edit {edit}"))]);
        self.acknowledged(seq).await?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    /// The same while all clients reject another.
    async fn change_after_nacks(&mut self, edit: usize) -> Result<f64> {
        let bad = format!("{} {edit}", String::from_utf8_lossy(BAD));
        self.apply(vec![endpoints(0, &bad)]);
        let mut rejections = self.fleet.subscribe_rejections();
        while self.fleet.rejections().is_empty() {
            timeout(PATIENCE, rejections.changed()).await??;
        }
        let after = self.change(edit + 1).await?;
        let seq = self.apply(vec![endpoints(0, &format!("good {edit}"))]);
        self.acknowledged(seq).await?;
        ensure!(
            self.fleet.rejections().is_empty(),
            "a good version is rejected"
        );
        Ok(after)
    }
}

/// What this many Mappings on [`TABLES`] Hosts become.
fn configuration(size: usize) -> Vec<Resource> {
    let mut all = Vec::new();
    for n in 0..size {
        let refs = [(ResourceType::Endpoints, name(n).into())];
        let cluster = resource(ResourceType::Cluster, &name(n), "first", CLUSTER);
        all.push(cluster.with_refs(refs));
        all.push(endpoints(n, "first"));
    }
    for table in 0..TABLES {
        let clusters = (table..size).step_by(TABLES);
        let bytes = ROUTE * clusters.len();
        let refs = clusters.map(|n| (ResourceType::Cluster, name(n).into()));
        let table = resource(
            ResourceType::RouteTable,
            &table_name(table),
            "first",
            bytes.max(ROUTE),
        );
        all.push(table.with_refs(refs));
    }
    let tables = (0..TABLES).map(|n| (ResourceType::RouteTable, table_name(n).into()));
    let listener = resource(ResourceType::Listener, "listener", "first", 1000);
    all.push(listener.with_refs(tables));
    all
}

/// Name of a cluster and of its endpoints.
fn name(n: usize) -> String {
    format!("cluster_default_service-{n}_8080")
}

fn table_name(n: usize) -> String {
    format!("https-8443/default/host-{n}")
}

fn endpoints(n: usize, text: &str) -> Resource {
    resource(ResourceType::Endpoints, &name(n), text, ENDPOINTS)
}

/// A resource of this size, of which the start is this text and the name.
fn resource(kind: ResourceType, name: &str, text: &str, bytes: usize) -> Resource {
    let text = format!("{text} {name}");
    Resource::new(kind, name, format!("{text:bytes$}").into())
}

/// CPU time of the server's threads.
fn cpu() -> Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir("/proc/self/task")? {
        let path = task?.path();
        if fs::read_to_string(path.join("comm"))?.trim() == SERVER {
            let text = fs::read_to_string(path.join("schedstat"))?;
            let nanoseconds = text.split(' ').next().context("no CPU time")?.parse()?;
            total += Duration::from_nanos(nanoseconds);
        }
    }
    Ok(total)
}

/// Resident memory of this process in MiB.
fn memory() -> Result<f64> {
    memory_of("VmRSS")
}

fn memory_of(field: &str) -> Result<f64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib: f64 = kib.context("no memory")?.trim().parse()?;
    Ok(kib / 1024.0)
}
