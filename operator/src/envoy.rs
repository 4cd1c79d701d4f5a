//! An Envoy as a child process: its bootstrap is written to a private directory, it is restarted when it exits, and it
//! exits with this process, after its open requests.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    num::NonZeroU32,
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use anyhow::Context as _;
use backon::{
    BackoffBuilder as _, ConstantBuilder, ExponentialBackoff, ExponentialBuilder, Retryable as _,
};
use nuncio_xds::{
    bootstrap::{Bootstrap, MAX_CONNECTIONS},
    fleet::Protocol,
    socket::Address,
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::descriptors::{self, Share};

pub(crate) mod admin;
mod child;
pub(crate) mod drain;
pub(crate) mod memory;

pub(crate) use self::child::Envoy;
pub use self::child::{Program, attached};

/// How long requests that are open when the process stops may take.
pub const DRAIN: Duration = Duration::from_secs(30);
/// Pauses before restarts after the first one, which is at once; jitter at most doubles one.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(200))
    .with_max_delay(Duration::from_secs(5))
    .without_max_times()
    .with_jitter();
/// How often an address is tried that is in use: the Envoy of a process that was stopped can hold it a little longer.
const FREE: ConstantBuilder = ConstantBuilder::new()
    .with_delay(Duration::from_millis(100))
    .with_max_times(20);
/// An Envoy that ran for this long does not crash at startup: the next restart is at once again.
const SETTLED: Duration = Duration::from_secs(30);

/// The Envoy to run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub program: Program,
    /// `node.cluster`
    pub cluster: String,
    /// Address of the xDS server.
    pub xds: Address,
    /// Address of its admin interface; `None`: a private Unix socket.
    pub admin: Option<Address>,
    /// Address of readiness and statistics.
    pub ready: SocketAddr,
    /// Heap limit in bytes; `None`: 90 % of the memory of the container or machine.
    pub max_heap_bytes: Option<u64>,
    /// Maximum number of connections from clients; `None`: as many as its file descriptors allow, up to [`MAX_CONNECTIONS`].
    pub max_connections: Option<NonZeroU32>,
}

/// Runs an Envoy until `stop`. `directory` is for its files and sockets; nobody else may read it.
///
/// # Errors
/// A program that cannot be started, or that cannot use its settings, such as a port that is taken.
pub async fn run(
    settings: Settings,
    directory: TempDir,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        settings.program.path.is_file(),
        "no Envoy found at {}",
        settings.program.path.display()
    );
    let bootstrap = self::bootstrap(&settings, directory.path());
    let path = directory.path().join("bootstrap.json");
    std::fs::write(&path, bootstrap.to_json().to_string())
        .context("cannot write Envoy's bootstrap")?;
    free(settings.ready, "--envoy-ready-address").await?;
    if let Some(Address::Tcp(admin)) = settings.admin {
        free(admin, "--envoy-admin-address").await?;
    }
    let mut is_first = true;
    let mut pauses: Option<ExponentialBackoff> = None;
    loop {
        let started = tokio::time::Instant::now();
        let mut envoy = settings.program.start(&path)?;
        info!(pid = envoy.id(), admin = %bootstrap.admin, ready = %settings.ready, "Envoy started");
        tokio::select! {
            status = envoy.wait() => {
                let status = status?;
                // a crash is a signal; Envoy itself exits with an error only when it cannot start
                anyhow::ensure!(
                    !is_first || is_clean(status),
                    "Envoy cannot start ({status}): {}",
                    envoy.last_line().await
                );
                warn!(%status, "Envoy exited; restarting");
            }
            () = stop.cancelled() => {
                stop_envoy(envoy, &bootstrap.admin).await;
                return Ok(());
            }
        }
        is_first = false;
        if started.elapsed() > SETTLED {
            pauses = None;
        }
        let pause = match &mut pauses {
            None => Duration::ZERO,
            Some(pauses) => pauses.next().unwrap_or(SETTLED),
        };
        pauses.get_or_insert_with(|| BACKOFF.build());
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Whether a process was ended by a signal or by itself without an error.
fn is_clean(status: ExitStatus) -> bool {
    status.code().is_none_or(|code| code == 0)
}

/// Waits until an address is free: Envoy would share a port with another Envoy, and exit because of another program.
async fn free(address: SocketAddr, flag: &str) -> anyhow::Result<()> {
    let bind = || async { TcpListener::bind(address).map(drop) };
    bind.retry(FREE)
        .when(|error| error.kind() == ErrorKind::AddrInUse)
        .await
        .with_context(|| {
            format!("Envoy cannot listen on {address}; set another address with {flag}")
        })
}

fn bootstrap(settings: &Settings, directory: &Path) -> Bootstrap {
    let admin = || Address::Unix(directory.join("admin.sock"));
    Bootstrap {
        node_id: unique_id(),
        cluster: settings.cluster.clone(),
        ambassador_id: None,
        zone: zone(),
        xds: settings.xds.clone().into(),
        admin: settings.admin.clone().unwrap_or_else(admin),
        ready: Some(settings.ready),
        protocol: Protocol::Delta,
        tls: None,
        max_heap_bytes: settings.max_heap_bytes.or_else(memory::heap_limit),
        max_connections: max_connections(settings.max_connections),
        statsd: crate::statsd::from_env(),
    }
}

/// The zone that Envoy runs in, if it is known.
pub(crate) fn zone() -> Option<String> {
    let zone = std::env::var("NUNCIO_ZONE").ok()?;
    (!zone.is_empty()).then_some(zone)
}

/// What is configured, or what the file descriptors of an Envoy allow.
pub(crate) fn max_connections(configured: Option<NonZeroU32>) -> NonZeroU32 {
    let most = usize::try_from(MAX_CONNECTIONS.get()).unwrap_or(usize::MAX);
    let affordable = || {
        let number = descriptors::at_most_in_child(most, Share::Half);
        let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
        number.unwrap_or(MAX_CONNECTIONS)
    };
    configured.unwrap_or_else(affordable)
}

/// ID of an Envoy: the host name with a random suffix, since several Envoys can run on a machine.
#[must_use]
pub fn unique_id() -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    format!("{}-{:08x}", hostname(), random as u32)
}

/// Host name of this machine or pod.
#[must_use]
pub fn hostname() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().into_owned()
}

/// Stops an Envoy after its open requests.
async fn stop_envoy(mut envoy: Envoy, admin: &Address) {
    tokio::select! {
        drained = timeout(DRAIN, drain::drain(admin)) => match drained {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(error = format!("{error:#}"), "Envoy cannot be drained"),
            Err(_elapsed) => warn!(limit = ?DRAIN, "requests are still open; stopping Envoy"),
        },
        _ = envoy.wait() => {}
    }
    envoy.stop().await;
}
