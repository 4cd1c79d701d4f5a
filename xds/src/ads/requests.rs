//! The requests of a stream: gRPC messages in the body of an HTTP request. A message that arrives in one piece is decoded
//! where it is, and a buffer lasts no longer than its message: Envoys list all that they have when they connect, and nothing
//! of that size comes after.

use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use futures::Stream;
use hyper::body::{Body, Incoming};
use prost::Message;
use tonic::Status;

/// Length of the prefix of a message: whether it is compressed, and its length.
pub(super) const PREFIX: usize = 5;

/// Requests of type `R`.
#[derive(Debug)]
pub(super) struct Requests<R, B = Incoming> {
    body: B,
    /// Received, and not looked at.
    received: Bytes,
    /// The start of a message, without the rest.
    partial: Vec<u8>,
    limit: usize,
    has_ended: bool,
    request: PhantomData<fn() -> R>,
}

impl<R, B> Requests<R, B> {
    /// Requests of at most `limit` bytes in this body.
    pub(super) const fn new(body: B, limit: usize) -> Self {
        Self {
            body,
            received: Bytes::new(),
            partial: Vec::new(),
            limit,
            has_ended: false,
            request: PhantomData,
        }
    }

    /// Length of the message that starts here, with its prefix; `None` if that is incomplete.
    fn length(&self, start: &[u8]) -> Result<Option<usize>, Status> {
        let Some([flag, length @ ..]) = start.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if *flag != 0 {
            return Err(Status::internal("compressed requests are not supported"));
        }
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.limit {
            let limit = self.limit;
            return Err(Status::out_of_range(format!(
                "request of {length} bytes exceeds the maximum of {limit}"
            )));
        }
        Ok(Some(PREFIX + length))
    }

    /// The next message without its prefix, if it is complete.
    fn take(&mut self) -> Result<Option<Bytes>, Status> {
        while self.received.has_remaining() {
            if self.partial.is_empty() {
                let length = self.length(&self.received)?;
                if let Some(length) = length
                    && length <= self.received.len()
                {
                    return Ok(Some(self.received.split_to(length).slice(PREFIX..)));
                }
            }
            let end = self.length(&self.partial)?.unwrap_or(PREFIX);
            let missing = (end - self.partial.len()).min(self.received.len());
            self.partial
                .extend_from_slice(&self.received.split_to(missing));
            if self.length(&self.partial)? == Some(self.partial.len()) {
                let message = Bytes::from(std::mem::take(&mut self.partial));
                return Ok(Some(message.slice(PREFIX..)));
            }
        }
        // it can be the rest of a buffer of the connection
        self.received = Bytes::new();
        Ok(None)
    }
}

impl<R, B> Requests<R, B>
where
    R: Message + Default,
    B: Body<Data = Bytes> + Unpin,
{
    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<R>, Status>> {
        loop {
            if let Some(message) = self.take()? {
                let request = R::decode(message);
                let invalid = |error: prost::DecodeError| Status::internal(error.to_string());
                return Poll::Ready(request.map(Some).map_err(invalid));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => self.received = frame.into_data().unwrap_or_default(),
                None if !self.partial.is_empty() => {
                    return Poll::Ready(Err(Status::internal("request is incomplete")));
                }
                // the client has reset the stream, or its connection is gone
                None | Some(Err(_)) => return Poll::Ready(Ok(None)),
            }
        }
    }
}

impl<R, B> Stream for Requests<R, B>
where
    R: Message + Default,
    B: Body<Data = Bytes> + Unpin,
{
    type Item = Result<R, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let request = ready!(self.poll_request(context)).transpose();
        self.has_ended = !matches!(request, Some(Ok(_)));
        Poll::Ready(request)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible};

    use futures::{FutureExt as _, StreamExt as _};
    use hyper::body::Frame;
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;
    use crate::pb::google::rpc;

    /// A body of these pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn requests(pieces: impl IntoIterator<Item = Bytes>) -> Requests<rpc::Status, Pieces> {
        Requests::new(Pieces(pieces.into_iter().collect()), 100)
    }

    fn next(requests: &mut Requests<rpc::Status, Pieces>) -> Option<Result<String, Code>> {
        let next = requests
            .next()
            .now_or_never()
            .expect("a body that is there");
        next.map(|request| {
            let request = request.map_err(|status| status.code());
            request.map(|request| request.message)
        })
    }

    fn encoded(text: &str) -> Vec<u8> {
        let message = rpc::Status {
            message: text.to_owned(),
            ..rpc::Status::default()
        };
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap();
        [&[0][..], &length.to_be_bytes(), &message].concat()
    }

    proptest! {
        #[test]
        fn messages_are_the_same_in_whatever_pieces_they_arrive(
            texts in proptest::collection::vec("[a-z]{0,40}", 0..6),
            cuts in proptest::collection::vec(0..200_usize, 0..12),
        ) {
            let bytes = Bytes::from(texts.iter().flat_map(|text| encoded(text)).collect::<Vec<u8>>());
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut requests = requests(cuts.windows(2).map(|cut| bytes.slice(cut[0]..cut[1])));
            for text in texts {
                prop_assert_eq!(next(&mut requests), Some(Ok(text)));
            }
            prop_assert_eq!(next(&mut requests), None);
            prop_assert_eq!(requests.partial.capacity(), 0);
        }
    }

    #[test]
    fn invalid_messages_end_the_stream() {
        let too_long = [0, 0, 0, 0, 101];
        let compressed = [1, 0, 0, 0, 0];
        let cut_off = &encoded("text")[..7];
        let nonsense = [0, 0, 0, 0, 1, 0xff];
        for (bytes, code) in [
            (&too_long[..], Code::OutOfRange),
            (&compressed, Code::Internal),
            (cut_off, Code::Internal),
            (&nonsense, Code::Internal),
        ] {
            let mut requests = requests([Bytes::copy_from_slice(bytes)]);
            assert_eq!(next(&mut requests), Some(Err(code)), "{bytes:?}");
            assert_eq!(next(&mut requests), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_long_message_takes_memory_as_it_arrives() {
        let mut requests = requests([Bytes::from_static(&[0, 0, 0, 0, 100, 1])]);
        assert_eq!(requests.limit, 100);
        assert_eq!(next(&mut requests), Some(Err(Code::Internal)));
        assert!(requests.partial.capacity() < 100);
    }
}
