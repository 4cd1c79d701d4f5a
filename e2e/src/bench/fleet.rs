//! What one change costs the xDS server with many Envoys, which are simulated: gRPC clients that acknowledge what they get.

use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use futures::{StreamExt as _, channel::mpsc::unbounded};
use nuncio_xds::{
    Resource, ResourceType,
    ads::{Metrics, Server, Settings},
    cache::{self, Update, Writer},
    fleet::Fleet,
    pb::{
        envoy::{config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest},
        google::rpc,
    },
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, runtime, task::JoinSet, time::timeout};
use tonic::{Request, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::{Options, quantile::quantile, table};

/// Number of Envoys.
const ENVOYS: usize = 500;
/// Longest wait for all of them.
const PATIENCE: Duration = Duration::from_secs(120);
/// Name of the server's threads, by which their CPU time is found.
const SERVER: &str = "fleet-server";
/// Clients reject resources with this text.
const BAD: &[u8] = b"reject this";
/// Size of a resource.
const BYTES: usize = 300;
const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

/// The fields of a `DeltaDiscoveryResponse` that a client needs.
#[derive(Clone, PartialEq, prost::Message)]
struct Response {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// Measures one change, and one change right after every client has rejected another.
pub(super) async fn run(options: &Options) -> Result<()> {
    let title = format!("One change, {ENVOYS} simulated Envoys on one replica");
    let columns = [
        "resources",
        "change, best ms",
        "p50 ms",
        "p99 ms",
        "CPU of the server, p50 ms",
        "after 500 NACKs, best ms",
        "p50 ms",
        "memory per Envoy, KiB",
    ];
    table::head(&title, &columns, &[]);
    for size in options.sizes(&[1000, 10_000]) {
        let mut rig = Rig::start(size).await?;
        let (mut latencies, mut used) = (Vec::new(), Vec::new());
        for edit in 0..options.edits {
            let before = cpu()?;
            latencies.push(rig.change(edit).await?);
            used.push((cpu()? - before).as_secs_f64() * 1e3);
        }
        let mut after_nacks = Vec::new();
        for edit in 0..options.edits.min(20) {
            after_nacks.push(rig.change_after_nacks(options.edits + edit).await?);
        }
        table::row(&[
            size.to_string(),
            format!("{:.1}", quantile(0, &latencies)),
            format!("{:.1}", quantile(50, &latencies)),
            format!("{:.1}", quantile(99, &latencies)),
            format!("{:.1}", quantile(50, &used)),
            format!("{:.1}", quantile(0, &after_nacks)),
            format!("{:.1}", quantile(50, &after_nacks)),
            format!("{:.0}", rig.memory),
        ]);
    }
    Ok(())
}

struct Rig {
    writer: Writer,
    fleet: Fleet,
    size: usize,
    clients: JoinSet<Result<()>>,
    server: Option<runtime::Runtime>,
    /// KiB for each Envoy, of the server and of the simulated Envoy.
    memory: f64,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.shutdown_background();
        }
    }
}

impl Rig {
    /// A server with this many resources, which all clients have.
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
        let service = Server::new(cache, fleet.clone(), Settings::default(), metrics);
        server.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("it was a listener of tokio");
            let _ = service.serve(listener, std::future::pending()).await;
        });
        let mut rig = Self {
            writer,
            fleet,
            size,
            clients: JoinSet::new(),
            server: Some(server),
            memory: 0.0,
        };
        let all = (0..size).map(|n| resource(n, "first"));
        let seq = rig.apply(all.collect());
        let before = resident()?;
        for n in 0..ENVOYS {
            rig.clients.spawn(client(address, n));
        }
        rig.acknowledged(seq).await?;
        rig.memory = (resident()? - before) / ENVOYS as f64;
        Ok(rig)
    }

    fn apply(&mut self, upserts: Vec<Resource>) -> u64 {
        self.writer.apply(Update {
            upserts,
            ..Update::default()
        })
    }

    /// Waits until all clients have acknowledged this snapshot.
    async fn acknowledged(&mut self, seq: u64) -> Result<()> {
        let mut changes = self.fleet.subscribe_acknowledged();
        let wait = async {
            loop {
                let counts = self.fleet.acked_counts();
                if counts.range(seq..).map(|(_, count)| count).sum::<usize>() == ENVOYS {
                    return Ok(());
                }
                tokio::select! {
                    changed = changes.changed() => changed?,
                    Some(ended) = self.clients.join_next() => return ended?,
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
        let seq = self.apply(vec![resource(edit % self.size, &format!("edit {edit}"))]);
        self.acknowledged(seq).await?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    /// The same while all clients reject another.
    async fn change_after_nacks(&mut self, edit: usize) -> Result<f64> {
        let bad = format!("{} {edit}", String::from_utf8_lossy(BAD));
        self.apply(vec![resource(0, &bad)]);
        let mut rejections = self.fleet.subscribe_rejections();
        while self.fleet.rejections().is_empty() {
            timeout(PATIENCE, rejections.changed()).await??;
        }
        let after = self.change(edit + 1).await?;
        let seq = self.apply(vec![resource(0, &format!("good {edit}"))]);
        self.acknowledged(seq).await?;
        ensure!(
            self.fleet.rejections().is_empty(),
            "a good version is rejected"
        );
        Ok(after)
    }
}

fn resource(n: usize, text: &str) -> Resource {
    let kind = ResourceType::ALL[n % 3];
    Resource::new(
        kind,
        format!("resource-{n}"),
        format!("{text:BYTES$}").into(),
    )
}

/// A client that subscribes to everything and acknowledges it, except for bad resources.
async fn client(address: SocketAddr, n: usize) -> Result<()> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(64 << 20);
    grpc.ready().await?;
    let (requests, receiver) = unbounded();
    for kind in ResourceType::ALL {
        requests.unbounded_send(DeltaDiscoveryRequest {
            node: Some(Node {
                id: format!("envoy-{n}"),
                ..Node::default()
            }),
            type_url: kind.type_url().to_owned(),
            ..DeltaDiscoveryRequest::default()
        })?;
    }
    let codec: ProstCodec<DeltaDiscoveryRequest, Response> = ProstCodec::default();
    let path = METHOD.parse()?;
    let responses = grpc.streaming(Request::new(receiver), path, codec).await?;
    let mut responses = responses.into_inner();
    while let Some(response) = responses.next().await {
        let response = response?;
        let is_bad = |resource: &Bytes| resource.windows(BAD.len()).any(|part| part == BAD);
        let error = response.resources.len() == 1 && response.resources.iter().any(is_bad);
        requests.unbounded_send(DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: error.then(|| rpc::Status {
                message: "no".to_owned(),
                ..rpc::Status::default()
            }),
            ..DeltaDiscoveryRequest::default()
        })?;
    }
    Ok(())
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

/// Resident memory of this process in KiB.
fn resident() -> Result<f64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    Ok(kib.context("no memory")?.trim().parse()?)
}
