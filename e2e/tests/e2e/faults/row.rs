//! One fault: what happens, for how long, and what is expected of it.

use std::{
    collections::BTreeSet,
    io::{Write as _, stdout},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nuncio::leader::lease_name;
use nuncio_e2e::{
    control_plane::NAMESPACE,
    fault_proxy::{Fault, Reply, Scope},
    gateway::Replica,
    process::Process,
    wait::until,
    workspace::root,
};
use rustix::process::Signal;
use tokio::time::sleep;

use super::{
    inventory::{Inventory, Lookout},
    lane::{Change, Edit, Lane},
};
use crate::fixture::{host, mapping};

/// A fault, and what is expected of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What happens.
    pub(crate) what: What,
    /// When it begins.
    pub(crate) when: When,
    /// How long it lasts, in seconds.
    pub(crate) lasts: u64,
    /// The changes that show that the fault is over.
    pub(crate) edits: &'static [Edit],
    /// Longest time from the end of the fault until all of these are seen, in seconds.
    pub(crate) bound: u64,
    /// Why requests must be lost, if they must.
    pub(crate) loses: Option<&'static str>,
    /// The sorts of things that Envoy loses meanwhile: at least one of them, if there are any.
    pub(crate) removes: &'static [&'static str],
    /// Whether the replica becomes ready although the fault was there at its start.
    pub(crate) is_ready: bool,
}

/// When a fault begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// While everything runs.
    Running,
    /// Before the replica starts again.
    Start,
}

/// Something that can be killed or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Operator,
    Apiserver,
    Etcd,
    Envoy,
}

/// A way of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    OperatorToApiserver,
    EnvoyToOperator,
    ApiserverToEtcd,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A process is killed, and started again at the end.
    Killed(Part),
    /// A process is stopped, and continued at the end.
    Stopped(Part),
    /// Nothing is carried any more, and everything again at the end.
    Partitioned(Link),
    /// Open connections carry nothing any more, without an end.
    HalfOpen(Link),
    /// The apiserver is answered for.
    Answered(Scope, Reply),
    /// The leader of two replicas is killed.
    LeaderKilled,
    /// The Lease of the leader is deleted.
    LeaseDeleted,
    /// The definition of Mappings is deleted, and with it all Mappings; created again at the end.
    DefinitionDeleted,
    /// Another namespace that the lane serves is deleted, and created again at the end.
    NamespaceDeleted,
    /// A Mapping is deleted, and created again at the end.
    MappingDeleted,
}

/// The namespace that [`What::NamespaceDeleted`] deletes, and its hostname.
const OTHER: &str = "another";
const OTHER_HOST: &str = "another.example";

impl Row {
    /// A fault while everything runs that costs nothing.
    pub(crate) fn running(what: What, lasts: u64, bound: u64) -> Self {
        Self {
            what,
            when: When::Running,
            lasts,
            edits: &[Edit::Route],
            bound,
            loses: None,
            removes: &[],
            is_ready: false,
        }
    }

    /// A fault that is there when the replica starts.
    pub(crate) fn start(what: What, lasts: u64, bound: u64) -> Self {
        Self {
            when: When::Start,
            ..Self::running(what, lasts, bound)
        }
    }

    /// The line of a table.
    fn name(&self) -> String {
        let what = match self.what {
            What::Killed(part) => format!("{part:?} killed"),
            What::Stopped(part) => format!("{part:?} stopped"),
            What::Partitioned(Link::OperatorToApiserver) => {
                "operator partitioned from apiserver".into()
            }
            What::Partitioned(Link::EnvoyToOperator) => "Envoy partitioned from operator".into(),
            What::Partitioned(Link::ApiserverToEtcd) => "apiserver partitioned from etcd".into(),
            What::HalfOpen(_) => "connections to the apiserver half open".into(),
            What::Answered(scope, reply) => {
                let scope = match scope {
                    Scope::All => "everything".to_owned(),
                    Scope::Kind(plural) => plural.to_owned(),
                    Scope::Status => "writes of status".to_owned(),
                };
                let reply = match reply {
                    Reply::Status(code) => code.to_string(),
                    Reply::Throttled => "429 with Retry-After".to_owned(),
                    Reply::Page => "an HTML page".to_owned(),
                    Reply::NoBackend => "404 in plain text".to_owned(),
                    Reply::EmptyList => "a list without objects".to_owned(),
                    Reply::Silence => "nothing".to_owned(),
                };
                format!("apiserver answers {reply} to {scope}")
            }
            What::LeaderKilled => "leader killed".into(),
            What::LeaseDeleted => "Lease of the leader deleted".into(),
            What::DefinitionDeleted => "CustomResourceDefinition of Mappings deleted".into(),
            What::NamespaceDeleted => "another namespace deleted".into(),
            What::MappingDeleted => "a Mapping deleted".into(),
        };
        match self.when {
            When::Running => what,
            When::Start => format!("{what}, at start"),
        }
    }

    /// Whether changes reach the apiserver during the fault.
    fn leaves_apiserver(&self) -> bool {
        !matches!(
            self.what,
            What::Killed(Part::Apiserver | Part::Etcd)
                | What::Stopped(Part::Apiserver | Part::Etcd)
                | What::Partitioned(Link::ApiserverToEtcd)
                | What::DefinitionDeleted
                | What::MappingDeleted
                | What::LeaderKilled
        )
    }
}

/// Runs the rows one after the other, and prints a line for each. One that fails does not keep others from running, as
/// long as everything is served again.
pub(crate) async fn run_all(lane: &mut Lane, rows: &[Row]) -> Result<()> {
    let mut failures = Vec::new();
    for row in rows {
        if let Err(error) = run(lane, row).await {
            failures.push(format!("{}: {error:#}", row.name()));
            let _ = end(lane, row).await;
            lane.is_served().await.context(failures.join("\n"))?;
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

async fn run(lane: &mut Lane, row: &Row) -> Result<()> {
    prepare(lane, row).await?;
    let before = Inventory::of(&lane.admin()).await?;
    for sort in ["listener", "cluster", "secret", "endpoint", "route"] {
        ensure!(before.count(sort) > 0, "Envoy has no {sort}");
    }
    let traffic = lane.traffic()?;
    let lookout = Lookout::start(lane.admin(), before.clone());
    let begun = Instant::now();
    begin(lane, row).await.context("beginning")?;
    sleep(Duration::from_secs(row.lasts)).await;
    during(lane, row).await.context("during the fault")?;
    let mut changes = Vec::new();
    if row.leaves_apiserver() {
        changes = edit_all(lane, row).await?;
    }
    let ended = Instant::now();
    end(lane, row).await.context("ending")?;
    let ended = match row.what {
        // the way to it is open when it is ready
        What::Killed(Part::Apiserver) => Instant::now(),
        _ => ended,
    };
    if !row.leaves_apiserver() {
        changes = edit_all(lane, row).await?;
    }
    for change in &changes {
        // the longest bounds are longer than one wait
        if lane.sees(change).await.is_err() {
            lane.sees(change).await?;
        }
    }
    let took = match row.what {
        What::LeaderKilled | What::LeaseDeleted => begun.elapsed(),
        _ => ended.elapsed(),
    };
    lane.is_served().await?;
    until("everything that was there before", || async {
        let missing = Inventory::of(&lane.admin()).await?.missing_since(&before);
        ensure!(missing.is_empty(), "{missing:?}");
        Ok(())
    })
    .await?;
    let (sent, lost) = traffic.stop().await?;
    let loses = row.loses.unwrap_or("-");
    writeln!(
        stdout(),
        "| {} | {} s | {} of {sent} | {loses} | {:.1} s | {} s |",
        row.name(),
        row.lasts,
        lost.len(),
        took.as_secs_f64(),
        row.bound,
    )?;
    after(lane, row).await?;
    check(row, &lost, &lookout.missing(), took)
}

async fn edit_all(lane: &mut Lane, row: &Row) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for &edit in row.edits {
        changes.push(lane.edit(edit).await?);
    }
    Ok(changes)
}

fn check(row: &Row, lost: &[String], missing: &BTreeSet<String>, took: Duration) -> Result<()> {
    let first = lost.first().map_or("", String::as_str);
    ensure!(
        lost.is_empty() != row.loses.is_some(),
        "{} requests were lost, expected {:?}: {first}",
        lost.len(),
        row.loses
    );
    let sort = |entry: &String| entry.split(' ').next().unwrap_or_default().to_owned();
    let removed: BTreeSet<String> = missing.iter().map(sort).collect();
    let may: BTreeSet<String> = row.removes.iter().map(|&sort| sort.to_owned()).collect();
    // an Envoy that starts may have everything before it is asked
    let is_noticed = row.what == What::Killed(Part::Envoy) || removed.is_empty() == may.is_empty();
    ensure!(
        removed.is_subset(&may) && is_noticed,
        "Envoy lost {missing:?}"
    );
    let bound = Duration::from_secs(row.bound);
    ensure!(took <= bound, "it took {took:?}");
    Ok(())
}

/// What a fault needs before it.
async fn prepare(lane: &mut Lane, row: &Row) -> Result<()> {
    match row.what {
        What::LeaseDeleted | What::LeaderKilled => leads(lane, 0).await,
        What::NamespaceDeleted => create_other(lane).await,
        _ => Ok(()),
    }
}

async fn begin(lane: &mut Lane, row: &Row) -> Result<()> {
    if row.when == When::Start {
        lane.replica.process.kill();
    }
    match row.what {
        What::Killed(part) => process(lane, part)?.kill(),
        What::Stopped(part) => process(lane, part)?.signal(Signal::STOP),
        What::Partitioned(link) => relay(lane, link)?.partition(),
        What::HalfOpen(link) => relay(lane, link)?.freeze(),
        What::Answered(scope, reply) => lane.proxy.begin(Fault { scope, reply }),
        What::LeaderKilled => {
            lane.second = Some(Replica::launch(&lane.kubeconfig, &lane.instance, 1)?);
            lane.second.as_mut().context("second")?.ready().await?;
            lane.replica.process.kill();
        }
        What::LeaseDeleted => {
            let lease = format!("lease/{}", lease_name(&lane.instance.id));
            lane.plane.delete(NAMESPACE, &lease)?;
        }
        What::DefinitionDeleted => {
            lane.plane
                .kubectl(&["delete", "crd", "mappings.getambassador.io"], "")?;
        }
        What::NamespaceDeleted => {
            lane.plane
                .kubectl(&["delete", "namespace", OTHER, "--timeout=30s"], "")?;
        }
        What::MappingDeleted => lane.plane.delete(&lane.namespace, "mapping/pods")?,
    }
    if row.when == When::Start {
        lane.restart_replica()?;
    }
    Ok(())
}

/// What must hold at the end of the fault.
async fn during(lane: &mut Lane, row: &Row) -> Result<()> {
    match row.what {
        What::Answered(scope, reply) => {
            until("a request that meets the fault", || async {
                ensure!(lane.proxy.met() > 0, "there was none");
                Ok(())
            })
            .await?;
            if row.when == When::Start && row.is_ready {
                lane.replica.ready().await?;
            } else if row.when == When::Start {
                let readiness = lane.replica.readiness().await;
                ensure!(readiness.is_err(), "{readiness:?}");
                if reply == Reply::Status(403) {
                    names_missing_permissions(lane, scope).await?;
                }
            } else if scope != Scope::All {
                // other kinds do not wait
                let other = match row.edits {
                    [Edit::Route] => Edit::Endpoints,
                    _ => Edit::Route,
                };
                let other = lane.edit(other).await?;
                let start = Instant::now();
                lane.sees(&other).await?;
                let took = start.elapsed();
                ensure!(took < Duration::from_secs(5), "other kinds wait {took:?}");
            }
            Ok(())
        }
        What::DefinitionDeleted | What::MappingDeleted => lane.is_gone().await,
        What::NamespaceDeleted => lane.answers(OTHER_HOST, 404).await,
        _ => Ok(()),
    }
}

/// Resources that the operator cannot do without.
const NEEDED: [&str; 6] = [
    "hosts.getambassador.io",
    "listeners.getambassador.io",
    "mappings.getambassador.io",
    "tcpmappings.getambassador.io",
    "tlscontexts.getambassador.io",
    "services",
];

/// What keeps a replica from being ready must be the permission for each of these resources, and not something else. It must
/// not do without others as long as everything is forbidden.
async fn names_missing_permissions(lane: &Lane, scope: Scope) -> Result<()> {
    let needed = NEEDED.into_iter().filter(|name| match scope {
        Scope::All => true,
        Scope::Kind(plural) => name.starts_with(plural),
        Scope::Status => false,
    });
    let needed: Vec<&str> = needed.collect();
    ensure!(!needed.is_empty(), "no resource is needed");
    until("the missing permissions", || async {
        let body = match lane.replica.readiness().await {
            Ok(body) => anyhow::bail!("it is ready: {body}"),
            Err(error) => error.to_string(),
        };
        for resource in &needed {
            let text = format!("missing permission to list {resource} ");
            ensure!(body.contains(&text), "{resource} is not named: {body}");
        }
        ensure!(!body.contains("continuing without"), "{body}");
        Ok(())
    })
    .await
}

async fn end(lane: &mut Lane, row: &Row) -> Result<()> {
    match row.what {
        What::Killed(part) => restart(lane, part).await,
        What::Stopped(part) => {
            process(lane, part)?.signal(Signal::CONT);
            Ok(())
        }
        What::Partitioned(link) => {
            relay(lane, link)?.heal();
            Ok(())
        }
        What::Answered(..) => {
            lane.proxy.end();
            Ok(())
        }
        What::DefinitionDeleted => {
            let crds = root().join("config/crd").display().to_string();
            lane.plane
                .kubectl(&["apply", "--server-side", "-k", &crds], "")?;
            until("the definition", || async { lane.apply() }).await
        }
        What::NamespaceDeleted => create_other(lane).await,
        What::MappingDeleted => lane.apply(),
        What::HalfOpen(_) | What::LeaderKilled | What::LeaseDeleted => Ok(()),
    }
}

/// Restores what the fault left.
async fn after(lane: &mut Lane, row: &Row) -> Result<()> {
    match row.what {
        What::LeaderKilled => {
            leads(lane, 1).await?;
            lane.second = None;
            lane.restart_replica()?;
            lane.replica.ready().await
        }
        What::LeaseDeleted => leads(lane, 0).await,
        _ => lane.replica.ready().await,
    }
}

fn process(lane: &mut Lane, part: Part) -> Result<&mut Process> {
    let plane = || "the cluster is shared";
    Ok(match part {
        Part::Operator => &mut lane.replica.process,
        Part::Envoy => &mut lane.envoy.process,
        Part::Apiserver => Arc::get_mut(&mut lane.plane)
            .with_context(plane)?
            .apiserver(),
        Part::Etcd => Arc::get_mut(&mut lane.plane).with_context(plane)?.etcd(),
    })
}

async fn restart(lane: &mut Lane, part: Part) -> Result<()> {
    let plane = || "the cluster is shared";
    match part {
        Part::Operator => lane.restart_replica(),
        Part::Envoy => lane.envoy.restart(),
        Part::Apiserver => {
            let plane = Arc::get_mut(&mut lane.plane).with_context(plane)?;
            plane.restart_apiserver().await
        }
        Part::Etcd => Arc::get_mut(&mut lane.plane)
            .with_context(plane)?
            .restart_etcd(),
    }
}

fn relay(lane: &Lane, link: Link) -> Result<&nuncio_e2e::relay::Relay> {
    match link {
        Link::OperatorToApiserver => Ok(&lane.network),
        Link::EnvoyToOperator => Ok(&lane.xds),
        Link::ApiserverToEtcd => lane.etcd.as_ref().context("etcd has no relay"),
    }
}

/// Waits until a replica of the lane leads.
async fn leads(lane: &Lane, number: u16) -> Result<()> {
    let lease = format!("lease/{}", lease_name(&lane.instance.id));
    let name = lane.instance.name("nuncio", number);
    until("the leader", || async {
        let path = "{.spec.holderIdentity}";
        let holder = lane.plane.field(NAMESPACE, &lease, path)?;
        ensure!(holder == name, "{holder:?} leads");
        Ok(())
    })
    .await
}

/// Creates the other namespace, and waits until it is served.
async fn create_other(lane: &Lane) -> Result<()> {
    let manifests = [
        host("other", OTHER_HOST, ""),
        mapping("other", OTHER_HOST, "/", "10.96.1.1", ""),
    ];
    let manifests = crate::space::with_id(&manifests.concat(), &lane.instance.id)?;
    lane.plane.kubectl(&["create", "namespace", OTHER], "")?;
    lane.plane.apply(OTHER, &manifests)?;
    lane.answers(OTHER_HOST, 200).await
}
