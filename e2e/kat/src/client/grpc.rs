//! The bodies of gRPC in HTTP/1.1 (`bridge`) and of gRPC-Web (`web`).

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use prost::Message as _;
use serde_json::{Value, json};

use crate::{
    echo::{EchoRequest, EchoResponse},
    frame::{self, Frame},
    header,
};

/// A question, in its frame.
pub(super) fn bridge_request() -> Result<Bytes> {
    frame::encode(&EchoRequest { data: "foo".into() })
}

/// The same, in base64.
pub(super) fn web_request() -> Result<Bytes> {
    Ok(BASE64_STANDARD.encode(bridge_request()?).into())
}

/// The answer, if there is more than the frame of one.
pub(super) fn bridge_response(body: &Bytes) -> Result<Option<Value>> {
    let message = body
        .get(frame::PREFIX..)
        .filter(|message| !message.is_empty());
    message.map(decode).transpose()
}

/// The answer, if there is one; trailers are added to `headers`.
pub(super) fn web_response(body: &[u8], headers: &mut HeaderMap) -> Result<Option<Value>> {
    let mut bytes = Vec::new();
    // each piece that the server sent is base64 of its own, with padding where it ends
    for quantum in body.trim_ascii().chunks(4) {
        bytes.extend(BASE64_STANDARD.decode(quantum).context("gRPC-Web body")?);
    }
    let mut answer = None;
    for frame in frame::decode(bytes.into())? {
        match frame {
            Frame::Message(message) => answer = Some(decode(&message)?),
            Frame::Trailers(lines) => {
                for line in String::from_utf8_lossy(&lines).lines() {
                    if let Some((name, value)) = line.split_once(':') {
                        let name: HeaderName = name.trim().parse()?;
                        headers.append(name, header::value(value.trim().as_bytes()));
                    }
                }
            }
        }
    }
    Ok(answer)
}

/// An answer as JSON.
pub(super) fn decode(message: &[u8]) -> Result<Value> {
    let response = EchoResponse::decode(message).context("EchoResponse")?;
    Ok(json!(response))
}
