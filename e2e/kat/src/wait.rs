//! Waiting for a condition, never for time.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use tokio::time::timeout;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Tries until there is an answer; the last reason why there is none is the error.
///
/// # Errors
/// There is none within [`PATIENCE`].
pub async fn until<T, F: Future<Output = Result<T>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let start = Instant::now();
    let mut last = anyhow!("no attempt came to an end");
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        if left.is_zero() {
            // an attempt that never waits is not ended by a timeout
            bail!("{what}, within {PATIENCE:?}: {last:#}");
        }
        match timeout(left, attempt()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => last = error,
            Err(_elapsed) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
