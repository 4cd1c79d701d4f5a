//! What etcd has: objects as the apiserver has stored them, and not as it shows them.

use anyhow::Result;
use serde_json::Value;
use tonic::{
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::control_plane::ETCD;

/// Where keys begin.
const PREFIX: &str = "/registry/getambassador.io";
/// Longest answer.
const LONGEST: usize = 256 << 20;

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

/// The stored objects of a resource, such as `mappings`.
///
/// # Errors
/// There is no etcd, or what it has is not JSON.
pub async fn stored(plural: &str) -> Result<Vec<Value>> {
    let channel: Channel = Endpoint::from_shared(format!("http://{ETCD}"))?
        .connect()
        .await?;
    let mut grpc = Grpc::new(channel).max_decoding_message_size(LONGEST);
    grpc.ready().await?;
    // '0' comes after '/'
    let request = RangeRequest {
        key: format!("{PREFIX}/{plural}/").into_bytes(),
        range_end: format!("{PREFIX}/{plural}0").into_bytes(),
    };
    let codec: ProstCodec<RangeRequest, RangeResponse> = ProstCodec::default();
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Range");
    let answer = grpc
        .unary(tonic::Request::new(request), path, codec)
        .await?;
    let values = answer.into_inner().kvs.into_iter();
    values
        .map(|pair| Ok(serde_json::from_slice(&pair.value)?))
        .collect()
}
