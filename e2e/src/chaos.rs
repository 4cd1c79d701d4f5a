//! Chaos with a seed: faults and changes of objects in random order, on a real apiserver, etcd, two replicas and two Envoys.
//!
//! One Envoy is never killed. Requests to a Host that nobody changes run through it all the time, and none may be lost. At
//! the end every fault is over, and each Envoy must have what an Envoy has that starts then, at a control plane that starts
//! then and so renders the objects of the apiserver from nothing. No process may have ended by itself, no Envoy may have
//! rejected anything, and statuses must be those of the present generations.
//!
//! The seed decides the order of faults and changes, and how long each lasts; what they meet is a matter of the moment.

use std::{
    io::{Write as _, stdout},
    time::{Duration, Instant},
};

use anyhow::Result;

use self::{
    plan::{Action, Plan},
    verify::verify,
    world::World,
};

mod change;
mod fault;
mod options;
mod plan;
mod side;
mod verify;
mod world;

pub use self::options::Options;

/// Longest wait for what must hold at the end: a watch that is half open is noticed after half a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Number of steps.
    pub steps: u64,
    /// Number of faults among them.
    pub faults: usize,
    /// Number of changes of objects among them, and how many of these the apiserver accepted.
    pub changes: (usize, usize),
    /// Number of requests to the Host that nobody changes.
    pub requests: u64,
    /// What must not be.
    pub findings: Vec<String>,
}

/// Makes steps until the time is over, and looks at what has come of them. Must run in the sandbox.
///
/// # Errors
/// Something cannot be started, or does not come back after a fault.
pub async fn run(options: &Options) -> Result<Summary> {
    let mut world = World::start(options.seed).await?;
    let mut summary = Summary::default();
    let traffic = world.traffic()?;
    let start = Instant::now();
    let mut plan = Plan::new(options.seed);
    while summary.steps < options.steps && start.elapsed() < options.time() {
        let step = plan.step();
        summary.steps += 1;
        for action in step.actions {
            if !matches!(action, Action::Change(_)) || options.verbose {
                say(&format!(
                    "{:7.2} s  {action}",
                    start.elapsed().as_secs_f64()
                ))?;
            }
            match action {
                Action::Begin(fault) => {
                    summary.faults += 1;
                    world.begin(fault).await?;
                }
                Action::End(fault) => world.end(fault).await?,
                Action::Change(change) => {
                    let is_accepted = world.change(&change).await.is_ok();
                    summary.changes.0 += 1;
                    summary.changes.1 += usize::from(is_accepted);
                }
            }
        }
        tokio::time::sleep(step.pause).await;
        let ended = world.ended();
        if !ended.is_empty() {
            summary.findings.extend(ended);
            break;
        }
    }
    for fault in plan.open() {
        world.end(fault).await?;
    }
    world.repair().await?;
    if let Err(error) = world.recovers().await {
        summary.findings.push(format!("{error:#}"));
    }
    // before other Envoys listen on the same ports
    for load in traffic {
        let (sent, lost) = load.stop().await?;
        summary.requests += sent.requests;
        if !lost.is_empty() {
            let first = lost[..lost.len().min(3)].join("; ");
            let text = format!(
                "{} requests to the untouched Host were lost: {first}",
                lost.len()
            );
            summary.findings.push(text);
        }
    }
    summary.findings.extend(verify(&mut world).await?);
    for finding in &summary.findings {
        say(finding)?;
    }
    Ok(summary)
}

fn say(text: &str) -> Result<()> {
    Ok(writeln!(stdout(), "{text}")?)
}
