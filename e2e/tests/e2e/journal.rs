//! The journal of changes, as far as metrics show it.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nuncio_e2e::{backend::Backend, wait::until};

use crate::{
    Space,
    fixture::{host, mapping},
    status::programmed,
};

const EDITS: u32 = 5;

/// Count and sum of both histograms.
#[derive(Clone, Copy, Debug)]
struct Times {
    published: (f64, f64),
    acknowledged: (f64, f64),
}

async fn times(space: &Space) -> Result<Times> {
    let metric = async |name: &str| space.gateway.replica.metric(name).await;
    Ok(Times {
        published: (
            metric("nuncio_change_published_seconds_count").await?,
            metric("nuncio_change_published_seconds_sum").await?,
        ),
        acknowledged: (
            metric("nuncio_change_acknowledged_seconds_count").await?,
            metric("nuncio_change_acknowledged_seconds_sum").await?,
        ),
    })
}

/// The times once every publication is acknowledged, and this many more than before.
async fn times_after(space: &Space, before: f64, more: u32) -> Result<Times> {
    until("the acknowledgement of the last change", || async {
        let times = times(space).await?;
        let (count, acknowledged) = (times.published.0, times.acknowledged.0);
        ensure!(
            count - before > f64::from(more) - 0.5 && acknowledged > count - 0.5,
            "{times:?}"
        );
        Ok(times)
    })
    .await
}

pub(crate) async fn edits_are_timed_until_envoy_has_them(space: &mut Space) -> Result<()> {
    let _backend = Backend::start("10.96.13.1:80", "timed").await?;
    let edited = |number: u32| {
        let prefix = format!("/timed/{number}/");
        let mapping = mapping("timed", "timed.example", &prefix, "10.96.13.1", "");
        (prefix, mapping)
    };
    space.apply(&(host("timed", "timed.example", "") + &edited(0).1))?;
    space
        .answers("timed.example", "/timed/0/", 200, "timed")
        .await?;
    programmed(space, "mapping/timed").await?;
    let before = times_after(space, 0.0, 1).await?;
    let start = Instant::now();
    for number in 1..=EDITS {
        let (prefix, manifest) = edited(number);
        space.apply(&manifest)?;
        space
            .answers("timed.example", &prefix, 200, "timed")
            .await?;
    }
    let after = times_after(space, before.published.0, EDITS).await?;
    let elapsed = start.elapsed();
    let count = after.published.0 - before.published.0;
    let published = after.published.1 - before.published.1;
    let acknowledged = after.acknowledged.1 - before.acknowledged.1;
    let mean = |sum: f64| Duration::from_secs_f64(sum / count);
    eprintln!(
        "{count} changes: published {:?} after they were received, acknowledged after {:?}",
        mean(published),
        mean(acknowledged)
    );
    ensure!(
        (after.acknowledged.0 - before.acknowledged.0 - count).abs() < 0.5,
        "{before:?}, {after:?}"
    );
    // received, published, acknowledged, in this order
    ensure!(
        0.0 < published && published < acknowledged && acknowledged < elapsed.as_secs_f64(),
        "{before:?}, {after:?} within {elapsed:?}"
    );
    Ok(())
}
