//! Every task of the process is started here. If one stops unexpectedly, the process exits with its error. On SIGINT or
//! SIGTERM they stop in order: readiness first, then streams and an Envoy after its open requests, then Leases are released;
//! a second signal ends the waiting. On SIGHUP files are read again.

use std::{
    collections::BTreeSet, fs::Permissions, future::Future, os::unix::fs::PermissionsExt as _,
    path::Path, sync::Arc, time::Duration,
};

use anyhow::Context as _;
use kube::{Client, config::KubeConfigOptions};
use nuncio_crds::kind::Scope;
use nuncio_xds::{
    ads,
    cache::{self, SnapshotCache},
    fleet::Fleet,
    socket::{Address, Listener},
    tls::{Files, Tls},
};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    args::{EnvoyArguments, IdentityArguments, Servers},
    client::{self, Limits},
    default_listeners, envoy, files,
    health::{self, Health, Progress},
    identity::{self, Identity, Peers, Policy, ServiceAccount},
    istio,
    leader::{self, access::Access},
    metrics::Metrics,
    publish::{self, Outputs, Question},
    status::{
        self, Book, Manager,
        replica::{self, Replica},
    },
    unsupported,
    watch::{self as kube_watch, definitions::Definitions},
};
use nuncio_core::{
    change::{Change, Source},
    object::Kind,
    settings::Settings,
    store::WantedSecrets,
};

/// Batches of changes that wait for the publish loop; a source that sends more waits.
const CHANGES: usize = 64;
/// How long tasks may take to stop. Streams of Envoys end within [`ads::Settings::shutdown_spread`].
const GRACE: Duration = Duration::from_secs(5);

/// The tasks of a process; all run until `stop`.
pub struct Tasks {
    set: JoinSet<anyhow::Result<()>>,
    /// Cancelled when the process stops.
    pub stop: CancellationToken,
    /// Notified when files must be read again.
    pub reread: Arc<Notify>,
    /// How long tasks may take to stop.
    pub grace: Duration,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

impl Tasks {
    /// No tasks yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            set: JoinSet::new(),
            stop: CancellationToken::new(),
            reread: Arc::default(),
            grace: GRACE,
        }
    }

    /// Starts a task. `name` appears in its error.
    pub fn start(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.set.spawn(async move {
            let result = task.await;
            if stop.is_cancelled() {
                return Ok(());
            }
            match result {
                Ok(()) => Err(anyhow::anyhow!("{name} stopped unexpectedly")),
                Err(error) => Err(error.context(name)),
            }
        });
    }

    /// Starts a task that cannot fail and is dropped when the process stops.
    pub fn start_endless(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let stop = self.stop.clone();
        self.start(name, async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
            Ok(())
        });
    }

    /// Waits for a signal or for a task that fails, then stops all tasks.
    ///
    /// # Errors
    /// That of the task.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.finish_on(Signals::new()?).await
    }

    /// As [`finish`](Self::finish), with signals that were handled earlier than this.
    ///
    /// # Errors
    /// That of the task.
    pub async fn finish_on(mut self, signals: Signals) -> anyhow::Result<()> {
        let Signals {
            mut interrupt,
            mut terminate,
            mut hangup,
        } = signals;
        let result = loop {
            tokio::select! {
                _ = interrupt.recv() => break Ok(()),
                _ = terminate.recv() => break Ok(()),
                _ = hangup.recv() => self.reread.notify_one(),
                Some(ended) = self.set.join_next() => break ended.unwrap_or_else(|panic| Err(panic.into())),
            }
        };
        if result.is_ok() {
            info!("stopping");
        }
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.set.join_next().await {
                if let Ok(Err(error)) = ended {
                    error!(error = format!("{error:#}"), "task failed while stopping");
                }
            }
        };
        tokio::select! {
            _ = timeout(self.grace, all) => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        self.set.abort_all();
        result
    }
}

/// The signals that a process handles, from when this value is made.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Handles the signals from now on.
    ///
    /// # Errors
    /// The kernel does not allow it.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// The parts that `operator` and `serve` share.
pub struct ControlPlane {
    /// Where sources send changes.
    pub changes: mpsc::Sender<Vec<Change>>,
    /// Where sources ask before they believe a list.
    pub questions: mpsc::Sender<Question>,
    /// Reports and statuses of objects.
    pub book: Book,
    /// What each source still waits for.
    pub progress: Progress,
    /// Metrics of this process.
    pub metrics: Metrics,
    /// Secrets that other objects refer to.
    pub wanted_secrets: watch::Receiver<WantedSecrets>,
    /// The configuration of Envoys.
    pub snapshots: SnapshotCache,
    /// The connected Envoys.
    pub fleet: Fleet,
    /// Address of the xDS server.
    pub xds_address: Address,
}

async fn serve_health(listener: TcpListener, health: Health) -> anyhow::Result<()> {
    let stop = health.stopping.clone();
    health::serve(listener, health, stop.cancelled_owned()).await;
    Ok(())
}

/// Starts the publish loop, the ADS server and the health server.
///
/// # Errors
/// Addresses that cannot be bound, certificates that cannot be read.
pub async fn start(
    tasks: &mut Tasks,
    servers: &Servers,
    settings: &Settings,
    security: (Option<Tls>, Peers),
) -> anyhow::Result<ControlPlane> {
    let mut registry = Registry::with_prefix("nuncio");
    let metrics = Metrics::new(&mut registry);
    let mut xds_registry = Registry::with_prefix("nuncio");
    let ads_metrics = ads::Metrics::new(&mut xds_registry);
    let (changes, inputs) = mpsc::channel(CHANGES);
    let (questions, asked) = mpsc::channel(1);
    let (writer, cache) = cache::channel();
    let (ready_sender, ready) = watch::channel(false);
    let (unbound_sender, unbound) = watch::channel(Vec::new());
    let (wanted_sender, wanted_secrets) = watch::channel(None);
    let (fleet, book, progress) = (Fleet::new(), Book::default(), Progress::default());

    let xds_address = servers.xds_address();
    let xds = Listener::bind(&xds_address)
        .await
        .with_context(|| cannot_listen(&xds_address, "--xds-address"))?;
    let xds_address = xds.address()?;
    let health = TcpListener::bind(servers.health_address)
        .await
        .with_context(|| cannot_listen(&servers.health_address.into(), "--health-address"))?;
    let health_address = health.local_addr()?;
    let outputs = Outputs {
        writer,
        fleet: fleet.clone(),
        book: book.clone(),
        ready: ready_sender,
        unbound: unbound_sender,
        wanted_secrets: wanted_sender,
        metrics: metrics.clone(),
    };
    tasks.start_endless(
        "publish loop",
        publish::run(inputs, asked, outputs, settings.clone()),
    );
    if let Some(directory) = settings.istio_secret_dir.clone() {
        tasks.start_endless(
            "Istio certificates",
            istio::follow(directory, settings.clone(), changes.clone()),
        );
    }
    let snapshots = cache.clone();
    let xds_settings = xds_settings(servers, settings, security, &xds_address);
    let server = ads::Server::new(cache, fleet.clone(), xds_settings, ads_metrics);
    let stop = tasks.stop.clone();
    tasks.start("xDS server", async move {
        server
            .serve(xds, stop.cancelled_owned())
            .await
            .map_err(Into::into)
    });
    let health_state = Health {
        ready,
        unbound,
        progress: progress.clone(),
        registries: Arc::new([registry, xds_registry]),
        stopping: tasks.stop.clone(),
    };
    tasks.start("health server", serve_health(health, health_state));
    info!(xds = %xds_address, health = %health_address, "control plane started");
    Ok(ControlPlane {
        changes,
        questions,
        book,
        progress,
        metrics,
        wanted_secrets,
        snapshots,
        fleet,
        xds_address,
    })
}

/// Settings of the ADS server on this address.
fn xds_settings(
    servers: &Servers,
    settings: &Settings,
    (tls, peers): (Option<Tls>, Peers),
    address: &Address,
) -> ads::Settings {
    let age = Duration::from_secs(servers.xds_max_connection_age);
    ads::Settings {
        tls,
        authorize: Arc::new(Policy {
            fleet: settings.ambassador_id.clone(),
            peers,
        }),
        max_connection_age: Some(age).filter(|age| !age.is_zero()),
        max_connections: max_connections(),
        shutdown_spread: shutdown_spread(address),
        ..ads::Settings::default()
    }
}

fn cannot_listen(address: &Address, flag: &str) -> String {
    format!("cannot listen on {address}; set another address with {flag}")
}

/// In which time streams end. Envoys spread over other replicas; one of this machine has no other.
fn shutdown_spread(address: &Address) -> Duration {
    match address {
        Address::Tcp(_) => ads::Settings::default().shutdown_spread,
        Address::Unix(_) => Duration::ZERO,
    }
}

/// Maximum number of connections of the ADS server: half of the file descriptors.
fn max_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let half = limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit / 2).unwrap_or(usize::MAX)
    });
    half.min(ads::Settings::default().max_connections)
}

/// Certificates of the ADS server, and whose it accepts. Without them it serves loopback only, unless `--xds-insecure` is set.
fn xds_tls(servers: &Servers) -> anyhow::Result<(Option<Tls>, Peers)> {
    let address = servers.xds_address();
    let is_local = match &address {
        Address::Tcp(address) => address.ip().is_loopback(),
        Address::Unix(_) => true,
    };
    if let (Some(certificate), Some(key), Some(ca)) = (
        &servers.xds_tls_cert,
        &servers.xds_tls_key,
        &servers.xds_tls_client_ca,
    ) {
        let names = &servers.xds_client_name;
        anyhow::ensure!(
            is_local || !names.is_empty(),
            "--xds-address {address} is reachable from other machines, and every client with a certificate of \
             --xds-tls-client-ca gets all private keys: set --xds-client-name to the URI or DNS name in the certificate of Envoys"
        );
        let tls = Tls::Files(Files {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: ca.clone(),
        });
        let peers = match names.as_slice() {
            [] => Peers::AnyCertificate,
            names => Peers::Named(names.iter().cloned().collect()),
        };
        return Ok((Some(tls), peers));
    }
    anyhow::ensure!(
        is_local || servers.xds_insecure,
        "--xds-address {address} is reachable from other machines, and every client that connects gets all private keys: set \
         --xds-tls-cert, --xds-tls-key and --xds-tls-client-ca, or --xds-insecure on a trusted network"
    );
    Ok((None, Peers::Any))
}

/// The identity of Envoys, if this control plane signs their certificates.
fn own_identity(
    servers: &Servers,
    arguments: &IdentityArguments,
    settings: &Settings,
) -> Option<Identity> {
    let address = arguments.address(servers)?;
    let namespace = &settings.ambassador_namespace;
    let mut accounts: BTreeSet<_> = arguments.envoy_service_accounts.iter().cloned().collect();
    if accounts.is_empty() {
        accounts.insert(ServiceAccount {
            namespace: namespace.clone(),
            name: identity::ENVOY_SERVICE_ACCOUNT.to_owned(),
        });
    }
    Some(Identity::new(namespace, address, accounts))
}

/// Runs the control plane of a cluster.
///
/// # Errors
/// A cluster that cannot be found, or a task that fails.
pub async fn operator(
    context: Option<String>,
    default_listeners: bool,
    servers: Servers,
    identity: IdentityArguments,
    settings: Settings,
) -> anyhow::Result<()> {
    let own_identity = own_identity(&servers, &identity, &settings);
    let mut own_ports = servers.open_ports();
    if let Some(port) = servers.xds_address().port()
        && own_identity.is_some()
    {
        own_ports.remove(&port);
    }
    let settings = Settings {
        in_cluster: true,
        reads_secrets_on_demand: true,
        own_ports,
        ..settings
    };
    let client = connect(context).await?;
    let mut tasks = Tasks::new();
    let security = match &own_identity {
        Some(identity) => (Some(identity.xds_tls()), identity.peers()),
        None => xds_tls(&servers)?,
    };
    let plane = start(&mut tasks, &servers, &settings, security).await?;
    if let Some(identity) = own_identity {
        let (progress, metrics) = (plane.progress.clone(), plane.metrics.clone());
        identity
            .start(&mut tasks, client.clone(), progress, metrics)
            .await?;
    }
    let (installed, definitions) = watch::channel(Definitions::default());
    let watching = kube_watch::Context {
        client: client.clone(),
        settings: settings.clone(),
        changes: plane.changes.clone(),
        questions: plane.questions.clone(),
        book: plane.book.clone(),
        progress: plane.progress.clone(),
        metrics: plane.metrics.clone(),
        definitions,
    };
    tasks.start_endless(
        "definitions",
        kube_watch::definitions::watch(watching.clone(), installed),
    );
    watch_all(&mut tasks, &watching, &plane.wanted_secrets).await?;
    let identity = std::env::var("POD_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("{}-{}", envoy::hostname(), std::process::id()));
    let (leading_sender, leading) = watch::channel(false);
    if default_listeners {
        let create = default_listeners::create(client.clone(), settings.clone(), leading.clone());
        tasks.start_endless("default Listeners", create);
    }
    let replica = write_status(
        &mut tasks,
        plane,
        &client,
        &settings,
        &identity,
        watching.definitions,
        (leading_sender, leading),
    );
    let result = tasks.finish().await;
    let namespace = &settings.ambassador_namespace;
    let lease = leader::lease_name(&settings.ambassador_id);
    let release = async {
        tokio::join!(
            leader::resign(client, namespace, &lease, &identity),
            replica.withdraw()
        )
    };
    let _ = timeout(GRACE, release).await;
    result
}

/// Starts a watch of each kind.
async fn watch_all(
    tasks: &mut Tasks,
    watching: &kube_watch::Context,
    wanted_secrets: &watch::Receiver<WantedSecrets>,
) -> anyhow::Result<()> {
    for kind in Kind::WATCHED {
        if kind == Kind::Secret {
            tasks.start_endless(
                "Secrets",
                kube_watch::secret::watch(watching.clone(), wanted_secrets.clone()),
            );
        } else if kind.info().scope == Scope::Cluster
            && watching.settings.single_namespace.is_some()
        {
            // a Role cannot grant cluster-scoped kinds, and with one namespace there is nothing to select
            let none = vec![Change::Replace(Source::Api, kind, Vec::new())];
            watching.changes.send(none).await?;
        } else {
            tasks.start_endless(kind.name(), kube_watch::watch(kind, watching.clone()));
        }
    }
    Ok(())
}

/// Starts what writes status: leader election, the Lease of this replica, and the writer.
fn write_status(
    tasks: &mut Tasks,
    plane: ControlPlane,
    client: &Client,
    settings: &Settings,
    identity: &str,
    definitions: watch::Receiver<Definitions>,
    (leading_sender, leading): (watch::Sender<bool>, watch::Receiver<bool>),
) -> Replica {
    let access = |purpose, outcome| {
        Access::new(
            plane.progress.clone(),
            plane.metrics.clone(),
            purpose,
            outcome,
        )
    };
    tasks.start_endless(
        "leader election",
        leader::campaign(
            client.clone(),
            settings.ambassador_namespace.clone(),
            leader::lease_name(&settings.ambassador_id),
            identity.to_owned(),
            leading_sender,
            access(
                "leader election",
                "status is not written while no replica leads",
            ),
        ),
    );
    tasks.start_endless(
        "unsupported kinds",
        unsupported::follow(
            client.clone(),
            settings.clone(),
            definitions,
            leading.clone(),
        ),
    );
    tasks.start_endless(
        "leadership",
        lead(leading, plane.book.clone(), plane.metrics.clone()),
    );
    let replica = Replica::new(client.clone(), settings, identity);
    tasks.start_endless(
        "replica Lease",
        replica::announce(
            replica.clone(),
            plane.fleet.clone(),
            access(
                "replica Lease",
                "the Envoys of this replica are not counted in status",
            ),
        ),
    );
    tasks.start_endless(
        "Envoy count",
        replica::follow(
            replica.clone(),
            plane.snapshots,
            plane.fleet,
            plane.book.clone(),
            access(
                "Envoy count",
                "the Envoys of other replicas are not counted in status",
            ),
        ),
    );
    tasks.start_endless(
        "status writer",
        status::write(
            plane.book,
            client.clone(),
            plane.metrics,
            Manager::new(settings),
        ),
    );
    replica
}

async fn connect(context: Option<String>) -> anyhow::Result<Client> {
    let config = match context {
        None => kube::Config::infer()
            .await
            .context("no cluster found: set KUBECONFIG, or run inside a cluster")?,
        Some(context) => {
            let options = KubeConfigOptions {
                context: Some(context),
                ..KubeConfigOptions::default()
            };
            kube::Config::from_kubeconfig(&options).await?
        }
    };
    Ok(client::connect(config, Limits::default())?)
}

async fn lead(mut leading: watch::Receiver<bool>, book: Book, metrics: Metrics) {
    loop {
        let is_leader = *leading.borrow_and_update();
        book.lead(is_leader);
        metrics.leader.set(i64::from(is_leader));
        if leading.changed().await.is_err() {
            return;
        }
    }
}

/// Runs the control plane of a directory, with an Envoy if one is configured.
///
/// # Errors
/// A directory that cannot be read, or a task that fails.
pub async fn serve(
    directory: &Path,
    servers: Servers,
    envoy: EnvoyArguments,
    settings: Settings,
) -> anyhow::Result<()> {
    let mut tasks = Tasks::new();
    serve_in(&mut tasks, directory, &servers, &envoy, settings).await?;
    tasks.finish().await
}

/// Starts the tasks of [`serve`].
///
/// # Errors
/// A directory that cannot be read, or addresses that cannot be bound.
pub async fn serve_in(
    tasks: &mut Tasks,
    directory: &Path,
    servers: &Servers,
    envoy: &EnvoyArguments,
    settings: Settings,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        directory.is_dir(),
        "{} is not a directory",
        directory.display()
    );
    let private = tempfile::Builder::new()
        .prefix("nuncio-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
        .context("cannot create a private directory")?;
    let mut servers = servers.clone();
    if envoy.envoy.is_some() && servers.xds_address.is_none() {
        servers.xds_address = Some(Address::Unix(private.path().join("xds.sock")));
    }
    let mut own_ports = servers.open_ports();
    own_ports.extend(envoy.envoy_admin_address.as_ref().and_then(Address::port));
    let settings = Settings {
        own_ports,
        ..settings
    };
    let plane = start(tasks, &servers, &settings, xds_tls(&servers)?).await?;
    let directory = directory.to_owned();
    let changes = plane.changes;
    let (stop, reread) = (tasks.stop.clone(), tasks.reread.clone());
    tasks.start("files", async move {
        tokio::select! {
            result = files::follow(&directory, &settings, changes, &reread) => result,
            () = stop.cancelled() => Ok(()),
        }
    });
    if let Some(program) = &envoy.envoy {
        let settings = envoy::Settings {
            program: envoy::Program {
                path: program.clone(),
                concurrency: envoy.envoy_concurrency,
                drain_time: envoy.envoy_drain_time,
            },
            xds: plane.xds_address,
            admin: envoy.envoy_admin_address.clone(),
            ready: envoy.envoy_ready_address,
            max_heap_bytes: envoy.envoy_max_heap_bytes,
            max_connections: envoy.envoy_max_connections,
        };
        tasks.grace = envoy::DRAIN + 2 * GRACE;
        tasks.start("Envoy", envoy::run(settings, private, tasks.stop.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command};

    fn servers(line: &str) -> Servers {
        let line = format!("nuncio operator {line}");
        match Arguments::parse_from(line.split(' ')).command {
            Command::Operator { servers, .. } => servers,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_shared_certificate_needs_a_name_beyond_loopback() {
        let tls = "--xds-tls-cert c --xds-tls-key k --xds-tls-client-ca a";
        let beyond = format!("--xds-address 0.0.0.0:8003 {tls}");
        let error = xds_tls(&servers(&beyond)).unwrap_err().to_string();
        assert!(error.contains("set --xds-client-name"), "{error}");
        let (_, peers) = xds_tls(&servers(&format!("{beyond} --xds-client-name b"))).unwrap();
        assert!(matches!(peers, Peers::Named(names) if names == ["b".to_owned()].into()));
        let (_, peers) = xds_tls(&servers(&format!("--xds-address 127.0.0.1:8003 {tls}"))).unwrap();
        assert!(matches!(peers, Peers::AnyCertificate), "{peers:?}");
        let (tls, peers) = xds_tls(&servers("--xds-address unix:/xds")).unwrap();
        assert!(tls.is_none() && matches!(peers, Peers::Any), "{peers:?}");
    }
}
