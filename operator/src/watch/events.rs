//! The events of a watch, with pauses after failures. Every watch of the process reads through this, so that all of them
//! handle failures in the same way.
//!
//! A pause grows until the apiserver has shown that it serves the request: kube-runtime's own `backoff` starts again with
//! `Event::Init`, which comes before the list is requested, so that a list that always fails would be requested without
//! any pause. A watch that has expired before it started (410 Gone) begins again with a list.

use std::{fmt::Debug, time::Duration};

use backon::ExponentialBuilder;
use futures::{StreamExt as _, stream::BoxStream};
use kube::{
    Api, Resource,
    core::Status,
    runtime::{
        utils::Backoff as _,
        watcher::{self, Event, ExponentialBackoff},
    },
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};

use crate::client;

/// Objects in one answer to a list.
const PAGE_SIZE: u32 = 500;

/// Pauses between retries. The first is short, because a restart of the apiserver takes seconds; jitter, which at most
/// doubles a pause, keeps replicas from retrying together.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(Duration::from_millis(2500))
    .without_max_times()
    .with_jitter();

/// What every watch asks for.
pub(crate) fn config() -> watcher::Config {
    watcher::Config::default()
        .page_size(PAGE_SIZE)
        .timeout(client::WATCH)
}

/// The events of one watch.
pub(crate) struct Events<K> {
    api: Api<K>,
    config: watcher::Config,
    stream: BoxStream<'static, Result<Event<K>, watcher::Error>>,
    backoff: ExponentialBackoff,
    /// Nothing is requested before this time.
    pause: Option<Instant>,
}

impl<K> Events<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    /// A watch that begins with a list.
    pub(crate) fn new(api: Api<K>, config: watcher::Config) -> Self {
        Self {
            stream: watcher::watcher(api.clone(), config.clone()).boxed(),
            api,
            config,
            backoff: BACKOFF.into(),
            pause: None,
        }
    }

    /// The next event or failure. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Event<K>, watcher::Error> {
        if let Some(until) = self.pause {
            sleep_until(until).await;
            self.pause = None;
        }
        let Some(event) = self.stream.next().await else {
            // a watcher has no end
            return std::future::pending().await;
        };
        match &event {
            Ok(Event::Init) => {}
            Ok(_) => self.backoff.reset(),
            Err(error) => {
                let pause = self.backoff.next().unwrap_or_default();
                self.pause = Some(Instant::now() + pause);
                if is_expired(error) {
                    self.restart();
                }
            }
        }
        event
    }

    /// Pauses for this long at least, after a failure that does not pass soon.
    pub(crate) fn pause(&mut self, pause: Duration) {
        let until = Instant::now() + pause;
        self.pause = Some(self.pause.map_or(until, |before| before.max(until)));
    }

    /// Ends a pause.
    pub(crate) fn resume(&mut self) {
        self.pause = None;
        self.backoff.reset();
    }

    /// Begins again with a list.
    pub(crate) fn restart(&mut self) {
        self.stream = watcher::watcher(self.api.clone(), self.config.clone()).boxed();
    }
}

/// Whether the watch has expired and must start again with a list.
fn is_expired(error: &watcher::Error) -> bool {
    !matches!(error, watcher::Error::InitialListFailed(_)) && code(error) == Some(410)
}

/// Whether a permission is missing.
pub(crate) fn is_forbidden(error: &watcher::Error) -> bool {
    code(error) == Some(403)
}

/// Whether the webhook that converts between versions does not answer, or not as it should.
pub(crate) fn is_unconverted(error: &watcher::Error) -> bool {
    status(error).is_some_and(|status| status.message.starts_with("conversion webhook for "))
}

fn code(error: &watcher::Error) -> Option<u16> {
    status(error).map(|status| status.code)
}

/// The apiserver's answer, if that is the error. kube-client does not look at the status of the answer to a
/// watch: an error comes as the first item of its body.
fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
