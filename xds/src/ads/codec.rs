//! The gRPC codec: copies encoded responses to the transport, and decodes requests with prost.

use std::marker::PhantomData;

use bytes::BufMut as _;
use tonic::{
    Status,
    codec::{Codec as TonicCodec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

use super::connection::Response;

/// A codec for requests of type `T`.
#[derive(Debug)]
pub(super) struct Codec<T>(PhantomData<T>);

impl<T> Default for Codec<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: prost::Message + Default + 'static> TonicCodec for Codec<T> {
    type Encode = Response;
    type Decode = T;
    type Encoder = ResponseEncoder;
    type Decoder = ProstDecoder<T>;

    fn encoder(&mut self) -> ResponseEncoder {
        ResponseEncoder
    }

    fn decoder(&mut self) -> ProstDecoder<T> {
        tonic_prost::ProstCodec::<T, T>::default().decoder()
    }
}

#[derive(Debug)]
pub(super) struct ResponseEncoder;

impl Encoder for ResponseEncoder {
    type Item = Response;
    type Error = Status;

    fn encode(&mut self, response: Response, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(response.len());
        for part in response.parts {
            buffer.put(part);
        }
        Ok(())
    }
}
