//! What a stream keeps in memory, counted byte by byte, and what it holds while its client does not read. The clients run in
//! a process of their own.

use std::{
    alloc::System,
    env,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nuncio_xds::{
    Resource, ResourceType,
    ads::{Metrics, Server, Settings},
    cache::{self, Update, Writer},
    fleet::Fleet,
};
use prometheus_client::registry::Registry;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{
    net::TcpListener,
    runtime,
    time::{sleep, timeout},
};

mod clients;

use clients::Behaviour;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Tells this program to run clients.
const CLIENTS: &str = "NUNCIO_MEMORY_CLIENTS";
/// Number of clusters, each with endpoints; and of tables.
const CLUSTERS: usize = 2_000;
const TABLES: usize = 100;
/// Number of clients that connect first, so that what all streams share is there, and then.
const FIRST: usize = 2;
const MORE: usize = 10;
const PATIENCE: Duration = Duration::from_secs(120);

/// Recorded baselines, in bytes that a stream keeps when its client has everything. Growth by more than 10 % is an error;
/// after a reduction, record the new number.
const DELTA: usize = 54_700;
const SOTW: usize = 54_500;

/// Bytes that a stream may hold while its client does not read.
const STALLED: usize = 200 << 10;

#[test]
fn delta_stream_keeps_little() -> Result<()> {
    keeps(Behaviour::Delta, DELTA + DELTA / 10, DELTA / 10)
}

#[test]
fn sotw_stream_keeps_little() -> Result<()> {
    keeps(Behaviour::Sotw, SOTW + SOTW / 10, SOTW / 10)
}

#[test]
fn stream_of_a_client_that_does_not_read_holds_little() -> Result<()> {
    keeps(Behaviour::Stalled, STALLED, DELTA / 10)
}

/// Not a test: what the other process runs.
#[test]
fn clients() -> Result<()> {
    let Ok(text) = env::var(CLIENTS) else {
        return Ok(());
    };
    let mut words = text.split(' ');
    let mut word = || words.next().context("no word");
    let (address, behaviour, count) = (word()?.parse()?, word()?, word()?.parse()?);
    let behaviour = Behaviour::parse(behaviour).context("no behaviour")?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(clients::run(address, behaviour, count))
}

/// Each stream keeps at most so many bytes while it is open, and afterwards.
fn keeps(behaviour: Behaviour, most: usize, most_after: usize) -> Result<()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ALONE.lock();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (kept, left) = runtime.block_on(measure(behaviour))?;
    ensure!(
        kept <= most,
        "a stream keeps {kept} bytes, more than {most}"
    );
    ensure!(
        left <= most_after,
        "a stream that has ended keeps {left} bytes, more than {most_after}"
    );
    Ok(())
}

/// Bytes that each stream keeps, while it is open and afterwards.
async fn measure(behaviour: Behaviour) -> Result<(usize, usize)> {
    let mut rig = Rig::start().await?;
    let first = match behaviour {
        Behaviour::Sotw => Behaviour::Sotw,
        Behaviour::Delta | Behaviour::Stalled => Behaviour::Delta,
    };
    let _first = rig.connect(first, FIRST).await?;
    let before = rig.held().await?;
    let more = rig.connect(behaviour, MORE).await?;
    let during = rig.held().await?;
    drop(more);
    rig.has_streams(FIRST).await?;
    rig.reading = FIRST;
    let after = rig.held().await?;
    let each = |held: usize| held.saturating_sub(before) / MORE;
    Ok((each(during), each(after)))
}

/// A process with clients.
struct Clients(Child);

impl Drop for Clients {
    fn drop(&mut self) {
        // it can have ended by itself
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Rig {
    writer: Writer,
    fleet: Fleet,
    address: SocketAddr,
    edits: usize,
    /// Number of clients that read.
    reading: usize,
}

impl Rig {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (writer, cache) = cache::channel();
        let fleet = Fleet::new();
        let metrics = Metrics::new(&mut Registry::default());
        let server = Server::new(cache, fleet.clone(), Settings::default(), metrics);
        tokio::spawn(server.serve(listener, std::future::pending()));
        let mut rig = Self {
            writer,
            fleet,
            address,
            edits: 0,
            reading: 0,
        };
        rig.apply(configuration());
        Ok(rig)
    }

    fn apply(&mut self, upserts: Vec<Resource>) -> u64 {
        self.writer.apply(Update {
            upserts,
            ..Update::default()
        })
    }

    /// Adds clients, and waits until they have everything, or as much as can be sent.
    async fn connect(&mut self, behaviour: Behaviour, count: usize) -> Result<Clients> {
        let before: usize = self.fleet.acked_counts().values().sum();
        let child = Command::new(env::current_exe()?)
            .args(["--exact", "clients"])
            .env(CLIENTS, format!("{} {behaviour:?} {count}", self.address))
            .stdout(Stdio::null())
            .spawn()?;
        let clients = Clients(child);
        self.has_streams(before + count).await?;
        if behaviour != Behaviour::Stalled {
            self.reading += count;
        }
        let seq = self.writer.apply(Update::default());
        self.is_acknowledged(seq).await?;
        Ok(clients)
    }

    async fn has_streams(&self, count: usize) -> Result<()> {
        self.wait(|fleet| fleet.acked_counts().values().sum::<usize>() == count)
            .await
    }

    async fn is_acknowledged(&self, seq: u64) -> Result<()> {
        self.wait(|fleet| fleet.acked_counts().get(&seq) == Some(&self.reading))
            .await
    }

    async fn wait(&self, is: impl Fn(&Fleet) -> bool) -> Result<()> {
        let wait = async {
            // several times in a row: a client subscribes to endpoints and tables when it has the rest
            let mut quiet = 0;
            while quiet < 10 {
                quiet = if is(&self.fleet) { quiet + 1 } else { 0 };
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, wait).await.context("timed out")
    }

    /// Bytes in use, after changes of each type that all clients have got.
    async fn held(&mut self) -> Result<usize> {
        for kind in [
            ResourceType::Cluster,
            ResourceType::Endpoints,
            ResourceType::Listener,
            ResourceType::RouteTable,
        ] {
            self.edits += 1;
            let text = format!("edit {}", self.edits);
            let seq = self.apply(vec![match kind {
                ResourceType::RouteTable => resource(kind, &clients::table(7), &text, 15_000),
                ResourceType::Listener => resource(kind, "listener", &text, 1_000),
                _ => resource(kind, &clients::cluster(7), &text, 300),
            }]);
            self.is_acknowledged(seq).await?;
        }
        let stats = ALLOCATOR.stats();
        Ok(stats.bytes_allocated - stats.bytes_deallocated)
    }
}

fn configuration() -> Vec<Resource> {
    let mut all = vec![resource(ResourceType::Listener, "listener", "first", 1_000)];
    for n in 0..CLUSTERS {
        for kind in [ResourceType::Cluster, ResourceType::Endpoints] {
            all.push(resource(kind, &clients::cluster(n), "first", 300));
        }
    }
    for n in 0..TABLES {
        let name = clients::table(n);
        all.push(resource(ResourceType::RouteTable, &name, "first", 15_000));
    }
    all
}

fn resource(kind: ResourceType, name: &str, text: &str, bytes: usize) -> Resource {
    let text = format!("{text} {name}");
    Resource::new(kind, name, format!("{text:bytes$}").into())
}
