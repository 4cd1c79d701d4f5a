//! A gRPC client that sends the requests of a test.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures::channel::mpsc::{UnboundedSender, unbounded};
use nuncio_xds::{
    ResourceType,
    pb::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
};
use tokio::time::timeout;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::server::TIMEOUT;

/// How long to wait for a response that must not come.
const SILENCE: Duration = Duration::from_millis(200);

/// A stream: requests of type `Q`, responses of type `R`.
pub(crate) struct Client<Q, R> {
    requests: UnboundedSender<Q>,
    responses: Streaming<R>,
}

pub(crate) type Delta = Client<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
pub(crate) type Sotw = Client<DiscoveryRequest, DiscoveryResponse>;

/// A connection without TLS.
pub(crate) async fn channel(address: SocketAddr) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect()
        .await?)
}

pub(crate) fn node() -> Node {
    Node {
        id: "client".to_owned(),
        cluster: "test".to_owned(),
        ..Node::default()
    }
}

impl Delta {
    /// Opens a stream and subscribes to all resources of a type.
    pub(crate) async fn open(channel: Channel, kind: ResourceType) -> Result<Self> {
        Self::open_as(channel, kind, node()).await
    }

    /// The same with this node.
    pub(crate) async fn open_as(channel: Channel, kind: ResourceType, node: Node) -> Result<Self> {
        let client = Self::silent(channel).await?;
        client.send(DeltaDiscoveryRequest {
            node: Some(node),
            type_url: kind.type_url().to_owned(),
            ..DeltaDiscoveryRequest::default()
        })?;
        Ok(client)
    }

    /// Opens a stream without a request.
    pub(crate) async fn silent(channel: Channel) -> Result<Self> {
        let (requests, receiver) = unbounded();
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = timeout(TIMEOUT, client.delta_aggregated_resources(receiver)).await??;
        Ok(Self {
            requests,
            responses: responses.into_inner(),
        })
    }

    /// Receives and acknowledges a response.
    pub(crate) async fn accept(&mut self) -> Result<DeltaDiscoveryResponse> {
        let response = self.response().await?;
        self.ack(&response)?;
        Ok(response)
    }

    /// Acknowledges a response.
    pub(crate) fn ack(&self, response: &DeltaDiscoveryResponse) -> Result<()> {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        })
    }
}

impl Sotw {
    /// Opens a stream and subscribes to all resources of a type.
    pub(crate) async fn open(channel: Channel, kind: ResourceType) -> Result<Self> {
        let (requests, receiver) = unbounded();
        requests.unbounded_send(DiscoveryRequest {
            node: Some(node()),
            type_url: kind.type_url().to_owned(),
            ..DiscoveryRequest::default()
        })?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel);
        let responses = timeout(TIMEOUT, client.stream_aggregated_resources(receiver)).await??;
        Ok(Self {
            requests,
            responses: responses.into_inner(),
        })
    }

    /// Acknowledges a response.
    pub(crate) fn ack(&self, response: &DiscoveryResponse) -> Result<()> {
        self.send(DiscoveryRequest {
            type_url: response.type_url.clone(),
            version_info: response.version_info.clone(),
            response_nonce: response.nonce.clone(),
            ..DiscoveryRequest::default()
        })
    }
}

impl<Q, R> Client<Q, R> {
    pub(crate) fn send(&self, request: Q) -> Result<()> {
        if self.requests.unbounded_send(request).is_err() {
            bail!("stream is closed");
        }
        Ok(())
    }

    /// The next response; `None` when the server has closed the stream without an error.
    pub(crate) async fn next(&mut self) -> Result<Option<R>> {
        let response = timeout(TIMEOUT, self.responses.message()).await;
        Ok(response.context("no response")??)
    }

    /// The next response, which must exist.
    pub(crate) async fn response(&mut self) -> Result<R> {
        self.next().await?.context("stream is closed")
    }

    /// Whether no response comes.
    pub(crate) async fn is_silent(&mut self) -> bool {
        timeout(SILENCE, self.responses.message()).await.is_err()
    }
}
