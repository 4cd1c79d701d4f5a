//! Writes statuses, several at a time, as fast as the apiserver takes them.

use std::time::Instant;

use futures::{StreamExt as _, stream::FuturesUnordered};
use kube::Client;
use tokio::{task::yield_now, time::sleep_until};

use super::{
    Book, Manager,
    pace::Pace,
    queue::{Next, Write},
    request,
};
use crate::metrics::Metrics;

/// Writes the statuses that differ, until the task is dropped.
pub async fn write(book: Book, client: Client, metrics: Metrics, manager: Manager) {
    let mut pace = Pace::default();
    let mut under_way = FuturesUnordered::new();
    let send = |write: Write| {
        let (client, manager) = (&client, &manager);
        let resource = book.versions().resource(write.object.kind);
        async move {
            let started = Instant::now();
            let answer = request::patch(client, &resource, &write, manager).await;
            (write, started, answer)
        }
    };
    loop {
        metrics
            .status_pending
            .set(i64::try_from(book.pending()).unwrap_or(i64::MAX));
        metrics
            .status_yielded
            .set(i64::try_from(book.yielded()).unwrap_or(i64::MAX));
        let now = Instant::now();
        let available = pace.available_at(now);
        let next = match available {
            Some(at) if at <= now => book.next(),
            later => Next::Wait(later),
        };
        if let Next::Write(write) = next {
            pace.start();
            under_way.push(send(write));
            continue;
        }
        let turn = async {
            match next {
                Next::Continue => yield_now().await,
                Next::Wait(Some(until)) => sleep_until(until.into()).await,
                Next::Wait(None) | Next::Write(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((write, started, answer)) = under_way.next() => {
                pace.end(started, answer.pause, Instant::now());
                metrics.count_status_write(answer.result);
                book.done(&write, answer.outcome);
            }
            () = turn => {}
            () = book.inner.changed.notified(), if available.is_some() => {}
        }
    }
}

#[cfg(test)]
mod tests;
