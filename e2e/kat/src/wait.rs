//! Waiting for a condition, never for time.

use std::{future::Future, time::Duration};

use anyhow::{Result, anyhow, bail};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::{sleep, timeout};

/// Longest wait for anything that has no bound of its own.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Pauses between attempts: short at first, longer for what takes long and whose attempts cost much, such as a kubectl.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(10))
    .with_factor(1.5)
    .with_max_delay(LONGEST_PAUSE)
    .without_max_times();
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Tries until there is an answer; the last reason why there is none is the error.
///
/// # Errors
/// There is none within [`PATIENCE`].
pub async fn until<T, F: Future<Output = Result<T>>>(
    what: &str,
    attempt: impl FnMut() -> F,
) -> Result<T> {
    until_within(PATIENCE, what, attempt).await
}

/// The same, with another bound.
///
/// # Errors
/// There is none within `bound`.
pub async fn until_within<T, F: Future<Output = Result<T>>>(
    bound: Duration,
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let mut last = anyhow!("the first attempt has not finished");
    let attempts = async {
        let mut pauses = PAUSES.build();
        loop {
            match attempt().await {
                Ok(found) => return found,
                Err(error) => last = error,
            }
            sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    };
    match timeout(bound, attempts).await {
        Ok(found) => Ok(found),
        Err(_elapsed) => bail!("{what}: not within {bound:?}: {last:#}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_are_repeated_until_one_succeeds() {
        let mut attempts = 0;
        let found = until("the third attempt", || {
            attempts += 1;
            let number = attempts;
            async move {
                match number {
                    3 => Ok(number),
                    _ => bail!("attempt {number}"),
                }
            }
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_reason_is_the_error() {
        let found = until("a miracle", || async { bail!("none yet") as Result<()> });
        let error = found.await.unwrap_err().to_string();
        assert_eq!(error, "a miracle: not within 30s: none yet");
    }
}
