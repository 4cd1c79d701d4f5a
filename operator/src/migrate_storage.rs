//! `nuncio migrate-storage`: stores the objects of each kind in the storage version of its CustomResourceDefinition, then removes
//! the other versions from `status.storedVersions`, so that they can be removed from the definition.
//!
//! An empty patch makes the apiserver read an object, convert it, and store it again if the result differs from what is stored; it
//! changes nothing that users see. Only metadata is listed and answered, page by page, so that memory does not grow with the number
//! of objects. What is done is remembered as a condition of the definition ([`place`]), so that an interrupted run goes on
//! where it was.
//!
//! Nothing is removed from `storedVersions` that may still be stored: every object was stored again, and the generation of the
//! definition is that from before, so that the storage version was the same all the time.

use std::process::ExitCode;

use anyhow::Context as _;
use kube::{Api, Client, core::ApiResource};
use nuncio_crds::{GROUP, KINDS, KindInfo};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::run::{self, Signals};

mod arguments;
mod definition;
mod kind;
mod list;
mod object;
mod place;
mod progress;
mod remember;
mod report;
mod retry;

pub use arguments::{HELP, MigrateStorageArguments};

use self::{
    kind::Migration,
    report::{KindReport, Report},
};

/// What is the same for all kinds.
struct Context {
    client: Client,
    /// Requests at a time.
    concurrency: usize,
    /// Whether the apiserver does everything but store.
    dry_run: bool,
    /// Cancelled on a signal.
    stop: CancellationToken,
}

/// Migrates the chosen kinds, and prints what was done.
///
/// # Errors
/// A cluster that cannot be found, or an output that cannot be written. What fails in the cluster is in the report, and in the exit
/// status.
pub async fn run(arguments: MigrateStorageArguments) -> anyhow::Result<ExitCode> {
    let client = run::connect(arguments.context).await?;
    let context = Context {
        client,
        concurrency: usize::from(arguments.concurrency.get()),
        dry_run: arguments.dry_run,
        stop: stopped_by(Signals::new()?),
    };
    let chosen = &arguments.kinds;
    let kinds =
        kinds().filter(|info| chosen.is_empty() || chosen.iter().any(|name| is(info, name)));
    let mut report = Report {
        dry_run: arguments.dry_run,
        ..Report::default()
    };
    for info in kinds {
        report.kinds.push(context.kind(info).await);
    }
    report
        .print(arguments.output)
        .context("cannot print the report")?;
    Ok(match report.is_success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

impl Context {
    async fn kind(&self, info: &'static KindInfo) -> KindReport {
        if self.stop.is_cancelled() {
            return KindReport::new(info.name);
        }
        Migration::new(self, info).run().await
    }

    /// All definitions.
    fn definitions(&self) -> Api<definition::Definition> {
        use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
        let resource = ApiResource::erase::<CustomResourceDefinition>(&());
        Api::all_with(self.client.clone(), &resource)
    }
}

/// The kinds with several versions.
fn kinds() -> impl Iterator<Item = &'static KindInfo> {
    let own = KINDS.iter().filter(|info| info.group == GROUP);
    own.filter(|info| info.versions.len() > 1)
}

/// Whether a kind has this name; resource names are names, too.
fn is(info: &KindInfo, name: &str) -> bool {
    info.name.eq_ignore_ascii_case(name) || info.plural.eq_ignore_ascii_case(name)
}

/// Cancelled by the first signal.
fn stopped_by(signals: Signals) -> CancellationToken {
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        signals.stop().await;
        info!("stopping after the requests that are under way");
        cancelled.cancel();
    });
    stop
}
