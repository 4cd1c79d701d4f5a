//! An ADS server with a cache that tests write to.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nuncio_xds::{
    ads::{self, Metrics, Settings},
    cache::{self, SnapshotCache, Update},
    fleet::{Fleet, FleetState},
    quarantine::Quarantine,
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};

/// Timeout of all waits.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    pub(crate) quarantine: Quarantine,
    pub(crate) cache: SnapshotCache,
    pub(crate) fleet: Fleet,
    pub(crate) address: SocketAddr,
    registry: Registry,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ads::Error>>,
}

/// Settings without a grace period for removals, so that no test has to wait for it.
pub(crate) fn settings() -> Settings {
    Settings {
        removal_grace: Duration::ZERO,
        shutdown_spread: Duration::from_millis(100),
        ..Settings::default()
    }
}

impl Server {
    /// Serves on a free port, with a cache that has no snapshot yet.
    pub(crate) async fn start(settings: Settings) -> Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), settings).await
    }

    pub(crate) async fn start_at(address: SocketAddr, settings: Settings) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (writer, cache) = cache::channel();
        let fleet = Fleet::new();
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        let server = ads::Server::new(cache.clone(), fleet.clone(), settings, metrics);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(listener, async {
            let _ = stopped.await; // an error also means stop
        }));
        Ok(Self {
            quarantine: Quarantine::new(writer, fleet.clone()),
            cache,
            fleet,
            address,
            registry,
            stop,
            task,
        })
    }

    /// Publishes an update, and returns the number of the snapshot.
    pub(crate) fn apply(&mut self, update: Update) -> u64 {
        self.quarantine.apply(update)
    }

    /// Waits for a state of the fleet.
    pub(crate) async fn fleet_is(
        &self,
        what: &str,
        mut is: impl FnMut(&FleetState) -> bool,
    ) -> Result<()> {
        let mut acknowledged = self.fleet.subscribe_acknowledged();
        let mut rejections = self.fleet.subscribe_rejections();
        let wait = async {
            while !is(&self.fleet.state()) {
                tokio::select! {
                    changed = acknowledged.changed() => changed?,
                    changed = rejections.changed() => changed?,
                }
            }
            Ok(())
        };
        timeout(TIMEOUT, wait).await.with_context(|| {
            format!(
                "timed out after {TIMEOUT:?} waiting until {what}; fleet: {:?}",
                self.fleet.state()
            )
        })?
    }

    /// Waits until the only client has acknowledged this snapshot.
    pub(crate) async fn is_acknowledged(&self, seq: u64) -> Result<()> {
        let what = format!("an Envoy has acknowledged snapshot {seq}");
        self.fleet_is(
            &what,
            |state| matches!(state.envoys.as_slice(), [envoy] if envoy.acked == seq),
        )
        .await
    }

    /// Sum of a metric over all labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        let lines = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([' ', '{']))
        });
        lines
            .map(|line| {
                let value = line.rsplit(' ').next().unwrap_or_default();
                value
                    .parse::<f64>()
                    .with_context(|| format!("no number in {line}"))
            })
            .sum()
    }

    /// Stops the server, which must end soon whatever the clients do.
    pub(crate) async fn stop(self) -> Result<()> {
        ensure!(self.stop.send(()).is_ok(), "server has ended early");
        let ended = timeout(Duration::from_secs(2), self.task).await;
        ended.context("server does not stop")???;
        Ok(())
    }
}
