//! `nuncio envoy`: the process of an Envoy pod. It obtains a certificate for the connection to the control plane, starts
//! Envoy, and says when it is ready; when it stops, its clients lose no request.
//!
//! This process is the first of its container and Envoy is its child, rather than two containers side by side: the two live
//! and stop together, in an order that is decided here, with no volume for certificates, no shared process namespace, and
//! no need for a cluster that knows sidecars. The pod needs no permission on the Kubernetes API.
//!
//! ```text
//!  certificate server ◄── request ── identity ── files ──► Envoy ──► control plane
//!                                        │                   ▲ admin
//!                     probes ◄── server ◄── state ◄── supervise ◄── SIGTERM
//! ```
//!
//! An Envoy that starts while the control plane is unavailable waits and is not ready. A copy of the last configuration
//! would have to be stored with all private keys, and could be older than a revoked one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use nuncio_xds::{
    bootstrap::{Bootstrap, SdsFiles, Tls},
    fleet::Protocol,
    socket::Address,
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    envoy::{self, Program, memory},
    http_server::{self, Limits},
    run::{Signals, Tasks},
};

pub mod arguments;
mod files;
mod identity;
mod request;
mod server;
mod state;
mod supervise;
#[cfg(test)]
mod testing;

use self::{
    arguments::{EnvoyPod, Identity},
    files::Directory,
    identity::Keeper,
    server::Pages,
    state::State,
    supervise::Supervisor,
};

/// Port of probes and metrics.
const PORT: u16 = 8006;

/// Runs an Envoy until SIGTERM.
///
/// # Errors
/// Options that contradict each other, an address that is taken, an Envoy that cannot be started or exits.
pub async fn run(pod: EnvoyPod) -> anyhow::Result<()> {
    // before all else: a signal that the first process of a container does not handle is lost
    let signals = Signals::new()?;
    let listener = listen(pod.process.listen).await?;
    let identity = pod.identity()?;
    anyhow::ensure!(
        pod.process.envoy.is_file(),
        "no Envoy found at {}; set --envoy",
        pod.process.envoy.display()
    );
    let directory = Directory::open(pod.process.directory.as_deref())?;
    let secrets = SdsFiles {
        certificate: directory.path().join("certificate.json"),
        ca: directory.path().join("ca.json"),
    };
    let admin = Address::Unix(directory.path().join("admin.sock"));
    let bootstrap = bootstrap(&pod, &identity, secrets.clone(), admin.clone());
    let path = directory.path().join("bootstrap.json");
    std::fs::write(&path, bootstrap.to_json().to_string())
        .context("cannot write Envoy's bootstrap")?;
    info!(node = bootstrap.node_id, cluster = bootstrap.cluster, listen = %listener.local_addr()?, "starting");

    let mut tasks = Tasks::new();
    let state = State::default();
    let (obtained, is_obtained) = watch::channel(false);
    let keeper = Keeper {
        identity,
        files: secrets,
        state: state.clone(),
        obtained,
        patience: Keeper::patience(),
    };
    tasks.start_endless("certificates", keeper.keep());
    // probes are answered until Envoy has stopped
    let stopped = CancellationToken::new();
    let router = server::router(Pages {
        state: state.clone(),
        admin: admin.clone(),
    });
    let server = http_server::serve(
        listener,
        router,
        Limits::default(),
        stopped.clone().cancelled_owned(),
    );
    let stop = tasks.stop.clone();
    tasks.start("server of probes and metrics", async move {
        server.await;
        // it ends with Envoy, whose task has the error
        stop.cancelled().await;
        Ok(())
    });
    let supervisor = Supervisor {
        program: Program {
            path: pod.process.envoy.clone(),
            concurrency: pod.process.concurrency,
            drain_time: pod.drain.drain_time,
        },
        bootstrap: path,
        admin,
        state,
        drain_delay: pod.drain.delay(),
        drain_timeout: pod.drain.timeout(),
    };
    tasks.grace += pod.drain.delay() + pod.drain.timeout();
    let stop = tasks.stop.clone();
    tasks.start("Envoy", async move {
        let _stopped = stopped.drop_guard();
        supervisor.run(is_obtained, stop).await
    });
    let result = tasks.finish_on(signals).await;
    drop(directory);
    result
}

/// Listens for probes and metrics: on all addresses of IPv6 and IPv4, or of IPv4 where there is no IPv6.
async fn listen(address: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    let listener = match address {
        Some(address) => TcpListener::bind(address).await,
        None => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).await {
            Ok(listener) => Ok(listener),
            Err(_no_ipv6) => TcpListener::bind(all).await,
        },
    };
    let address = address.unwrap_or(all);
    listener
        .with_context(|| format!("cannot listen on {address}; set another address with --listen"))
}

fn bootstrap(pod: &EnvoyPod, identity: &Identity, files: SdsFiles, admin: Address) -> Bootstrap {
    Bootstrap {
        node_id: pod.node.id(),
        cluster: pod.node.cluster(),
        ambassador_id: pod.node.ambassador_id.clone(),
        zone: envoy::zone(),
        xds: pod.xds.clone(),
        admin,
        ready: None,
        protocol: Protocol::Delta,
        tls: (*identity != Identity::None).then_some(Tls::Sds(files)),
        max_heap_bytes: pod.process.max_heap_bytes.or_else(memory::heap_limit),
        max_connections: envoy::max_connections(pod.process.max_connections),
        statsd: crate::statsd::from_env(),
    }
}
