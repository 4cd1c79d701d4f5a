//! How tests run: beside each other as libtest does it, some of them in a sandbox of their own.

use std::{
    panic::AssertUnwindSafe,
    process::{ExitCode, exit},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use futures::{FutureExt as _, future::BoxFuture};
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};
use nuncio_e2e::{
    control_plane::ControlPlane,
    instance::Instance,
    permissions, process, sandbox,
    workspace::{logs, root},
};
use tokio::{runtime::Runtime, sync::OnceCell, time::timeout};

use crate::{
    fixture::LISTENERS,
    space::{Gateway, Space},
};

/// Longest time for one test.
const LIMIT: Duration = Duration::from_secs(300);
/// Longest time for one test when the hitless suite runs in full.
const FULL_LIMIT: Duration = Duration::from_secs(3600);

/// A test, and what it has to itself.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    /// The module it is in.
    pub(crate) module: &'static str,
    /// Name of its function.
    pub(crate) name: &'static str,
    /// How it runs.
    pub(crate) run: Run,
}

/// How a test runs.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// In a sandbox of its own, without a cluster.
    WithoutCluster(fn() -> BoxFuture<'static, Result<()>>),
    /// Served by the shared gateway.
    Shared(for<'a> fn(&'a Space) -> BoxFuture<'a, Result<()>>),
    /// Served by a gateway of its own.
    OwnGateway(for<'a> fn(&'a mut Space) -> BoxFuture<'a, Result<()>>),
    /// In a sandbox of its own, with a cluster of its own.
    OwnCluster(for<'a> fn(&'a mut Space) -> BoxFuture<'a, Result<()>>),
}

impl Test {
    fn full_name(&self) -> String {
        format!("{}::{}", self.module, self.name)
    }

    fn namespace(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Whether it has a sandbox of its own.
    fn is_alone(&self) -> bool {
        matches!(self.run, Run::WithoutCluster(_) | Run::OwnCluster(_))
    }

    async fn run(&self) -> Result<()> {
        match self.run {
            Run::WithoutCluster(test) => test().await,
            Run::Shared(test) => test(&shared_space(self.namespace()).await?).await,
            Run::OwnGateway(test) => {
                let plane = shared_cluster().await?;
                test(&mut Space::own(self.namespace(), plane).await?).await
            }
            Run::OwnCluster(test) => {
                let plane = ControlPlane::start().await?;
                test(&mut Space::own(self.namespace(), plane.into()).await?).await
            }
        }
    }

    /// Runs it, and shows the end of the logs if it fails.
    async fn run_within_limit(&self) -> Result<()> {
        let test = AssertUnwindSafe(self.run()).catch_unwind();
        let limit = match std::env::var("HITLESS").as_deref() {
            Ok("full") => FULL_LIMIT,
            _ => LIMIT,
        };
        let error = match timeout(limit, test).await {
            Ok(Ok(Ok(()))) => return Ok(()),
            Ok(Ok(Err(error))) => format!("{error:#}"),
            Ok(Err(_panic)) => "panicked".to_owned(),
            Err(_elapsed) => format!("took longer than {limit:?}"),
        };
        let words: &[&str] = match self.run {
            Run::WithoutCluster(_) => &[""],
            Run::Shared(_) => &["-default-"],
            Run::OwnGateway(_) | Run::OwnCluster(_) => &[&self.namespace()],
        };
        bail!("{error}\n{}", process::tails(words))
    }
}

/// Runs the tests that the arguments choose.
pub(crate) fn run_all(arguments: &Arguments, tests: &[Test]) -> Result<ExitCode> {
    let runtime = Runtime::new()?;
    // the first process of a namespace gets no signal that it does not handle
    runtime.spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            eprintln!("\ninterrupted");
            exit(130);
        }
    });
    let trials = tests.iter().map(|test| {
        let (test, runtime) = (*test, runtime.handle().clone());
        Trial::test(test.full_name(), move || {
            let result = if test.is_alone() {
                sandbox::run_test(&test.full_name()).map(|result| eprint!("{result}"))
            } else {
                runtime.block_on(test.run_within_limit())
            };
            result.map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    let conclusion = libtest_mimic::run(arguments, trials.collect());
    if !arguments.list {
        check_permissions(is_complete(arguments, &conclusion))?;
    }
    Ok(conclusion.exit_code())
}

/// Whether all tests ran to their end.
fn is_complete(arguments: &Arguments, conclusion: &Conclusion) -> bool {
    arguments.filter.is_none()
        && arguments.skip.is_empty()
        && conclusion.num_failed == 0
        && conclusion.num_ignored == 0
}

/// Checks the rules for each ServiceAccount with the audit logs of all tests of this run.
fn check_permissions(is_complete: bool) -> Result<()> {
    for (rules, account) in [
        ("config/rbac", "nuncio"),
        ("kustomize/components/apiext", "nuncio-apiext"),
        (
            "kustomize/components/migrate-storage",
            "nuncio-migrate-storage",
        ),
    ] {
        permissions::check(&root().join(rules), account, &logs()?, is_complete)?;
        if is_complete {
            eprintln!("{rules} is what {account} uses");
        }
    }
    Ok(())
}

/// Runs the test that has this sandbox to itself.
pub(crate) fn run_one(tests: &[Test], name: &str) -> Result<ExitCode> {
    let test = tests.iter().find(|test| test.full_name() == name);
    let test = test.with_context(|| format!("unknown test {name}"))?;
    Runtime::new()?.block_on(test.run_within_limit())?;
    Ok(ExitCode::SUCCESS)
}

/// The cluster that tests share. It ends with the sandbox.
async fn shared_cluster() -> Result<Arc<ControlPlane>> {
    static CLUSTER: OnceCell<Result<Arc<ControlPlane>, String>> = OnceCell::const_new();
    let start = || async {
        let started = ControlPlane::start().await;
        started.map(Arc::new).map_err(|error| format!("{error:#}"))
    };
    let started = CLUSTER.get_or_init(start).await.clone();
    started.map_err(|error| anyhow!("cannot start the shared cluster: {error}"))
}

/// A namespace of the shared cluster, served by the shared gateway.
async fn shared_space(namespace: String) -> Result<Space> {
    static GATEWAY: OnceCell<Result<Arc<Gateway>, String>> = OnceCell::const_new();
    let plane = shared_cluster().await?;
    let start = || async {
        let started = async {
            plane.apply("default", LISTENERS)?;
            Gateway::start(&plane, Instance::default()).await
        };
        started
            .await
            .map(Arc::new)
            .map_err(|error| format!("{error:#}"))
    };
    let started = GATEWAY.get_or_init(start).await.clone();
    let gateway = started.map_err(|error| anyhow!("cannot start the shared gateway: {error}"))?;
    Space::shared(namespace, plane.clone(), gateway)
}
