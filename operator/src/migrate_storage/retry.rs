//! Which requests are repeated, and when.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use kube::Error;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Pauses of an apiserver that is away or busy; together about 40 seconds, in which one that restarts comes back.
const AWAY: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(5))
    .with_max_times(12)
    .with_jitter();
/// Attempts after an internal error, which may be a webhook that is away, but also an object that will never be converted.
const INTERNAL_ATTEMPTS: usize = 4;
/// Longest pause that an apiserver can ask for.
const LONGEST: Duration = Duration::from_secs(30);

/// Why a request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The apiserver cannot be reached, or has too much to do.
    Away(Duration),
    /// Something behind it failed.
    Internal,
}

/// Sends a request, again if it fails for a reason that may pass.
pub(super) async fn retried<T>(
    stop: &CancellationToken,
    request: impl AsyncFn() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut pauses = AWAY.build();
    let mut internal = 0;
    loop {
        let error = match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let asked = match cause(&error) {
            None => return Err(error),
            Some(Cause::Away(asked)) => asked,
            Some(Cause::Internal) => {
                internal += 1;
                if internal >= INTERNAL_ATTEMPTS {
                    return Err(error);
                }
                Duration::ZERO
            }
        };
        let Some(pause) = pauses.next() else {
            return Err(error);
        };
        tokio::select! {
            () = sleep(pause.max(asked)) => {}
            () = stop.cancelled() => return Err(error),
        }
    }
}

/// Whether an error may pass.
pub(super) fn may_pass(error: &Error) -> bool {
    cause(error).is_some()
}

fn cause(error: &Error) -> Option<Cause> {
    let Error::Api(status) = error else {
        let is_connection = matches!(error, Error::Service(_) | Error::HyperError(_));
        return is_connection.then_some(Cause::Away(Duration::ZERO));
    };
    let details = status.details.as_ref();
    let asked = details.map_or(0, |details| details.retry_after_seconds);
    let asked = Duration::from_secs(asked.into()).min(LONGEST);
    match status.code {
        429 | 502..=504 => Some(Cause::Away(asked)),
        500 => Some(Cause::Internal),
        _ => None,
    }
}

/// An error as people read it.
pub(super) fn text(error: &Error) -> String {
    match error {
        Error::Api(status) => status.message.clone(),
        Error::Service(source) => source.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kube::core::Status;

    use super::*;

    fn error(code: u16) -> Error {
        Error::Api(Box::new(Status {
            code,
            message: "no".to_owned(),
            ..Status::default()
        }))
    }

    async fn attempts(code: u16, stop: &CancellationToken) -> usize {
        let attempts = Cell::new(0);
        let result: Result<(), Error> = retried(stop, async || {
            attempts.set(attempts.get() + 1);
            Err(error(code))
        })
        .await;
        assert_eq!(text(&result.unwrap_err()), "no");
        attempts.get()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_may_pass_is_repeated() {
        let stop = CancellationToken::new();
        for (code, expected) in [(400, 1), (403, 1), (422, 1), (500, 4), (429, 13), (503, 13)] {
            assert_eq!(attempts(code, &stop).await, expected, "{code}");
        }
        stop.cancel();
        assert_eq!(attempts(503, &stop).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_ends_it() {
        let attempts = Cell::new(0);
        let result = retried(&CancellationToken::new(), async || {
            attempts.set(attempts.get() + 1);
            match attempts.get() {
                3 => Ok("answer"),
                _ => Err(error(503)),
            }
        })
        .await;
        assert_eq!(result.unwrap(), "answer");
    }

    #[test]
    fn an_apiserver_that_asks_for_a_pause_gets_it() {
        let busy = |seconds| {
            let details = serde_json::json!({"retryAfterSeconds": seconds});
            let details = serde_json::from_value(details).unwrap();
            Error::Api(Box::new(Status {
                code: 429,
                details: Some(details),
                ..Status::default()
            }))
        };
        assert_eq!(cause(&busy(7)), Some(Cause::Away(Duration::from_secs(7))));
        assert_eq!(cause(&busy(7000)), Some(Cause::Away(LONGEST)));
    }
}
