//! What the parts of `nuncio envoy` know about it, for probes and metrics.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::printable::{printable, shortened};

/// An Envoy that has not responded for this long is not ready. Its main thread responds, and may be busy with a large
/// configuration while its workers serve requests.
const SILENT: Duration = Duration::from_secs(10);
/// An Envoy that has not responded for this long does not recover.
const DEAD: Duration = Duration::from_secs(60);
/// A connection to the control plane is one once it has lasted this long. With TLS 1.3 a client is connected before the server
/// has rejected its certificate, and Envoy tries again every few seconds.
const STEADY: Duration = Duration::from_secs(5);
/// Longest reason in a response.
const REASON_BYTES: usize = 1000;

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Something is missing: what it waits for.
    Waiting(String),
    /// It has its first complete configuration.
    Serving,
    /// It stops.
    Stopping,
}

/// Cheap to clone; clones share their content.
#[derive(Clone, Debug)]
pub(super) struct State(Arc<Mutex<Content>>);

#[derive(Debug)]
struct Content {
    phase: Phase,
    /// When Envoy responded last; `None`: it does not run yet.
    responded: Option<Instant>,
    /// Since when Envoy has a connection to the control plane, if it has one.
    connected: Option<Instant>,
    /// Since when Envoy has had no steady connection to the control plane; `None`: it has one, or does not run yet.
    disconnected: Option<Instant>,
    certificate: CertificateState,
}

#[derive(Debug, Default)]
struct CertificateState {
    /// Seconds since the Unix epoch.
    not_after: Option<i64>,
    issued: u64,
    failed: u64,
    /// Why it cannot be renewed.
    problem: Option<String>,
}

impl Default for State {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Content {
            phase: Phase::Waiting("starting".to_owned()),
            responded: None,
            connected: None,
            disconnected: None,
            certificate: CertificateState::default(),
        })))
    }
}

/// Whether a probe succeeds, and the text of its response.
pub(super) type Answer = Result<String, String>;

impl State {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It waits for something; whether that is news. Has no effect once it serves.
    pub(super) fn waiting(&self, reason: &str) -> bool {
        let reason = shortened(printable(reason).into_owned(), REASON_BYTES);
        let phase = &mut self.lock().phase;
        let is_new = matches!(phase, Phase::Waiting(before) if *before != reason);
        if is_new {
            *phase = Phase::Waiting(reason);
        }
        is_new
    }

    /// It has its first complete configuration.
    pub(super) fn serving(&self) {
        self.lock().phase = Phase::Serving;
    }

    /// It stops; whether it has served.
    pub(super) fn stopping(&self) -> bool {
        let phase = std::mem::replace(&mut self.lock().phase, Phase::Stopping);
        phase == Phase::Serving
    }

    /// Envoy runs and responds, with or without a connection to the control plane.
    pub(super) fn responded(&self, is_connected: bool) {
        let (mut content, now) = (self.lock(), Instant::now());
        content.responded = Some(now);
        content.connected = is_connected.then(|| content.connected.unwrap_or(now));
        content.disconnected = match content.connected {
            None => content.disconnected.or(Some(now)),
            Some(since) if now.duration_since(since) >= STEADY => None,
            Some(_) => content.disconnected,
        };
    }

    /// For how long Envoy has had no steady connection to the control plane; `None` while it has any.
    pub(super) fn disconnected(&self) -> Option<Duration> {
        let content = self.lock();
        let since = content
            .disconnected
            .filter(|_| content.connected.is_none())?;
        Some(since.elapsed())
    }

    /// A certificate that expires then, in seconds since the Unix epoch, is used from now on.
    pub(super) fn certified(&self, not_after: i64) {
        let certificate = &mut self.lock().certificate;
        certificate.not_after = Some(not_after);
        certificate.issued += 1;
        certificate.problem = None;
    }

    /// A certificate could not be obtained; whether the reason is news.
    pub(super) fn not_certified(&self, problem: &str) -> bool {
        let problem = shortened(printable(problem).into_owned(), REASON_BYTES);
        let certificate = &mut self.lock().certificate;
        certificate.failed += 1;
        let is_new = certificate.problem.as_ref() != Some(&problem);
        certificate.problem = Some(problem);
        is_new
    }

    /// The readiness probe.
    pub(super) fn ready(&self) -> Answer {
        let content = self.lock();
        let problem = content.certificate.problem.as_ref();
        match &content.phase {
            Phase::Waiting(reason) => Err(format!("waiting for {reason}\n")),
            Phase::Stopping => Err("stopping\n".to_owned()),
            Phase::Serving => match content.silent() {
                Some(time) if time > SILENT => Err(silent(time)),
                _ => Ok(match problem {
                    None => "ready\n".to_owned(),
                    Some(problem) => format!("ready\nwarning: {problem}\n"),
                }),
            },
        }
    }

    /// The liveness probe.
    pub(super) fn alive(&self) -> Answer {
        match self.lock().silent() {
            Some(time) if time > DEAD => Err(silent(time)),
            _ => Ok("alive\n".to_owned()),
        }
    }

    /// Metrics in the text format of Prometheus, which is that of Envoy's.
    pub(super) fn metrics(&self, envoy_responds: bool) -> String {
        let content = self.lock();
        let certificate = &content.certificate;
        let mut text = String::new();
        let mut metric = |name: &str, kind: &str, labels: &[(&str, u64)]| {
            let _ = writeln!(text, "# TYPE {name} {kind}");
            for (label, value) in labels {
                let _ = writeln!(text, "{name}{label} {value}");
            }
        };
        metric(
            "nuncio_envoy_ready",
            "gauge",
            &[("", (content.phase == Phase::Serving).into())],
        );
        metric("nuncio_envoy_up", "gauge", &[("", envoy_responds.into())]);
        metric(
            "nuncio_envoy_certificate_requests_total",
            "counter",
            &[
                (r#"{result="ok"}"#, certificate.issued),
                (r#"{result="error"}"#, certificate.failed),
            ],
        );
        if let Some(not_after) = certificate.not_after {
            let seconds = not_after.try_into().unwrap_or_default();
            metric(
                "nuncio_envoy_certificate_not_after_seconds",
                "gauge",
                &[("", seconds)],
            );
        }
        text
    }
}

impl Content {
    fn silent(&self) -> Option<Duration> {
        self.responded.map(|at| at.elapsed())
    }
}

fn silent(time: Duration) -> String {
    format!("Envoy has not responded for {} s\n", time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ready_from_the_first_configuration_until_it_stops_while_envoy_responds() {
        let state = State::default();
        assert!(state.waiting("a file\nof others"));
        assert!(!state.waiting("a file\nof others"), "not news");
        assert_eq!(
            state.ready(),
            Err("waiting for a file\\nof others\n".to_owned())
        );
        state.responded(true);
        state.serving();
        assert!(!state.waiting("a file"), "it has all it needs");
        assert!(state.ready().is_ok());
        tokio::time::advance(SILENT + Duration::from_secs(1)).await;
        let silent = Err("Envoy has not responded for 11 s\n".to_owned());
        assert_eq!(state.ready(), silent);
        assert!(state.alive().is_ok());
        tokio::time::advance(DEAD).await;
        assert!(state.alive().is_err());
        assert_eq!(state.disconnected(), None);
        state.responded(false);
        tokio::time::advance(Duration::from_secs(3)).await;
        state.responded(false);
        assert_eq!(state.disconnected(), Some(Duration::from_secs(3)));
        assert!(
            state.ready().is_ok() && state.alive().is_ok(),
            "it keeps serving without the control plane"
        );
        assert!(state.stopping(), "it has served");
        assert_eq!(state.ready(), Err("stopping\n".to_owned()));
        assert!(state.alive().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_at_once_is_none() {
        let (state, second) = (State::default(), Duration::from_secs(1));
        for is_connected in [false, true, false, false, true, false] {
            state.responded(is_connected);
            assert_eq!(state.disconnected().is_none(), is_connected);
            tokio::time::advance(second).await;
        }
        assert_eq!(state.disconnected(), Some(6 * second));
        for _ in 0..=STEADY.as_secs() {
            state.responded(true);
            tokio::time::advance(second).await;
        }
        state.responded(false);
        assert_eq!(state.disconnected(), Some(Duration::ZERO));
    }

    #[test]
    fn a_certificate_that_cannot_be_renewed_is_a_warning() {
        let state = State::default();
        assert!(!state.metrics(false).contains("not_after"));
        state.certified(1_800_000_000);
        state.serving();
        assert!(state.not_certified("no route to host"));
        assert!(!state.not_certified("no route to host"), "not news");
        let warning = "ready\nwarning: no route to host\n".to_owned();
        assert_eq!(state.ready(), Ok(warning));
        let metrics = state.metrics(true);
        for line in [
            "nuncio_envoy_up 1",
            "nuncio_envoy_ready 1",
            r#"nuncio_envoy_certificate_requests_total{result="error"} 2"#,
            "nuncio_envoy_certificate_not_after_seconds 1800000000",
        ] {
            assert!(metrics.lines().any(|it| it == line), "{metrics}");
        }
        let names = |text: &str, prefix: &str, end: char| -> BTreeSet<String> {
            let lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
            lines
                .filter(|line| line.starts_with("nuncio_envoy_"))
                .filter_map(|line| Some(line.split_once(end)?.0.to_owned()))
                .collect()
        };
        let page = include_str!("../../../config/METRICS.md");
        assert_eq!(names(&metrics, "# TYPE ", ' '), names(page, "| `", '`'));
        state.certified(1_900_000_000);
        assert_eq!(state.ready(), Ok("ready\n".to_owned()));
    }
}
