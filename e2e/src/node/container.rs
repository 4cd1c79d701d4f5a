//! A container: its process, its probes, its restarts, and its end.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::{
    api::core::v1::{Container, Lifecycle, LifecycleHandler, Pod},
    jiff::Timestamp,
};
use kube::ResourceExt as _;
use rustix::process::Signal;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{
    Shared, environment, probe,
    process::{Exit, Mount, Program, Running},
    volume,
};
use crate::workspace::logs;

/// Longest pause before a restart. A kubelet begins with 10 s and goes up to 5 min.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// What a kubelet leaves a container after a hook that has used up the grace period.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// What there is to say about a container.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// Since when it runs.
    pub(super) running_since: Option<Timestamp>,
    /// How it ended last.
    pub(super) last: Option<Ended>,
    /// Reason and message while it does not run.
    pub(super) waiting: Option<(&'static str, String)>,
    /// Whether its startup probe has succeeded.
    pub(super) is_started: bool,
    /// Whether its readiness probe succeeds.
    pub(super) is_ready: bool,
    /// Number of restarts.
    pub(super) restarts: i32,
    /// Whether it does not start again.
    pub(super) is_over: bool,
}

/// A run that is over.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) exit: Exit,
    pub(super) started: Timestamp,
    pub(super) finished: Timestamp,
    pub(super) message: String,
}

/// What is to be run.
pub(super) struct Task {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Arc<Pod>,
    pub(super) container: Container,
    /// `Always`, `OnFailure` or `Never`.
    pub(super) restart_policy: String,
    pub(super) address: Ipv4Addr,
    pub(super) network: Option<PathBuf>,
    /// The directory of the Pod.
    pub(super) folder: PathBuf,
    /// The directory with its volumes.
    pub(super) volumes: PathBuf,
    pub(super) state: watch::Sender<State>,
    /// When the container must have ended, once it is to end.
    pub(super) stop: watch::Receiver<Option<Instant>>,
}

impl Task {
    /// Runs the container until it is over.
    pub(super) async fn run(mut self) {
        let mut pause = Duration::from_secs(1);
        loop {
            let ended = self.run_once().await;
            let is_stopped = self.stop.borrow().is_some();
            let has_failed = ended.as_ref().map_or(true, |exit| exit.code != 0);
            let goes_on = match &*self.restart_policy {
                "Always" => true,
                "OnFailure" => has_failed,
                _ => ended.is_err(),
            };
            let is_over = is_stopped || !goes_on;
            self.state.send_modify(|state| {
                state.is_over = is_over;
                match &ended {
                    Err(error) => {
                        state.waiting = Some(("CreateContainerError", format!("{error:#}")));
                    }
                    Ok(_exit) if !is_over => {
                        let text = "waiting before the next start".to_owned();
                        state.waiting = Some(("CrashLoopBackOff", text));
                    }
                    Ok(_exit) => {}
                }
            });
            if is_over {
                return;
            }
            let stopped = self.stop.wait_for(Option::is_some);
            if tokio::time::timeout(pause, stopped).await.is_ok() {
                self.state.send_modify(|state| state.is_over = true);
                return;
            }
            if ended.is_ok() {
                pause = (pause * 2).min(LONGEST_PAUSE);
                self.state.send_modify(|state| state.restarts += 1);
            }
        }
    }

    async fn run_once(&mut self) -> Result<Exit> {
        let running = self.program()?.start().await?;
        let (process, pod) = (running.process(), self.pod.clone());
        self.shared.change_processes(&pod, |all| all.push(process));
        let started = Timestamp::now();
        self.state.send_modify(|state| {
            state.running_since = Some(started);
            state.waiting = None;
        });
        let mut stop = self.stop.clone();
        let ended = tokio::select! {
            _exit = running.exited() => None,
            _stop = stop.wait_for(Option::is_some) => Some(String::new()),
            reason = probe::run(&self.container, &running, self.address, &self.state) => Some(reason),
        };
        let mut is_killed = false;
        let message = match ended {
            None => String::new(),
            Some(reason) => {
                let deadline = *self.stop.borrow();
                let deadline = deadline.unwrap_or_else(|| Instant::now() + self.grace());
                tokio::select! {
                    killed = self.terminate(&running, deadline) => is_killed = killed,
                    // the endpoint of a Pod that terminates is serving while it is ready
                    () = probe::readiness(&self.container, &running, self.address, &self.state) => {}
                }
                reason
            }
        };
        let mut exit = running.exited().await;
        self.shared
            .change_processes(&pod, |all| all.retain(|known| *known != process));
        if is_killed {
            // unshare does not pass it on
            exit.code = 128 + Signal::KILL.as_raw();
        }
        self.state.send_modify(|state| {
            state.running_since = None;
            state.is_started = false;
            state.is_ready = false;
            state.last = Some(Ended {
                exit,
                started,
                finished: Timestamp::now(),
                message,
            });
        });
        Ok(exit)
    }

    fn grace(&self) -> Duration {
        let spec = self.pod.spec.as_ref();
        let grace = spec.and_then(|spec| spec.termination_grace_period_seconds);
        Duration::from_secs(grace.unwrap_or(30).unsigned_abs())
    }

    /// Ends a container: hook, SIGTERM, and SIGKILL after the grace period; whether that was necessary.
    async fn terminate(&self, running: &Running, deadline: Instant) -> bool {
        let hook = self.container.lifecycle.as_ref();
        if let Some(hook) = hook.and_then(|lifecycle: &Lifecycle| lifecycle.pre_stop.as_ref()) {
            // a hook that fails delays nothing
            let _ = timeout_at(deadline, self.handle(running, hook)).await;
        }
        running.signal(Signal::TERM);
        let deadline = deadline.max(Instant::now() + LEAST_GRACE);
        let is_late = timeout_at(deadline, running.exited()).await.is_err();
        if is_late {
            running.signal(Signal::KILL);
            running.exited().await;
        }
        is_late
    }

    async fn handle(&self, running: &Running, hook: &LifecycleHandler) -> Result<()> {
        if let Some(pause) = &hook.sleep {
            sleep(Duration::from_secs(pause.seconds.unsigned_abs())).await;
            return Ok(());
        }
        if let Some(exec) = &hook.exec {
            return running
                .execute(exec.command.as_deref().unwrap_or_default())
                .await;
        }
        if let Some(http) = &hook.http_get {
            return probe::get(http, &self.container, self.address).await;
        }
        bail!("unsupported type of hook")
    }

    fn program(&self) -> Result<Program> {
        let container = &self.container;
        let reference = container.image.as_deref().unwrap_or_default();
        let image = self.shared.images.find(reference);
        let image = image.with_context(|| format!("no image {reference}"))?;
        let address = self.address.to_string();
        let environment =
            environment::variables(&self.shared.cluster, &self.pod, container, &address)?;
        let mut command = container
            .command
            .clone()
            .unwrap_or_else(|| image.entrypoint.clone());
        let of_image = match container.command {
            Some(_) => Vec::new(),
            None => image.command.clone(),
        };
        command.extend(container.args.clone().unwrap_or(of_image));
        let words = command.iter();
        let command = words
            .map(|word| environment::expanded(word, &environment))
            .collect();
        ensure!(container.working_dir.is_none(), "unsupported: workingDir");
        ensure!(
            container.restart_policy.is_none(),
            "unsupported: restartPolicy of a container (native sidecar)"
        );
        let security = container.security_context.clone().unwrap_or_default();
        let restarts = self.state.borrow().restarts;
        let (name, pod) = (&container.name, self.pod.name_any());
        Ok(Program {
            image: image.root.clone(),
            folder: self.folder.join(format!("{name}-{restarts}")),
            network: self.network.clone(),
            hostname: pod.clone(),
            mounts: self.mounts()?,
            is_read_only: security.read_only_root_filesystem == Some(true),
            may_gain_privileges: security.allow_privilege_escalation != Some(false),
            user: self.user(image.user)?,
            command,
            environment,
            log: logs()?.join(format!("pod-{pod}-{name}-{restarts}.log")),
        })
    }

    /// User, group, and supplementary groups.
    fn user(&self, of_image: (u32, u32)) -> Result<(u32, u32, Vec<u32>)> {
        let of_pod = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.security_context.clone());
        let (of_pod, own) = (
            of_pod.unwrap_or_default(),
            self.container.security_context.clone().unwrap_or_default(),
        );
        let user = own.run_as_user.or(of_pod.run_as_user);
        let user = user.map_or(Ok(of_image.0), u32::try_from)?;
        let group = match own.run_as_group.or(of_pod.run_as_group) {
            Some(group) => u32::try_from(group)?,
            None if user == of_image.0 => of_image.1,
            None => 0,
        };
        let must_not_be_root = own.run_as_non_root.or(of_pod.run_as_non_root);
        ensure!(
            user != 0 || must_not_be_root != Some(true),
            "container has runAsNonRoot and image will run as root"
        );
        let others = of_pod.supplemental_groups.unwrap_or_default().into_iter();
        let others = others.chain(of_pod.fs_group).map(u32::try_from);
        Ok((user, group, others.collect::<Result<_, _>>()?))
    }

    fn mounts(&self) -> Result<Vec<Mount>> {
        let files = volume::managed_files(
            &self.folder.join("etc"),
            &self.pod,
            &self.address.to_string(),
        )?;
        let mut mounts: Vec<Mount> = files
            .into_iter()
            .map(|(source, target)| Mount {
                source,
                target: target.to_owned(),
                is_read_only: false,
            })
            .collect();
        for mount in self.container.volume_mounts.iter().flatten() {
            let mut source = self.volumes.join(&mount.name);
            if let Some(path) = mount.sub_path.as_deref().filter(|path| !path.is_empty()) {
                source = source.join(path).canonicalize().unwrap_or(source);
            }
            ensure!(mount.sub_path_expr.is_none(), "unsupported: subPathExpr");
            mounts.push(Mount {
                source,
                target: mount.mount_path.trim_end_matches('/').to_owned(),
                is_read_only: mount.read_only == Some(true) || self.is_managed(&mount.name),
            });
        }
        mounts.sort_by_key(|mount| Path::new(&mount.target).components().count());
        Ok(mounts)
    }

    /// Whether the files of a volume come from objects; such a volume is read-only.
    fn is_managed(&self, name: &str) -> bool {
        let spec = self.pod.spec.as_ref();
        let mut volumes = spec
            .and_then(|spec| spec.volumes.as_ref())
            .into_iter()
            .flatten();
        let volume = volumes.find(|volume| volume.name == name);
        volume.is_some_and(|volume| volume.empty_dir.is_none())
    }
}
