//! Every task of the process is started here. If one stops unexpectedly, the process exits with its error. On SIGINT or
//! SIGTERM they stop in order: readiness first, then streams and an Envoy after its open requests, then Leases are released;
//! a second signal ends the waiting. On SIGHUP files are read again.

use std::{
    collections::BTreeMap,
    fs::Permissions,
    future::Future,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::future::join_all;
use kube::{Client, config::KubeConfigOptions};
use nuncio_crds::kind::Scope;
use nuncio_xds::{
    ads::{self, Served},
    cache::{self, SnapshotCache},
    encodings::Encodings,
    fleet::{Fleet, Rejection},
    quarantine::{Elsewhere, Quarantine},
    socket::{Address, Listener},
    tls::{Files, Tls},
};
use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    apiext::unconverted,
    args::{EnvoyArguments, IdentityArguments, OperatorOptions, Servers},
    client::{self, Limits},
    consul::{self, Environment},
    default_listeners,
    descriptors::{self, Share},
    directories::Directories,
    envoy,
    fan_out::{CHANGES, Changes, Questions},
    files,
    gateway::Gateways,
    health::{self, FleetHealth, Health, Progress},
    identity::{self, Allowed, Identity, Peers, Policy, ServiceAccount},
    ingress_status::{self, ServedIngresses},
    istio,
    journal::{self, Journal},
    leader::{self, access::Access},
    metrics::Metrics,
    owner_events::{self, OwnerProblems},
    publish::{self, Outputs, Question},
    status::{
        self, Book, Manager,
        replica::{self, Member, Replica},
    },
    unsupported,
    watch::{self as kube_watch, definitions::Definitions},
};
use nuncio_core::{
    change::{Batch, Change, Source},
    consul::WantedConsul,
    object::Kind,
    reconcile::Name,
    settings::{Fleets, Settings},
    store::WantedSecrets,
};

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

    /// Waits for one that stops the process.
    pub async fn stop(mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The parts that `operator` and `serve` share.
pub struct ControlPlane {
    /// Where sources send changes.
    pub changes: Changes,
    /// Where sources ask before they believe a list.
    pub questions: Questions,
    /// Reports and statuses of objects.
    pub book: Book,
    /// What each source still waits for.
    pub progress: Progress,
    /// Metrics of this process.
    pub metrics: Metrics,
    /// The parts that each fleet has.
    pub fleets: Vec<FleetPlane>,
    /// Address of the xDS server.
    pub xds_address: Address,
}

/// What a fleet does not share with others.
pub struct FleetPlane {
    /// Statuses of objects, with the reports of this fleet.
    pub book: Book,
    /// Secrets that other objects refer to.
    pub wanted_secrets: watch::Receiver<WantedSecrets>,
    /// The Ingresses that are served.
    pub served_ingresses: watch::Receiver<ServedIngresses>,
    /// Services and Ingresses with problems.
    pub owner_problems: watch::Receiver<OwnerProblems>,
    /// The configuration of Envoys.
    pub snapshots: SnapshotCache,
    /// The connected Envoys.
    pub fleet: Fleet,
    /// What Envoys of this replica reject.
    pub rejections: watch::Receiver<Vec<Rejection>>,
    /// Where to say what those of other replicas do.
    pub elsewhere: watch::Sender<Elsewhere>,
}

async fn serve_health(listener: TcpListener, health: Health) -> anyhow::Result<()> {
    let stop = health.stopping.clone();
    health::serve(listener, health, stop.cancelled_owned()).await;
    Ok(())
}

/// Starts a publish loop for each fleet, the ADS server and the health server.
///
/// # Errors
/// Addresses that cannot be bound, certificates that cannot be read.
pub async fn start(
    tasks: &mut Tasks,
    servers: &Servers,
    fleets: &Fleets,
    security: (Option<Tls>, Peers),
    directories: &Directories,
) -> anyhow::Result<ControlPlane> {
    let mut registry = Registry::with_prefix("nuncio");
    let metrics = Metrics::new(&mut registry);
    let mut xds_registry = Registry::with_prefix("nuncio");
    let ads_metrics = ads::Metrics::new(&mut xds_registry);
    let xds_address = servers.xds_address();
    let xds = Listener::bind(&xds_address)
        .await
        .with_context(|| cannot_listen(&xds_address, "--xds-address"))?;
    let xds_address = xds.address()?;
    let health = TcpListener::bind(servers.health_address)
        .await
        .with_context(|| cannot_listen(&servers.health_address.into(), "--health-address"))?;
    let health_address = health.local_addr()?;

    let encodings = if fleets.are_several() {
        Encodings::shared()
    } else {
        Encodings::default()
    };
    let books = Book::of_fleets(fleets);
    let book = books.first().cloned().unwrap_or_default();
    let (mut changes, mut questions) = (Vec::new(), Vec::new());
    let (mut served, mut ready, mut planes) = (Vec::new(), Vec::new(), Vec::new());
    for (settings, book) in fleets.iter().zip(books) {
        let id = fleets
            .are_several()
            .then_some(settings.ambassador_id.as_str());
        let of_fleet = |id| (metrics.of_fleet(id), ads_metrics.of_fleet(id));
        let (metrics, ads_metrics) = id.map_or((metrics.clone(), ads_metrics.clone()), of_fleet);
        let fallback = directories.fallback(settings);
        let started = start_fleet(tasks, settings, metrics, book, encodings.clone(), fallback);
        changes.push(started.changes);
        questions.push(started.questions);
        served.push(Served {
            cache: started.plane.snapshots.clone(),
            fleet: started.plane.fleet.clone(),
            metrics: ads_metrics,
        });
        ready.push(FleetHealth {
            id: id.map(str::to_owned),
            ready: started.ready,
            unbound: started.unbound,
        });
        planes.push(started.plane);
    }
    let changes = Changes::new(changes);
    if let Some(directory) = directories.init() {
        // before any list of the cluster, so that nothing is served without it
        for read in follow_files(tasks, &directory, fleets, &changes) {
            // a directory that cannot be read ends the process, with its error
            let _ = read.await;
        }
    }
    follow_istio(tasks, fleets, &changes);
    let xds_settings = xds_settings(servers, fleets, security, &xds_address);
    let server = ads::Server::of_fleets(served, xds_settings, ads_metrics);
    let stop = tasks.stop.clone().cancelled_owned();
    tasks.start("xDS server", async move {
        server.serve(xds, stop).await.map_err(Into::into)
    });
    let progress = Progress::default();
    let health_state = Health {
        fleets: ready,
        progress: progress.clone(),
        registries: Arc::new([registry, xds_registry]),
        stopping: tasks.stop.clone(),
    };
    tasks.start("health server", serve_health(health, health_state));
    info!(xds = %xds_address, health = %health_address, "control plane started");
    Ok(ControlPlane {
        changes,
        questions: Questions::new(questions),
        book,
        progress,
        metrics,
        fleets: planes,
        xds_address,
    })
}

/// Starts what reads certificates of Istio, if there are any.
fn follow_istio(tasks: &mut Tasks, fleets: &Fleets, changes: &Changes) {
    let settings = fleets.common().clone();
    if let Some(directory) = settings.istio_secret_dir.clone() {
        let follow = istio::follow(directory, settings, changes.clone());
        tasks.start_endless("Istio certificates", follow);
    }
}

/// A fleet whose publish loop runs.
struct Started {
    changes: mpsc::Sender<Batch>,
    questions: mpsc::Sender<Question>,
    ready: watch::Receiver<bool>,
    unbound: watch::Receiver<Vec<String>>,
    plane: FleetPlane,
}

/// Starts the publish loop of a fleet, and what queries Consul for it.
fn start_fleet(
    tasks: &mut Tasks,
    settings: &Settings,
    metrics: Metrics,
    book: Book,
    encodings: Encodings,
    fallback: Vec<Change>,
) -> Started {
    let (changes, inputs) = mpsc::channel(CHANGES);
    let (questions, asked) = mpsc::channel(1);
    let (writer, snapshots) = cache::channel_of(encodings);
    let (ready_sender, ready) = watch::channel(false);
    let (unbound_sender, unbound) = watch::channel(Vec::new());
    let (wanted_sender, wanted_secrets) = watch::channel(None);
    let (ingresses_sender, served_ingresses) = watch::channel(ServedIngresses::default());
    let (problems_sender, owner_problems) = watch::channel(OwnerProblems::default());
    let (rejections_sender, rejections) = watch::channel(Vec::new());
    let (elsewhere, heard) = watch::channel(Elsewhere::default());
    let fleet = Fleet::new();
    let outputs = Outputs {
        quarantine: Quarantine::new(writer, fleet.clone()),
        fleet: fleet.clone(),
        rejections: rejections_sender,
        gateways: Gateways::default(),
        journal: keep_journal(tasks, &fleet, &metrics),
        elsewhere: heard,
        book: book.clone(),
        ready: ready_sender,
        unbound: unbound_sender,
        wanted_secrets: wanted_sender,
        served_ingresses: ingresses_sender,
        owner_problems: problems_sender,
        wanted_consul: follow_consul(tasks, changes.clone().into(), &metrics),
        metrics,
    };
    let settings = Settings {
        queries_consul: true,
        ..settings.clone()
    };
    tasks.start_endless(
        "publish loop",
        publish::run(inputs, asked, outputs, settings, fallback),
    );
    Started {
        changes,
        questions,
        ready,
        unbound,
        plane: FleetPlane {
            book,
            wanted_secrets,
            served_ingresses,
            owner_problems,
            snapshots,
            fleet,
            rejections,
            elsewhere,
        },
    }
}

/// A journal, and its metrics.
fn keep_journal(tasks: &mut Tasks, fleet: &Fleet, metrics: &Metrics) -> Journal {
    let journal = Journal::new(fleet.clone(), journal::Limits::default());
    let measure = journal::measure(journal.clone(), metrics.clone());
    tasks.start_endless("journal", measure);
    journal
}

/// Starts what queries Consul, and returns where it learns what to query.
fn follow_consul(
    tasks: &mut Tasks,
    changes: Changes,
    metrics: &Metrics,
) -> watch::Sender<WantedConsul> {
    let (sender, wanted) = watch::channel(WantedConsul::default());
    let environment = Environment::of_process();
    tasks.start_endless(
        "Consul",
        consul::follow(wanted, changes, environment, metrics.clone()),
    );
    sender
}

/// Settings of the ADS server on this address.
fn xds_settings(
    servers: &Servers,
    fleets: &Fleets,
    (tls, peers): (Option<Tls>, Peers),
    address: &Address,
) -> ads::Settings {
    let age = Duration::from_secs(servers.xds_max_connection_age);
    ads::Settings {
        tls,
        authorize: Arc::new(Policy {
            fleets: fleets.clone(),
            peers,
        }),
        max_connection_age: Some(age).filter(|age| !age.is_zero()),
        max_connections: descriptors::at_most(
            ads::Settings::default().max_connections,
            Share::Half,
        ),
        shutdown_spread: shutdown_spread(address),
        min_envoy: servers.min_envoy_version,
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

/// Certificates of the ADS server, and whose it accepts. Without them it serves loopback only, unless `--xds-insecure` is set.
fn xds_tls(servers: &Servers, fleets: &Fleets) -> anyhow::Result<(Option<Tls>, Peers)> {
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
        anyhow::ensure!(
            !fleets.are_several() || !names.is_empty(),
            "several AMBASSADOR_IDs are served, and every client with a certificate of --xds-tls-client-ca could get the private \
             keys of each: set --xds-client-name NAME=ID for the Envoys of each"
        );
        let tls = Tls::Files(Files {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: ca.clone(),
        });
        let peers = match names.as_slice() {
            [] => Peers::AnyCertificate,
            names => {
                let mut allowed: BTreeMap<String, Allowed> = BTreeMap::new();
                for name in names {
                    let (name, more) = identity::client_name(name, fleets)?;
                    add(&mut allowed, name, more);
                }
                Peers::Named(allowed)
            }
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

/// Adds what the clients of this name may have.
fn add<K: Ord>(names: &mut BTreeMap<K, Allowed>, name: K, more: Allowed) {
    let allowed = match names.remove(&name) {
        Some(allowed) => allowed.or(more),
        None => more,
    };
    names.insert(name, allowed);
}

/// The identity of Envoys, if this control plane signs their certificates.
fn own_identity(
    servers: &Servers,
    arguments: &IdentityArguments,
    fleets: &Fleets,
) -> anyhow::Result<Option<Identity>> {
    let Some(address) = arguments.address(servers)? else {
        return Ok(None);
    };
    let namespace = &fleets.common().ambassador_namespace;
    let mut accounts = BTreeMap::new();
    for account in &arguments.envoy_service_accounts {
        let allowed = account.allowed(fleets)?;
        add(&mut accounts, account.account.clone(), allowed);
    }
    if accounts.is_empty() {
        anyhow::ensure!(
            !fleets.are_several(),
            "set --envoy-service-account NAMESPACE/NAME=ID for the Envoys of each AMBASSADOR_ID ({}), because one that all of \
             them use would let each have the private keys of all",
            fleets.name()
        );
        let account = ServiceAccount {
            namespace: namespace.clone(),
            name: identity::ENVOY_SERVICE_ACCOUNT.to_owned(),
        };
        accounts.insert(account, Allowed::Any);
    }
    Ok(Some(Identity::new(namespace, address, accounts)))
}

/// Runs the control plane of a cluster.
///
/// # Errors
/// A cluster that cannot be found, or a task that fails.
pub async fn operator(
    options: OperatorOptions,
    servers: Servers,
    identity: IdentityArguments,
    fleets: Fleets,
) -> anyhow::Result<()> {
    let directories = Directories::of(&options.init_config, |name| std::env::var(name).ok());
    let own_identity = own_identity(&servers, &identity, &fleets)?;
    let fleets = in_cluster(&fleets, &options, &servers, own_identity.is_some());
    let client = connect(options.context).await?;
    let mut tasks = Tasks::new();
    let security = match &own_identity {
        Some(identity) => (Some(identity.xds_tls()), identity.peers()),
        None => xds_tls(&servers, &fleets)?,
    };
    let plane = start(&mut tasks, &servers, &fleets, security, &directories).await?;
    if let Some(identity) = own_identity {
        let (progress, metrics) = (plane.progress.clone(), plane.metrics.clone());
        identity
            .start(&mut tasks, client.clone(), progress, metrics)
            .await?;
    }
    let (installed, definitions) = watch::channel(Definitions::default());
    let watching = kube_watch::Context {
        client: client.clone(),
        fleets: fleets.clone(),
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
    let wanted = plane.fleets.iter();
    let wanted = wanted.map(|fleet| fleet.wanted_secrets.clone()).collect();
    watch_all(&mut tasks, &watching, wanted).await?;
    let identity = replica_identity();
    let (leading_sender, leading) = watch::channel(false);
    if options.default_listeners {
        let create = default_listeners::create(client.clone(), fleets.clone(), leading.clone());
        tasks.start_endless("default Listeners", create);
    }
    write_addresses(
        &mut tasks,
        &plane,
        client.clone(),
        &fleets,
        options.ingress_service,
        leading.clone(),
    );
    write_events(
        &mut tasks,
        &plane,
        client.clone(),
        &identity,
        leading.clone(),
    );
    let replicas = write_status(
        &mut tasks,
        plane,
        &client,
        &fleets,
        &identity,
        watching.definitions,
        (leading_sender, leading),
    );
    let result = tasks.finish().await;
    let _ = timeout(GRACE, release(client, &fleets, &identity, &replicas)).await;
    result
}

/// The settings of fleets in a cluster.
fn in_cluster(
    fleets: &Fleets,
    options: &OperatorOptions,
    servers: &Servers,
    has_identity: bool,
) -> Fleets {
    let mut own_ports = servers.open_ports();
    if let Some(port) = servers.xds_address().port()
        && has_identity
    {
        own_ports.remove(&port);
    }
    fleets.with(|settings| Settings {
        in_cluster: true,
        reads_secrets_on_demand: true,
        knative: settings.knative || options.knative,
        knative_local_hosts: options.knative_local_hosts,
        own_ports: own_ports.clone(),
        ..settings
    })
}

/// Releases the Leases of this replica, so that others need not wait until they expire.
async fn release(client: Client, fleets: &Fleets, identity: &str, replicas: &[Replica]) {
    let namespace = &fleets.common().ambassador_namespace;
    let lease = leader::lease_name(&fleets.name());
    tokio::join!(
        leader::resign(client, namespace, &lease, identity),
        join_all(replicas.iter().map(Replica::withdraw))
    );
}

/// What names this replica among all.
fn replica_identity() -> String {
    std::env::var("POD_NAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| format!("{}-{}", envoy::hostname(), std::process::id()))
}

/// Starts a watch of each kind.
async fn watch_all(
    tasks: &mut Tasks,
    watching: &kube_watch::Context,
    wanted_secrets: Vec<watch::Receiver<WantedSecrets>>,
) -> anyhow::Result<()> {
    tasks.start_endless(
        "stored API versions",
        unconverted::follow(
            watching.client.clone(),
            watching.definitions.clone(),
            watching.progress.clone(),
            watching.metrics.clone(),
        ),
    );
    for kind in Kind::WATCHED {
        if kind == Kind::Secret {
            tasks.start_endless(
                "Secrets",
                kube_watch::secret::watch(watching.clone(), wanted_secrets.clone()),
            );
        } else if is_left_out(kind, watching.fleets.common()) {
            let none = vec![Change::Replace(Source::Api, kind, Vec::new())];
            let none = Batch::new(Instant::now(), none);
            watching.changes.send(none).await?;
        } else {
            tasks.start_endless(kind.title(), kube_watch::watch(kind, watching.clone()));
        }
    }
    Ok(())
}

/// Whether a kind is not watched and counts as empty.
fn is_left_out(kind: Kind, settings: &Settings) -> bool {
    // a Role cannot grant cluster-scoped kinds, and with one namespace there is nothing to select
    let is_cluster_wide =
        kind.info().scope == Scope::Cluster && settings.single_namespace.is_some();
    is_cluster_wide || kind == Kind::KnativeIngress && !settings.knative
}

/// Starts what writes the addresses of the gateway into the status of Ingresses.
fn write_addresses(
    tasks: &mut Tasks,
    plane: &ControlPlane,
    client: Client,
    fleets: &Fleets,
    service: Option<Name>,
    leading: watch::Receiver<bool>,
) {
    let served = plane.fleets.iter();
    let writer = ingress_status::Writer {
        client,
        settings: fleets.common().clone(),
        service,
        served: served.map(|fleet| fleet.served_ingresses.clone()).collect(),
        leading,
        manager: Manager::new(fleets),
        book: plane.book.clone(),
    };
    tasks.start_endless("addresses of Ingresses", writer.run());
}

/// Starts what writes problems of Services and Ingresses as Events.
fn write_events(
    tasks: &mut Tasks,
    plane: &ControlPlane,
    client: Client,
    identity: &str,
    leading: watch::Receiver<bool>,
) {
    let problems = plane.fleets.iter();
    let writer = owner_events::Writer {
        client,
        problems: problems.map(|fleet| fleet.owner_problems.clone()).collect(),
        leading,
        identity: identity.to_owned(),
        metrics: plane.metrics.clone(),
    };
    tasks.start_endless("Events of Services and Ingresses", writer.run());
}

/// Starts what writes status: leader election, the Leases of this replica, and the writer.
fn write_status(
    tasks: &mut Tasks,
    plane: ControlPlane,
    client: &Client,
    fleets: &Fleets,
    identity: &str,
    definitions: watch::Receiver<Definitions>,
    (leading_sender, leading): (watch::Sender<bool>, watch::Receiver<bool>),
) -> Vec<Replica> {
    let access = |purpose, outcome| {
        Access::new(
            plane.progress.clone(),
            plane.metrics.clone(),
            purpose,
            outcome,
        )
    };
    let settings = fleets.common();
    tasks.start_endless(
        "leader election",
        leader::campaign(
            client.clone(),
            settings.ambassador_namespace.clone(),
            leader::lease_name(&fleets.name()),
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
        unsupported::follow(client.clone(), fleets.clone(), definitions, leading.clone()),
    );
    tasks.start_endless(
        "leadership",
        lead(leading, plane.book.clone(), plane.metrics.clone()),
    );
    let replicas = Replica::of_fleets(client, fleets, identity);
    let mut members = Vec::new();
    for (replica, fleet) in replicas.iter().zip(plane.fleets) {
        tasks.start_endless(
            "replica Lease",
            replica::announce(
                replica.clone(),
                fleet.fleet.clone(),
                fleet.rejections,
                access(
                    "replica Lease",
                    "the Envoys of this replica are not counted in status",
                ),
            ),
        );
        members.push(Member {
            replica: replica.clone(),
            snapshots: fleet.snapshots,
            fleet: fleet.fleet,
            book: fleet.book,
            elsewhere: fleet.elsewhere,
        });
    }
    tasks.start_endless(
        "Envoy count",
        replica::follow(
            client.clone(),
            settings.clone(),
            members,
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
            Manager::new(fleets),
        ),
    );
    replicas
}

/// A client for the cluster of the kubeconfig, or the one that the process runs in.
pub(crate) async fn connect(context: Option<String>) -> anyhow::Result<Client> {
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
    fleets: Fleets,
) -> anyhow::Result<()> {
    let mut tasks = Tasks::new();
    serve_in(&mut tasks, directory, &servers, &envoy, fleets).await?;
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
    fleets: Fleets,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        envoy.envoy.is_none() || !fleets.are_several(),
        "--envoy runs one Envoy, which belongs to one AMBASSADOR_ID: start Envoys of {} with nuncio bootstrap",
        fleets.name()
    );
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
    let fleets = fleets.with(|settings| Settings {
        own_ports: own_ports.clone(),
        ..settings
    });
    let security = xds_tls(&servers, &fleets)?;
    let none = Directories::default();
    let plane = start(tasks, &servers, &fleets, security, &none).await?;
    let cluster = node_cluster(fleets.common());
    let directory = files::Directory::served(directory);
    follow_files(tasks, &directory, &fleets, &plane.changes);
    if let Some(program) = &envoy.envoy {
        let settings = envoy::Settings {
            program: envoy::Program {
                path: program.clone(),
                concurrency: envoy.envoy_concurrency,
                drain_time: envoy.envoy_drain_time,
            },
            cluster,
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

/// Starts what reads the directory for each fleet; each has been read when what is returned completes.
fn follow_files(
    tasks: &mut Tasks,
    directory: &files::Directory,
    fleets: &Fleets,
    changes: &Changes,
) -> Vec<oneshot::Receiver<()>> {
    let (mut rereads, mut all_read) = (Vec::new(), Vec::new());
    for (number, settings) in fleets.iter().enumerate() {
        let (directory, settings) = (directory.clone(), settings.clone());
        let changes = changes.of(number);
        let (stop, reread) = (tasks.stop.clone(), Arc::new(Notify::new()));
        let (done, read) = oneshot::channel();
        rereads.push(reread.clone());
        all_read.push(read);
        tasks.start("files", async move {
            tokio::select! {
                result = files::follow(&directory, &settings, changes, &reread, done) => result,
                () = stop.cancelled() => Ok(()),
            }
        });
    }
    let reread = tasks.reread.clone();
    tasks.start_endless("reading files again", async move {
        loop {
            reread.notified().await;
            for each in &rereads {
                each.notify_one();
            }
        }
    });
    all_read
}

/// `node.cluster`, as Emissary names it: the name of the gateway in traces of Zipkin and in the label `source_cluster`.
fn node_cluster(settings: &Settings) -> String {
    let id = match settings.ambassador_id.as_str() {
        "default" => "ambassador",
        id => id,
    };
    format!("{id}-{}", settings.ambassador_namespace)
}

#[cfg(test)]
mod several;

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

    fn fleets(ids: &str) -> Fleets {
        let settings = Settings {
            ambassador_id: ids.to_owned(),
            ..Settings::default()
        };
        Fleets::split(settings).unwrap()
    }

    fn tls_of(servers: &Servers) -> anyhow::Result<(Option<Tls>, Peers)> {
        xds_tls(servers, &fleets("default"))
    }

    #[test]
    fn with_several_fleets_no_certificate_is_for_all_unless_it_says_so() {
        let tls = "--xds-tls-cert c --xds-tls-key k --xds-tls-client-ca a";
        let of = |line: &str| xds_tls(&servers(line), &fleets("a,b"));
        let error = of(tls).unwrap_err().to_string();
        assert!(error.contains("set --xds-client-name NAME=ID"), "{error}");
        let error = of(&format!("{tls} --xds-client-name x")).unwrap_err();
        assert!(error.to_string().contains("must name the AMBASSADOR_ID"));
        let line =
            format!("{tls} --xds-client-name x=a --xds-client-name y=b --xds-client-name x=b");
        let (_, peers) = of(&line).unwrap();
        let Peers::Named(names) = peers else {
            panic!("{peers:?}")
        };
        assert!(names["x"].contains("a") && names["x"].contains("b"));
        assert!(!names["y"].contains("a") && names["y"].contains("b"));
    }

    #[test]
    fn with_several_fleets_no_service_account_is_for_all_unless_it_says_so() {
        let identity = |line: &str, ids: &str| {
            let line = format!("nuncio operator --xds-address 0.0.0.0:8003 {line}");
            let Command::Operator {
                servers, identity, ..
            } = Arguments::parse_from(line.split_whitespace()).command
            else {
                panic!("another command")
            };
            let own = own_identity(&servers, &identity, &fleets(ids))?;
            anyhow::Ok(own.map(|own| own.peers()))
        };
        assert!(matches!(identity("", "a"), Ok(Some(Peers::Pods(_)))));
        let error = identity("", "a,b").unwrap_err().to_string();
        assert!(error.contains("for the Envoys of each"), "{error}");
        let error = identity("--envoy-service-account x/y", "a,b").unwrap_err();
        assert!(error.to_string().contains("must name the AMBASSADOR_ID"));
        let flags = "--envoy-service-account x/y=a --envoy-service-account x/z=b";
        assert!(matches!(identity(flags, "a,b"), Ok(Some(Peers::Pods(_)))));
    }

    #[test]
    fn a_shared_certificate_needs_a_name_beyond_loopback() {
        let tls = "--xds-tls-cert c --xds-tls-key k --xds-tls-client-ca a";
        let beyond = format!("--xds-address 0.0.0.0:8003 {tls}");
        let error = tls_of(&servers(&beyond)).unwrap_err().to_string();
        assert!(error.contains("set --xds-client-name"), "{error}");
        let (_, peers) = tls_of(&servers(&format!("{beyond} --xds-client-name b"))).unwrap();
        assert!(
            matches!(peers, Peers::Named(names) if names == [("b".to_owned(), Allowed::Any)].into())
        );
        let (_, peers) = tls_of(&servers(&format!("--xds-address 127.0.0.1:8003 {tls}"))).unwrap();
        assert!(matches!(peers, Peers::AnyCertificate), "{peers:?}");
        let (tls, peers) = tls_of(&servers("--xds-address unix:/xds")).unwrap();
        assert!(tls.is_none() && matches!(peers, Peers::Any), "{peers:?}");
    }
}
