//! The frames around gRPC messages: a byte of flags, four of length, the message.

use anyhow::{Result, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use prost::Message;

/// Length of what comes before a message.
pub(crate) const PREFIX: usize = 5;

/// The flag of a frame that holds trailers, in gRPC-Web.
const TRAILERS: u8 = 0x80;

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A message, not compressed.
    Message(Bytes),
    /// Lines of trailers.
    Trailers(Bytes),
}

/// A message in its frame.
pub(crate) fn encode(message: &impl Message) -> Result<Bytes> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length)?);
    message.encode(&mut frame)?;
    Ok(frame.freeze())
}

/// The frames of a whole body.
pub(crate) fn decode(mut body: Bytes) -> Result<Vec<Frame>> {
    let mut frames = Vec::new();
    while !body.is_empty() {
        ensure!(body.len() >= PREFIX, "a gRPC frame is cut short");
        let flags = body.get_u8();
        let length = usize::try_from(body.get_u32())?;
        ensure!(body.len() >= length, "a gRPC message is cut short");
        let content = body.split_to(length);
        frames.push(if flags & TRAILERS == 0 {
            Frame::Message(content)
        } else {
            Frame::Trailers(content)
        });
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::echo::EchoRequest;

    #[test]
    fn a_message_is_framed_and_found_again() {
        let message = EchoRequest { data: "foo".into() };
        let body = encode(&message).unwrap();
        assert_eq!(&body[..], b"\0\0\0\0\x05\x0a\x03foo");
        let frames = decode(body.clone()).unwrap();
        assert_eq!(frames, [Frame::Message(body.slice(PREFIX..))]);
    }

    #[test]
    fn trailers_follow_a_message() {
        let frames = decode(Bytes::from_static(b"\0\0\0\0\x01a\x80\0\0\0\x02b:")).unwrap();
        let trailers = Frame::Trailers(Bytes::from_static(b"b:"));
        assert_eq!(frames, [Frame::Message(Bytes::from_static(b"a")), trailers]);
    }

    #[test]
    fn a_body_that_is_cut_is_an_error() {
        for body in [&b"\0\0\0"[..], b"\0\0\0\0\x02a"] {
            assert!(decode(Bytes::from_static(body)).is_err(), "{body:?}");
        }
    }
}
