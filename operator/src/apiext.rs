//! `nuncio apiext`: the webhook that converts objects between API versions for the apiserver.
//!
//! ```text
//!  Secret ─► keeper ─► inject ─► caBundle of CustomResourceDefinitions
//!              │ once they trust it                │
//!              ▼                                   ▼
//!         certificate ─► webhook ◄── ConversionReview ── apiserver
//!                           ▲
//!                       self_check ─► health (ready)
//! ```
//!
//! Every replica answers; the leader writes the Secret and the definitions.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::FutureExt as _;
use jiff::Timestamp;
use kube::{Api, Client, runtime::reflector::Store};
use nuncio_xds::tls::{Acceptor, Renewed, Tls};
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::{
    health::Progress,
    identity::{Clock, rotation::Authorities},
    leader::{self, access::Access},
    run::{self, Tasks},
};

mod arguments;
mod connections;
mod definition;
mod health;
mod inject;
mod keeper;
mod metrics;
mod self_check;
pub mod unconverted;
mod webhook;

pub use arguments::{ApiextArguments, HELP};

use self::{
    arguments::Environment,
    connections::{DRAIN, Limits, Server},
    definition::{Definition, Reference},
    health::Health,
    inject::Injector,
    keeper::{Keeper, KeeperState},
    metrics::Metrics,
    self_check::SelfCheck,
    webhook::Webhook,
};

/// Name of the Lease.
const LEASE: &str = "nuncio-apiext";

/// What the parts of a process share.
struct Shared {
    client: Client,
    environment: Environment,
    service: Reference,
    clock: Clock,
    progress: Progress,
    metrics: Metrics,
    leading: watch::Receiver<bool>,
    authorities: watch::Receiver<Option<Arc<Authorities>>>,
}

/// Runs the webhook.
///
/// # Errors
/// A cluster that cannot be found, an address that cannot be bound, or a task that fails.
pub async fn run(arguments: ApiextArguments) -> anyhow::Result<()> {
    let environment = Environment::of_process();
    let client = run::connect(arguments.context).await?;
    let listener = listen(arguments.address, "--address").await?;
    let health_listener = listen(arguments.health_address, "--health-address").await?;
    let address = listener.local_addr()?;
    let (metrics, registry) = Metrics::new();
    let (leading_sender, leading) = watch::channel(false);
    let (authorities_sender, authorities) = watch::channel(None);
    let shared = Shared {
        service: Reference::new(&environment.namespace, &arguments.service),
        client,
        environment,
        clock: Arc::new(Timestamp::now),
        progress: Progress::default(),
        metrics,
        leading,
        authorities,
    };
    keeper::hold(&shared.progress);
    self_check::hold(&shared.progress);
    let mut tasks = Tasks::new();
    tasks.grace = DRAIN + connections::END + Duration::from_secs(2);
    let health = Health {
        progress: shared.progress.clone(),
        registry,
        stopping: tasks.stop.clone(),
    };
    tasks.start("health server", serve_health(health_listener, health));
    let labels = arguments.crd_label_selector.as_deref();
    let injector = Injector::new(shared.client.clone(), labels);
    let definitions = injector.definitions();
    let certificates = shared.keep_authority(&mut tasks, definitions.clone(), authorities_sender);
    shared.serve(&mut tasks, listener, Tls::Renewed(certificates))?;
    shared.check(&mut tasks, address, definitions);
    let context = shared.injects();
    let stop = tasks.stop.clone();
    tasks.start("definitions", injector.run(context, stop).map(Ok));
    let has_leader = shared.environment.has_leader();
    if has_leader {
        shared.campaign(&mut tasks, leading_sender);
    }
    let Environment {
        namespace,
        identity,
        manages_definitions,
        manages_authority,
    } = &shared.environment;
    info!(
        %address, health = %arguments.health_address, %namespace, service = %arguments.service, manages_definitions,
        manages_authority, "conversion webhook started"
    );
    let result = tasks.finish().await;
    if has_leader {
        let resign = leader::resign(shared.client.clone(), namespace, LEASE, identity);
        let _ = timeout(Duration::from_secs(5), resign).await;
    }
    result
}

impl Shared {
    /// Starts what keeps the authority, and returns the certificates of this replica.
    fn keep_authority(
        &self,
        tasks: &mut Tasks,
        definitions: Store<Definition>,
        authorities: watch::Sender<Option<Arc<Authorities>>>,
    ) -> Renewed {
        let (sender, certificates) = watch::channel(None);
        let keeper = Keeper {
            secrets: Api::namespaced(self.client.clone(), &self.environment.namespace),
            service: self.service.clone(),
            clock: self.clock.clone(),
            definitions,
            manages_definitions: self.environment.manages_definitions,
            manages: self.environment.manages_authority,
            leading: self.leading.clone(),
            authorities,
            certificates: sender,
            progress: self.progress.clone(),
            metrics: self.metrics.clone(),
            state: KeeperState::default(),
        };
        tasks.start_endless("certificate authority", keeper.run());
        certificates
    }

    /// Starts the webhook.
    fn serve(&self, tasks: &mut Tasks, listener: TcpListener, tls: Tls) -> anyhow::Result<()> {
        let tls = Arc::new(Acceptor::new(tls, b"http/1.1")?);
        let following = tls.clone();
        tasks.start_endless("certificates of the webhook", async move {
            following.follow(Duration::MAX).await;
        });
        let webhook = Arc::new(Webhook::new(self.metrics.clone()));
        let server = Server {
            tls,
            answer: Arc::new(move |request, busy| webhook.clone().answer(request, busy).boxed()),
            limits: Limits::default(),
            metrics: self.metrics.clone(),
            draining: CancellationToken::new(),
        };
        let stop = tasks.stop.clone();
        tasks.start("webhook", async move {
            server.serve(listener, stop.cancelled_owned()).await;
            Ok(())
        });
        Ok(())
    }

    /// Starts what checks the webhook on this address.
    fn check(&self, tasks: &mut Tasks, address: SocketAddr, definitions: Store<Definition>) {
        let check = SelfCheck {
            address,
            service: self.service.clone(),
            definitions,
            authorities: self.authorities.clone(),
            progress: self.progress.clone(),
        };
        tasks.start_endless("self-check", check.run());
    }

    /// What patches need.
    fn injects(&self) -> inject::Context {
        inject::Context {
            client: self.client.clone(),
            service: self.service.clone(),
            manages: self.environment.manages_definitions,
            leading: self.leading.clone(),
            authorities: self.authorities.clone(),
            clock: self.clock.clone(),
            progress: self.progress.clone(),
            superseded: inject::Superseded::default(),
        }
    }

    /// Starts the election of the leader.
    fn campaign(&self, tasks: &mut Tasks, sender: watch::Sender<bool>) {
        let access = Access::new(
            self.progress.clone(),
            crate::metrics::Metrics::default(),
            "leader election",
            "the certificate authority and the definitions stay as they are while no replica leads",
        );
        let campaign = leader::campaign(
            self.client.clone(),
            self.environment.namespace.clone(),
            LEASE.to_owned(),
            self.environment.identity.clone(),
            sender,
            access,
        );
        tasks.start_endless("leader election", campaign);
        let count = count_leadership(self.leading.clone(), self.metrics.clone());
        tasks.start_endless("leadership", count);
    }
}

/// Serves probes for as long as reviews are answered.
async fn serve_health(listener: TcpListener, health: Health) -> anyhow::Result<()> {
    let stopping = health.stopping.clone();
    let end = async move {
        stopping.cancelled().await;
        sleep(DRAIN).await;
    };
    health::serve(listener, health, end).await;
    Ok(())
}

async fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot listen on {address}; set another address with {flag}"))
}

/// Keeps the metric of leadership up to date.
async fn count_leadership(mut leading: watch::Receiver<bool>, metrics: Metrics) {
    loop {
        metrics.leads(*leading.borrow_and_update());
        if leading.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
