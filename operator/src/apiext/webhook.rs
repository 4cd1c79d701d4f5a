//! Answers the ConversionReviews of the apiserver: a request comes in, a response goes out.
//!
//! Memory is bounded, whoever sends the requests: bodies share a budget from their arrival until the answer is written, and
//! there is another one for those that are being converted, because JSON takes many times its length then. The apiserver asks for
//! one object at a time where it reads its storage; bodies as short as that need no share, so that nobody can be in their way.

use std::{num::NonZeroUsize, sync::Arc, thread::available_parallelism, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{Method, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures::StreamExt as _;
use nuncio_crds::conversion::{Reviewed, review};
use nuncio_xds::throttle::Throttle;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tracing::warn;

use super::{connections::Busy, definition::PATH, metrics::Metrics};

/// Longest body.
const LONGEST: usize = 8 << 20;
/// Longer bodies arrive one at a time. An object is at most 3 MiB long.
const LARGE: usize = 4 << 20;
/// Longer bodies share the budget, and are converted on a thread of their own, so that short ones do not wait for them.
const SHORT: usize = 64 << 10;
/// What may arrive and wait together, in KiB.
const BUDGET: u32 = 64 << 10;
/// What may be converted together, in KiB: JSON of numbers takes 64 times its length then. A longer body is converted alone.
const CONVERTED: u32 = 4 << 10;
/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(15);

/// Why a request is rejected.
struct Rejection(StatusCode, String);

/// Answers reviews.
pub(super) struct Webhook {
    metrics: Metrics,
    budget: Arc<Semaphore>,
    large: Arc<Semaphore>,
    converted: Arc<Semaphore>,
    cores: Arc<Semaphore>,
    log: Throttle,
    arrival: Duration,
}

/// A body, or the answer to it, and its share of the budget.
#[derive(Default)]
struct Received {
    body: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
    large: Option<OwnedSemaphorePermit>,
}

/// An answer until it is written.
struct Answer {
    received: Received,
    _busy: Busy,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.received.body
    }
}

impl Webhook {
    /// One that counts in these metrics.
    pub(super) fn new(metrics: Metrics) -> Self {
        let cores = available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            metrics,
            budget: Arc::new(Semaphore::new(BUDGET as usize)),
            large: Arc::new(Semaphore::new(1)),
            converted: Arc::new(Semaphore::new(CONVERTED as usize)),
            cores: Arc::new(Semaphore::new(cores)),
            log: Throttle::new(10, Duration::from_secs(10)),
            arrival: ARRIVAL,
        }
    }

    /// Answers a request.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Body>, busy: Busy) -> Response {
        let start = Instant::now();
        match self.review(request).await {
            Ok((reviewed, mut received)) => {
                let is_failure = reviewed.failure.is_some();
                self.metrics
                    .reviewed(reviewed.objects, is_failure, start.elapsed());
                if let Some(failure) = reviewed.failure
                    && let Some(others) = self.log.permit()
                {
                    warn!(error = %failure, others, "review failed");
                }
                received.body = reviewed.body;
                let answer = Answer {
                    received,
                    _busy: busy,
                };
                let kind = [(header::CONTENT_TYPE, "application/json")];
                (kind, Bytes::from_owner(answer)).into_response()
            }
            Err(Rejection(status, message)) => {
                self.metrics.rejected();
                if let Some(others) = self.log.permit() {
                    warn!(status = status.as_u16(), error = %message, others, "request rejected");
                }
                let mut response = (status, message + "\n").into_response();
                // the rest of the body may still be on its way
                let close = header::HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
                response
            }
        }
    }

    async fn review(&self, request: Request<Body>) -> Result<(Reviewed, Received), Rejection> {
        if request.uri().path() != PATH {
            let message = format!("not found; send ConversionReviews to {PATH}");
            return Err(Rejection(StatusCode::NOT_FOUND, message));
        }
        if request.method() != Method::POST {
            let message = "method not allowed; use POST".to_owned();
            return Err(Rejection(StatusCode::METHOD_NOT_ALLOWED, message));
        }
        let mut received = self.receive(request).await?;
        let invalid = |error: nuncio_crds::conversion::Error| {
            Rejection(StatusCode::BAD_REQUEST, error.to_string())
        };
        let length = received.body.len();
        if length <= SHORT {
            let reviewed = review(&received.body).map_err(invalid)?;
            return Ok((reviewed, received));
        }
        let share = u32::try_from(length.div_ceil(1024)).unwrap_or(CONVERTED);
        let share = share.min(CONVERTED);
        let share = self.converted.clone().acquire_many_owned(share).await;
        let core = self.cores.clone().acquire_owned().await;
        let body = std::mem::take(&mut received.body);
        let reviewed = spawn_blocking(move || {
            let _held = (share, core);
            review(&body)
        });
        let reviewed = reviewed.await.map_err(|_panicked| {
            let message = "internal error; see the log".to_owned();
            Rejection(StatusCode::INTERNAL_SERVER_ERROR, message)
        })?;
        Ok((reviewed.map_err(invalid)?, received))
    }

    /// The body, which must not be too long, and must arrive in time.
    async fn receive(&self, request: Request<Body>) -> Result<Received, Rejection> {
        let deadline = Instant::now() + self.arrival;
        let late = |_elapsed| {
            let message = format!("the body did not arrive within {:?}", self.arrival);
            Rejection(StatusCode::REQUEST_TIMEOUT, message)
        };
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced
            .and_then(|length| length.to_str().ok())
            .and_then(|length| length.parse::<usize>().ok())
            .unwrap_or_default();
        check_length(announced)?;
        let mut received = Received {
            body: Vec::with_capacity(announced.min(SHORT)),
            ..Received::default()
        };
        let mut frames = request.into_body().into_data_stream();
        while let Some(frame) = timeout_at(deadline, frames.next()).await.map_err(late)? {
            let frame: Bytes = frame.map_err(|_source| {
                let message = "the body is incomplete".to_owned();
                Rejection(StatusCode::BAD_REQUEST, message)
            })?;
            let length = received.body.len() + frame.len();
            check_length(length)?;
            let reserved = timeout_at(deadline, received.reserve(self, length)).await;
            if !matches!(reserved, Ok(Ok(()))) {
                let message = "too many reviews at a time; retry later".to_owned();
                return Err(Rejection(StatusCode::SERVICE_UNAVAILABLE, message));
            }
            received.body.extend_from_slice(&frame);
        }
        Ok(received)
    }
}

impl Received {
    /// Waits for room for a body of this length. Short ones need none: their number is that of connections.
    async fn reserve(&mut self, webhook: &Webhook, length: usize) -> Result<(), AcquireError> {
        if length <= SHORT {
            return Ok(());
        }
        if length > LARGE {
            if self.large.is_none() {
                self.large = Some(webhook.large.clone().acquire_owned().await?);
                self.share = None;
            }
            return Ok(());
        }
        let held = self.share.as_ref().map_or(0, |share| share.num_permits());
        let more = u32::try_from(length.div_ceil(1024).saturating_sub(held)).unwrap_or(BUDGET);
        if more == 0 {
            return Ok(());
        }
        let more = webhook.budget.clone().acquire_many_owned(more).await?;
        match &mut self.share {
            Some(share) => share.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

fn check_length(length: usize) -> Result<(), Rejection> {
    if length > LONGEST {
        let message = format!("the body is longer than {LONGEST} bytes");
        return Err(Rejection(StatusCode::PAYLOAD_TOO_LARGE, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
