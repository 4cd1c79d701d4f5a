//! A fuzzer of what users write: objects at random, most of which pass the schemas of their kinds, go in batches through
//! the pipeline and on to a real Envoy.
//!
//! No input may make our code panic, be left unserved without a report, or be rejected by Envoy: what Envoy would reject,
//! we must report, on the object and the field. A finding is reduced to the objects and fields that it needs, and printed
//! as YAML. The same seed writes the same batches.

use std::{
    collections::BTreeSet,
    io::{Write as _, stdout},
    time::Instant,
};

use anyhow::Result;

use self::{
    batch::{Object, World},
    finding::{Finding, What},
    gateway::Gateway,
    pipeline::{Survivor, make},
    reduce::reduce,
};

mod batch;
mod consul;
mod finding;
mod gateway;
mod hostile;
mod knative;
mod meaning;
mod module;
mod options;
mod pipeline;
mod random;
mod reduce;
mod schema;
mod spoil;
mod value;

pub use self::options::Options;

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Number of batches.
    pub batches: u64,
    /// Number of objects in them.
    pub objects: usize,
    /// Number of objects that were served, at least in part.
    pub in_service: usize,
    /// Resources that were sent to Envoy.
    pub resources: usize,
    /// Different defects, as text.
    pub findings: Vec<String>,
}

/// Writes batches until the time is over or enough defects are found. Must run in the sandbox.
///
/// # Errors
/// Envoy cannot be started.
pub async fn run(options: &Options) -> Result<Summary> {
    pipeline::keep_panics();
    let world = World::new()?;
    let mut fuzzer = Fuzzer {
        gateway: Gateway::start().await?,
        survivor: Survivor::new(),
        known: BTreeSet::new(),
        summary: Summary::default(),
    };
    let start = Instant::now();
    for number in 0..options.batches {
        let is_enough = fuzzer.summary.findings.len() >= options.findings;
        if start.elapsed() >= options.time() || is_enough {
            break;
        }
        let seed = options.seed.wrapping_add(number);
        fuzzer.batch(seed, world.batch(seed)).await?;
    }
    Ok(fuzzer.summary)
}

struct Fuzzer {
    gateway: Gateway,
    survivor: Survivor,
    /// Signatures of the defects found so far.
    known: BTreeSet<(What, String, String)>,
    summary: Summary,
}

impl Fuzzer {
    async fn batch(&mut self, seed: u64, objects: Vec<Object>) -> Result<()> {
        let made = make(&objects);
        self.summary.batches += 1;
        self.summary.objects += objects.len();
        self.summary.in_service += made.in_service;
        self.summary.resources += made.resources.len();
        let mut findings = made.findings;
        if !self.survivor.agrees(&objects, &made.resources) {
            let message = "resources are not those of a new store".to_owned();
            findings.push(Finding::new(What::Differs, "", message));
        }
        findings.extend(self.gateway.show(&made.resources).await?);
        for finding in findings {
            if finding.is_cut() || self.known.insert(finding.signature()) {
                self.report(seed, &objects, &finding).await?;
            }
        }
        Ok(())
    }

    /// Reduces the batch to what the defect needs, and prints it.
    async fn report(&mut self, seed: u64, objects: &[Object], finding: &Finding) -> Result<()> {
        let gateway = &mut self.gateway;
        let mut last = finding.clone();
        let needs_envoy = matches!(finding.what, What::Rejected | What::Silent | What::Died);
        let shows = async |objects: &[Object]| {
            let made = make(objects);
            let mut findings = made.findings;
            if needs_envoy {
                gateway.show(&pipeline::Resources::new()).await?;
                findings.extend(gateway.show(&made.resources).await?);
            }
            let same = findings.into_iter().find(|other| other.is_like(finding));
            let shows = same.is_some();
            last = same.unwrap_or(last.clone());
            Ok(shows)
        };
        let reduced = if finding.what == What::Differs {
            Vec::new()
        } else {
            reduce(objects.to_vec(), shows).await?
        };
        if !self.known.insert(last.signature()) && finding.is_cut() {
            return Ok(());
        }
        let text = last.describe(seed, &reduced);
        writeln!(stdout(), "{text}")?;
        self.summary.findings.push(text);
        Ok(())
    }
}
