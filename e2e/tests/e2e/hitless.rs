//! The hitless suite: whatever changes or fails, no exchange of constant traffic is lost.
//!
//! Each row of the table is one sort of change or failure. CI runs the short form; `HITLESS=full` runs it in full and
//! takes about half an hour; `HITLESS_ROWS` chooses rows by words of their names, separated by commas. `table.md` beside the
//! logs has what was sent and lost. The last row proves that a loss is noticed on every lane.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::BoxFuture;
use nuncio_e2e::{
    traffic::{Outcome, Traffic},
    wait::{until, until_within},
};

use crate::installation::{HOST, Installation, TRAFFIC, record};

#[path = "hitless/authority.rs"]
mod authority;
#[path = "hitless/clock.rs"]
mod clock;
#[path = "hitless/edit.rs"]
mod edit;
#[path = "hitless/failure.rs"]
mod failure;
#[path = "hitless/operation.rs"]
mod operation;
#[path = "hitless/upgrade.rs"]
mod upgrade;

/// How much of a row is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// In CI.
    Short,
    /// Once for each release.
    Full,
}

impl Form {
    /// The form that the environment asks for.
    fn chosen() -> Self {
        match std::env::var("HITLESS").as_deref() {
            Ok("full") => Self::Full,
            _ => Self::Short,
        }
    }

    /// One of two numbers.
    fn choose<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

type Run = for<'a> fn(&'a mut Installation, Form) -> BoxFuture<'a, Result<()>>;

macro_rules! rows {
    ($($name:literal: $module:ident::$function:ident),* $(,)?) => {
        &[$(($name, |stage, form| Box::pin($module::$function(stage, form)))),*]
    };
}

type Row = (&'static str, Run);

/// What is edited.
const EDITS: &[Row] = rows![
    "random edits": edit::random,
    "Host edits": edit::hosts,
    "Listener edits": edit::listener,
    "TLSContext edits": edit::tls_context,
    "certificate rotation": edit::certificate,
    "endpoint routing": edit::endpoints,
    "health checks": edit::health_checks,
    "DNS changes": edit::dns,
];

/// What fails.
const FAILURES: &[Row] = rows![
    "leader killed": failure::leader_killed,
    "control planes killed": failure::control_planes_killed,
    "control planes stopped for a while": failure::control_planes_stopped,
    "apiserver down, then slow": failure::apiserver_down,
];

/// What operators do.
const OPERATIONS: &[Row] = rows![
    "control planes scaled": operation::control_planes_scaled,
    "Envoys scaled": operation::envoys_scaled,
    "control planes restarted": operation::control_planes_restarted,
    "Envoys restarted": operation::envoys_restarted,
];

/// Upgrades, and the way back.
const UPGRADES: &[Row] = rows![
    "upgrade of everything, and rollback": upgrade::everything,
    "Envoy upgraded from the older minor version": upgrade::envoy,
];

/// What happens between control planes and Envoys.
const IDENTITIES: &[Row] = rows![
    "xDS authority rotated": authority::rotated,
    "xDS authority of a user replaced": authority::replaced,
    "clocks moved by a day": clock::moved,
];

pub(crate) async fn edits_and_failures_lose_nothing() -> Result<()> {
    run(&[EDITS, FAILURES].concat()).await
}

pub(crate) async fn scaling_and_rollouts_lose_nothing() -> Result<()> {
    run(&[OPERATIONS, UPGRADES].concat()).await
}

pub(crate) async fn rotations_and_clocks_lose_nothing() -> Result<()> {
    run(IDENTITIES).await
}

async fn run(rows: &[Row]) -> Result<()> {
    let form = Form::chosen();
    let only = std::env::var("HITLESS_ROWS").unwrap_or_default();
    let start = Instant::now();
    let mut installation = Installation::start("default").await?;
    let seconds = start.elapsed().as_secs_f64();
    record(&format!("From nothing to traffic: {seconds:.1} s\n"))?;
    let traffic = Traffic::start(&installation.target);
    traffic.proceeds(false).await;
    let mut before = traffic.outcome();
    let mut problems = Vec::new();
    record("| row | seconds | exchanges | lost |\n| --- | --- | --- | --- |")?;
    for (name, run) in rows
        .iter()
        .filter(|(name, _)| only.split(',').any(|word| name.contains(word)))
    {
        let start = Instant::now();
        let result = run(&mut installation, form).await;
        traffic.proceeds(form == Form::Full).await;
        let outcome = traffic.outcome();
        let part = outcome.since(&before);
        let seconds = start.elapsed().as_secs_f64();
        let (sent, lost) = (part.sent(), part.lost());
        record(&format!("| {name} | {seconds:.1} | {sent} | {lost} |"))?;
        let result = result.and_then(|()| part.complete());
        if let Err(error) = result {
            let statistics = installation.statistics().await.unwrap_or_default();
            record(&format!("{name}: {error:#}\n{statistics}"))?;
            problems.push(format!("{name}: {error:#}"));
        }
        before = outcome;
    }
    let last = traffic.finish().await?.since(&before);
    if let Err(error) = last.complete() {
        problems.push(format!("after the last row: {error:#}"));
    }
    if let Err(error) = losses_are_noticed(&installation).await {
        problems.push(format!("{error:#}"));
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}

/// Loses one exchange of each lane.
async fn losses_are_noticed(installation: &Installation) -> Result<()> {
    let traffic = Traffic::start(&installation.target);
    traffic.proceeds(false).await;
    let Outcome { lanes } = traffic.outcome();
    for (name, ..) in &lanes {
        installation.backend.spoil(name);
    }
    traffic.proceeds(true).await;
    let outcome = traffic.finish().await?;
    let (sent, lost) = (outcome.sent(), outcome.lost());
    record(&format!(
        "| one exchange of each lane spoilt | | {sent} | {lost} |"
    ))?;
    for (name, _, lost) in &outcome.lanes {
        ensure!(
            lost.len() == 1,
            "{} losses noticed on lane {name}: {lost:?}",
            lost.len()
        );
    }
    Ok(())
}

/// A change must be served by every Envoy within this time, which its status says.
async fn all_serve_a_change(installation: &Installation, bound: Duration) -> Result<()> {
    let prefix = format!("/change-{}/", fastrand::u32(..));
    let mapping = crate::fixture::mapping("change", HOST, &prefix, "backend", "");
    let start = Instant::now();
    until("a change", || async { apply(installation, &mapping) }).await?;
    let rest = bound.saturating_sub(start.elapsed());
    until_within(rest, "2/2 Envoys", || async {
        let path = "{.metadata.generation} {range .status.conditions[?(@.type=='Programmed')]}{.observedGeneration} {.status} {.message}{end}";
        let status = installation.plane.field(TRAFFIC, "mapping/change", path)?;
        let (generation, rest) = status.split_once(' ').context("no generation")?;
        let is_served = rest.starts_with(&format!("{generation} True 2/2 Envoys"));
        ensure!(is_served, "generation {status}");
        Ok(())
    })
    .await
}

/// Applies manifests in the namespace of traffic.
fn apply(installation: &Installation, manifests: &str) -> Result<()> {
    let applied = installation.plane.apply(TRAFFIC, manifests);
    applied.with_context(|| format!("cannot apply {manifests}"))
}
