//! The body of a response to a stream's request: gRPC messages, and the status at the end. The transport takes it piece by
//! piece, as the client reads it. Pieces of large messages are shared with other streams, so that a stream holds a few
//! kilobytes of its own at most.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    vec,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::BoxStream;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use tonic::Status;

use super::{bodies::Bodies, connection::Response, requests::PREFIX};
use crate::{fleet::Protocol, snapshot::Entry};

/// Messages of at most this size are copied into one piece.
const SMALL: usize = 16 << 10;
/// Resources of this size on average are pieces of their own.
const LARGE: usize = 16 << 10;

/// The messages of a stream, and what remains of the current one.
pub(super) struct Responses {
    responses: BoxStream<'static, Result<Response, Status>>,
    bodies: Bodies,
    pieces: Pieces,
    has_ended: bool,
}

/// What remains of a message.
enum Pieces {
    Body(Bytes),
    Entries(Protocol, vec::IntoIter<Arc<Entry>>),
}

impl Pieces {
    fn next(&mut self) -> Option<Bytes> {
        match self {
            Self::Body(body) if body.is_empty() => None,
            Self::Body(body) => Some(std::mem::take(body)),
            Self::Entries(protocol, entries) => {
                let next = entries.next().map(|entry| entry.encoded(*protocol).clone());
                if next.is_none() {
                    *self = Self::Body(Bytes::new());
                }
                next
            }
        }
    }
}

impl Responses {
    pub(super) fn new(
        responses: BoxStream<'static, Result<Response, Status>>,
        bodies: Bodies,
    ) -> Self {
        Self {
            responses,
            bodies,
            pieces: Pieces::Body(Bytes::new()),
            has_ended: false,
        }
    }

    /// The first piece of a message. The others follow.
    pub(super) fn start(&mut self, response: Response) -> Result<Bytes, Status> {
        let length = response.len();
        let is_small = length <= SMALL;
        let own = if is_small {
            length
        } else {
            response.head.len()
        };
        let mut first = BytesMut::with_capacity(PREFIX + own);
        first.put_u8(0); // not compressed
        let too_long = |_| Status::out_of_range(format!("response of {length} bytes"));
        first.put_u32(u32::try_from(length).map_err(too_long)?);
        first.put_slice(&response.head);
        let (protocol, entries) = (response.protocol, response.entries);
        if is_small {
            for entry in &entries {
                first.put_slice(entry.encoded(protocol));
            }
        } else {
            let body = (length / entries.len().max(1) < LARGE)
                .then(|| self.bodies.encoded(protocol, &entries))
                .flatten();
            self.pieces = match body {
                Some(body) => Pieces::Body(body),
                None => Pieces::Entries(protocol, entries.into_iter()),
            };
        }
        Ok(first.freeze())
    }
}

impl Body for Responses {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(piece) = self.pieces.next() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        let response = ready!(self.responses.as_mut().poll_next(context));
        let status =
            match response.map(|response| response.and_then(|response| self.start(response))) {
                Some(Ok(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
        self.has_ended = true;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}
