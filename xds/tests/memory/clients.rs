//! Clients that subscribe as Envoy does: by wildcard to clusters and listeners, and by name to endpoints and tables.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use futures::channel::mpsc::unbounded;
use nuncio_xds::{
    ResourceType,
    pb::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DiscoveryRequest,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
};
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

use super::{CLUSTERS, TABLES};

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Delta,
    Sotw,
    /// Subscribes, and reads nothing.
    Stalled,
}

impl Behaviour {
    /// The behaviour that is printed so.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut all = [Self::Delta, Self::Sotw, Self::Stalled].into_iter();
        all.find(|behaviour| format!("{behaviour:?}") == text)
    }
}

/// Name of a cluster and its endpoints.
pub(crate) fn cluster(n: usize) -> String {
    format!("cluster_default_service-{n}_8080")
}

/// Name of a table.
pub(crate) fn table(n: usize) -> String {
    format!("https-8443/default/host-{n}")
}

/// The names that a client subscribes to after it has got a resource of this type.
fn names(kind: ResourceType) -> Vec<String> {
    match kind {
        ResourceType::Endpoints => (0..CLUSTERS).map(cluster).collect(),
        ResourceType::RouteTable => (0..TABLES).map(table).collect(),
        _ => Vec::new(),
    }
}

const fn referred_by(kind: ResourceType) -> Option<ResourceType> {
    match kind {
        ResourceType::Cluster => Some(ResourceType::Endpoints),
        ResourceType::Listener => Some(ResourceType::RouteTable),
        _ => None,
    }
}

/// Runs clients until one of them fails.
pub(crate) async fn run(address: SocketAddr, behaviour: Behaviour, count: usize) -> Result<()> {
    let mut clients = JoinSet::new();
    for n in 0..count {
        clients.spawn(async move {
            let channel = Endpoint::from_shared(format!("http://{address}"))?;
            let channel = channel.connect().await?;
            let node = Node {
                id: format!("{}-{n}", std::process::id()),
                ..Node::default()
            };
            match behaviour {
                Behaviour::Delta => delta(channel, node).await,
                Behaviour::Sotw => sotw(channel, node).await,
                Behaviour::Stalled => stalled(channel, node).await,
            }
        });
    }
    clients.join_next().await.context("no client")??
}

async fn delta(channel: Channel, node: Node) -> Result<()> {
    let (requests, receiver) = unbounded();
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let subscribe = |kind: ResourceType, names, node| {
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
    let responses = client.delta_aggregated_resources(receiver).await?;
    let mut responses = responses.into_inner();
    let mut subscribed = Vec::new();
    while let Some(response) = responses.message().await? {
        let kind = ResourceType::from_type_url(&response.type_url).context("unknown type")?;
        if let Some(next) = referred_by(kind)
            && !subscribed.contains(&next)
        {
            subscribed.push(next);
            subscribe(next, names(next), None)?;
        }
        requests.unbounded_send(DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        })?;
    }
    Ok(())
}

async fn stalled(channel: Channel, node: Node) -> Result<()> {
    let (requests, receiver) = unbounded();
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    for kind in ResourceType::ALL {
        requests.unbounded_send(DeltaDiscoveryRequest {
            node: Some(node.clone()),
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names(kind),
            ..DeltaDiscoveryRequest::default()
        })?;
    }
    let responses = client.delta_aggregated_resources(receiver).await?;
    std::future::pending::<()>().await;
    drop(responses);
    Ok(())
}

async fn sotw(channel: Channel, node: Node) -> Result<()> {
    let (requests, receiver) = unbounded();
    let client = AggregatedDiscoveryServiceClient::new(channel);
    let mut client = client.max_decoding_message_size(64 << 20);
    let subscribe = |kind: ResourceType, names, node| {
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
    let responses = client.stream_aggregated_resources(receiver).await?;
    let mut responses = responses.into_inner();
    let mut subscribed = Vec::new();
    while let Some(response) = responses.message().await? {
        let kind = ResourceType::from_type_url(&response.type_url).context("unknown type")?;
        if let Some(next) = referred_by(kind)
            && !subscribed.contains(&next)
        {
            subscribed.push(next);
            subscribe(next, names(next), None)?;
        }
        requests.unbounded_send(DiscoveryRequest {
            type_url: response.type_url,
            version_info: response.version_info,
            response_nonce: response.nonce,
            resource_names: names(kind),
            ..DiscoveryRequest::default()
        })?;
    }
    Ok(())
}
