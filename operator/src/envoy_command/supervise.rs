//! The life of the Envoy: it starts once it has a certificate, and stops after the requests of its clients.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use axum::http::Method;
use nuncio_xds::socket::Address;
use serde::Deserialize;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::state::State;
use crate::envoy::{Envoy, Program, admin, drain};

/// How often Envoy is asked for its first configuration, and for a sign of life after that.
const PERIODS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often open requests are counted.
const COUNT: Duration = Duration::from_millis(50);
/// How long idle connections are waited for: a client may be sending a request on one. Each response closes its connection,
/// so that only those stay on which nothing is sent.
const IDLE: Duration = Duration::from_secs(5);

/// An Envoy that is to run.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// The program.
    pub(super) program: Program,
    /// Its bootstrap.
    pub(super) bootstrap: PathBuf,
    /// Its admin interface.
    pub(super) admin: Address,
    /// What is known about it.
    pub(super) state: State,
    /// How long load balancers may take to notice that it stops.
    pub(super) drain_delay: Duration,
    /// How long requests may take after that.
    pub(super) drain_timeout: Duration,
}

impl Supervisor {
    /// Runs Envoy until `stop`, from when `obtained` is true.
    ///
    /// # Errors
    /// Envoy cannot be started, or exits.
    pub(super) async fn run(
        self,
        mut obtained: watch::Receiver<bool>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                self.state.stopping();
                return Ok(());
            }
            result = obtained.wait_for(|obtained| *obtained) => { result?; }
        }
        let mut envoy = self.program.start(&self.bootstrap)?;
        self.state.responded(false);
        info!(pid = envoy.id(), admin = %self.admin, "Envoy started");
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
            result = exited(&mut envoy) => return result,
        }
        let has_served = self.state.stopping();
        if has_served {
            info!(delay = ?self.drain_delay, timeout = ?self.drain_timeout, "draining");
            tokio::select! {
                () = self.drain() => {}
                result = exited(&mut envoy) => {
                    if let Err(error) = &result {
                        warn!(error = format!("{error:#}"), "Envoy exited while draining");
                    }
                    return result;
                }
            }
        }
        envoy.stop().await;
        info!("Envoy stopped");
        Ok(())
    }

    /// Watches Envoy, first for its configuration.
    async fn follow(&self) {
        loop {
            match Observed::of(&self.admin).await {
                Ok(observed) => {
                    self.state.responded(observed.is_connected());
                    let Some(missing) = observed.missing() else {
                        break;
                    };
                    if self.state.waiting(&missing) {
                        info!(reason = missing, "waiting for Envoy's configuration");
                    }
                }
                // it is starting
                Err(error) => {
                    self.state.waiting(&format!("Envoy: {error:#}"));
                }
            }
            sleep(PERIODS.0).await;
        }
        self.state.serving();
        info!("ready");
        loop {
            sleep(PERIODS.1).await;
            if let Ok(observed) = Observed::of(&self.admin).await {
                self.state.responded(observed.is_connected());
            }
        }
    }

    /// Waits until clients have what they have asked for.
    async fn drain(&self) {
        // load balancers notice, and clients that keep a connection go elsewhere with their next request
        let begin = async {
            patiently(|| drain::close_connections(&self.admin)).await;
            std::future::pending().await
        };
        let _: Result<(), _> = timeout(self.drain_delay, begin).await;
        let end = async {
            patiently(|| drain::close_connections(&self.admin)).await;
            patiently(|| drain::stop_listening(&self.admin)).await;
            self.idle().await;
        };
        if timeout(self.drain_timeout, end).await.is_err() {
            let limit = self.drain_timeout;
            warn!(?limit, "requests are still open; stopping Envoy");
        }
    }

    /// Waits until no request is open.
    async fn idle(&self) {
        let start = Instant::now();
        let mut were_open = true;
        loop {
            if let Ok(open) = drain::open(&self.admin).await {
                let are_open = open.requests > 0;
                let is_quiet = open.connections == 0 || start.elapsed() > IDLE;
                // a request may have been on its way when they were counted
                if is_quiet && !are_open && !were_open {
                    return;
                }
                were_open = are_open;
            }
            sleep(COUNT).await;
        }
    }
}

/// Repeats a request to an Envoy that may be busy.
async fn patiently<F: Future<Output = anyhow::Result<()>>>(request: impl Fn() -> F) {
    while request().await.is_err() {
        sleep(COUNT).await;
    }
}

/// Waits for the exit of an Envoy, which is an error.
async fn exited(envoy: &mut Envoy) -> anyhow::Result<()> {
    let status = envoy.wait().await.context("Envoy")?;
    bail!("Envoy exited ({status}): {}", envoy.last_line().await)
}

#[derive(Deserialize)]
struct ServerInfo {
    state: String,
}

/// What Envoy says about itself.
#[derive(Debug)]
struct Observed {
    /// `INITIALIZING`, `LIVE` or `DRAINING`.
    state: String,
    stats: String,
}

impl Observed {
    async fn of(address: &Address) -> anyhow::Result<Self> {
        const STATS: &str = "/stats?filter=^(control_plane.connected_state|listener_manager.(workers_started|total_listeners_warming))$";
        let info = admin::request(address, Method::GET, "/server_info").await?;
        let info: ServerInfo = serde_json::from_str(&info)?;
        let stats = admin::request(address, Method::GET, STATS).await?;
        Ok(Self {
            state: info.state,
            stats,
        })
    }

    fn stat(&self, name: &str) -> Option<u64> {
        let value = self
            .stats
            .lines()
            .find_map(|line| line.strip_prefix(name))?;
        value.strip_prefix(": ")?.parse().ok()
    }

    fn is_connected(&self) -> bool {
        self.stat("control_plane.connected_state") == Some(1)
    }

    /// What is missing of the first complete configuration: clusters and listeners with all that they refer to, and workers
    /// that serve them.
    fn missing(&self) -> Option<String> {
        let warming = self.stat("listener_manager.total_listeners_warming");
        if self.state != "LIVE" && !self.is_connected() {
            return Some("Envoy's connection to the control plane".to_owned());
        }
        if self.state != "LIVE" {
            return Some(format!(
                "Envoy's first configuration (it is {})",
                self.state
            ));
        }
        if let Some(warming @ 1..) = warming {
            return Some(format!("{warming} of Envoy's listeners"));
        }
        if self.stat("listener_manager.workers_started") != Some(1) {
            return Some("Envoy's workers".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_complete_when_workers_serve_all_listeners() {
        let observed = |state: &str, connected: u8, warming: u8, started: u8| Observed {
            state: state.to_owned(),
            stats: format!(
                "control_plane.connected_state: {connected}\nlistener_manager.total_listeners_warming: {warming}\nlistener_manager.workers_started: {started}\n"
            ),
        };
        let missing = |state: &str, connected, warming, started| {
            let observed = observed(state, connected, warming, started);
            observed.missing().unwrap_or_default()
        };
        assert_eq!(missing("LIVE", 1, 0, 1), "");
        assert!(missing("INITIALIZING", 0, 0, 0).contains("control plane"));
        assert!(missing("INITIALIZING", 1, 0, 0).contains("INITIALIZING"));
        assert!(missing("LIVE", 1, 2, 1).starts_with("2 "));
        assert!(missing("LIVE", 1, 0, 0).contains("workers"));
        // the control plane may be gone again by the time that Envoy has everything
        assert_eq!(missing("LIVE", 0, 0, 1), "");
        assert!(observed("LIVE", 1, 0, 1).is_connected());
        assert!(!observed("LIVE", 0, 0, 1).is_connected());
    }
}
