//! Simulated Envoys: gRPC clients that subscribe as Envoy does and acknowledge what they get, except for bad resources. They
//! keep nothing, and run in a process of their own, so that memory and CPU of the server can be measured apart from theirs.

use std::{net::SocketAddr, process::Stdio, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::ValueEnum;
use futures::{
    StreamExt as _,
    channel::mpsc::{UnboundedSender, unbounded},
};
use nuncio_xds::{
    ResourceType,
    pb::{
        envoy::{
            config::core::v3::Node,
            service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
        },
        google::rpc,
    },
};
use prost::Message;
use tokio::{
    process::{Child, Command},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tonic::{Request, Streaming, client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::{BAD, ENVOYS, TABLES, name, table_name};

/// How many clients connect and get their first configuration at a time: the kernel's queue of connections is shorter than
/// the fleet, and all share two CPUs.
const CONNECTING: usize = 20;
const SERVICE: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService";

/// Variant of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// Delta
    Delta,
    /// State of the world
    Sotw,
}

impl Variant {
    /// As on the command line.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Delta => "delta",
            Self::Sotw => "sotw",
        }
    }
}

/// Starts this program again, as all simulated Envoys.
pub(super) fn start(address: SocketAddr, variant: Variant) -> Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["--envoys-of", &address.to_string()])
        .args(["--variant", variant.text()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the simulated Envoys")
}

/// Runs all simulated Envoys.
///
/// # Errors
/// A stream ends.
pub async fn run(address: SocketAddr, variant: Variant) -> Result<()> {
    let connecting = Arc::new(Semaphore::new(CONNECTING));
    let mut clients = JoinSet::new();
    for n in 0..ENVOYS {
        clients.spawn(client(address, variant, n, connecting.clone()));
    }
    clients.join_next().await.context("no client")??
}

/// The fields that a client needs, which have the same numbers in `DeltaDiscoveryResponse` and `DiscoveryResponse`.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(string, tag = "1")]
    version_info: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// The name in a `Resource` of a delta response.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "3")]
    name: String,
}

async fn client(
    address: SocketAddr,
    variant: Variant,
    n: usize,
    connecting: Arc<Semaphore>,
) -> Result<()> {
    let turn = connecting.acquire_owned().await?;
    let channel = Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(64 << 20);
    grpc.ready().await?;
    let node = Node {
        id: format!("envoy-{n}"),
        ..Node::default()
    };
    match variant {
        Variant::Delta => {
            let (requests, receiver) = unbounded();
            let path = format!("{SERVICE}/DeltaAggregatedResources").parse()?;
            let codec: ProstCodec<DeltaDiscoveryRequest, Response> = ProstCodec::default();
            let responses = grpc.streaming(Request::new(receiver), path, codec).await?;
            delta(requests, responses.into_inner(), node, turn).await
        }
        Variant::Sotw => {
            let (requests, receiver) = unbounded();
            let path = format!("{SERVICE}/StreamAggregatedResources").parse()?;
            let codec: ProstCodec<DiscoveryRequest, Response> = ProstCodec::default();
            let responses = grpc.streaming(Request::new(receiver), path, codec).await?;
            sotw(requests, responses.into_inner(), node, turn).await
        }
    }
}

/// All tables are subscribed with the first listener.
fn tables() -> Vec<String> {
    (0..TABLES).map(table_name).collect()
}

async fn delta(
    requests: UnboundedSender<DeltaDiscoveryRequest>,
    mut responses: Streaming<Response>,
    node: Node,
    turn: OwnedSemaphorePermit,
) -> Result<()> {
    let mut turn = Some(turn);
    let subscribe = |kind: ResourceType, names: Vec<String>, node: Option<Node>| {
        requests.unbounded_send(DeltaDiscoveryRequest {
            node,
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names,
            ..DeltaDiscoveryRequest::default()
        })?;
        anyhow::Ok(())
    };
    subscribe(ResourceType::Cluster, Vec::new(), Some(node))?;
    subscribe(ResourceType::Listener, Vec::new(), None)?;
    let mut has_tables = false;
    let mut clusters = 0;
    while let Some(response) = responses.next().await {
        let response = response?;
        let kind = ResourceType::from_type_url(&response.type_url).context("unknown type")?;
        let count = response.resources.len();
        match kind {
            // all later responses change clusters that are known
            ResourceType::Cluster if count > 1 || clusters == 0 => {
                clusters += count;
                let resources = response.resources.iter();
                let names = resources.map(|resource| Named::decode(resource.clone()));
                let names: Result<Vec<Named>, _> = names.collect();
                let names = names?.into_iter().map(|named| named.name).collect();
                subscribe(ResourceType::Endpoints, names, None)?;
            }
            ResourceType::Listener if !has_tables => {
                has_tables = true;
                subscribe(ResourceType::RouteTable, tables(), None)?;
            }
            // the last of what a client asks for
            ResourceType::RouteTable => drop(turn.take()),
            _ => {}
        }
        let is_bad = |resource: &Bytes| resource.windows(BAD.len()).any(|part| part == BAD);
        let error = count == 1 && response.resources.iter().any(is_bad);
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

async fn sotw(
    requests: UnboundedSender<DiscoveryRequest>,
    mut responses: Streaming<Response>,
    node: Node,
    turn: OwnedSemaphorePermit,
) -> Result<()> {
    let mut turn = Some(turn);
    let subscribe = |kind: ResourceType, names: Vec<String>, node: Option<Node>| {
        requests.unbounded_send(DiscoveryRequest {
            node,
            type_url: kind.type_url().to_owned(),
            resource_names: names,
            ..DiscoveryRequest::default()
        })?;
        anyhow::Ok(())
    };
    subscribe(ResourceType::Cluster, Vec::new(), Some(node))?;
    subscribe(ResourceType::Listener, Vec::new(), None)?;
    let mut has_tables = false;
    let mut clusters = 0;
    while let Some(response) = responses.next().await {
        let response = response?;
        let kind = ResourceType::from_type_url(&response.type_url).context("unknown type")?;
        let count = response.resources.len();
        let resource_names = match kind {
            ResourceType::Cluster if clusters == 0 => {
                clusters = count;
                let names = (0..clusters).map(name).collect();
                subscribe(ResourceType::Endpoints, names, None)?;
                Vec::new()
            }
            ResourceType::Listener if !has_tables => {
                has_tables = true;
                subscribe(ResourceType::RouteTable, tables(), None)?;
                Vec::new()
            }
            ResourceType::Endpoints => (0..clusters).map(name).collect(),
            ResourceType::RouteTable => {
                drop(turn.take());
                tables()
            }
            _ => Vec::new(),
        };
        requests.unbounded_send(DiscoveryRequest {
            type_url: response.type_url,
            version_info: response.version_info,
            response_nonce: response.nonce,
            resource_names,
            ..DiscoveryRequest::default()
        })?;
    }
    Ok(())
}
