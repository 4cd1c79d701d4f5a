//! A Pod, from the assignment to the Node until it is gone from the apiserver.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval, sleep},
};

use super::{
    Shared,
    container::{State, Task},
    network::PodNetwork,
    status::{Conditions, Summary},
    volume::Volumes,
};

/// How often volumes are compared with their objects.
const REFRESH: Duration = Duration::from_millis(500);

/// Whether a Pod has ended for good.
pub(super) fn is_over(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Runs a Pod until it is gone, by its end or by force.
pub(super) async fn run(shared: Arc<Shared>, pod: Arc<Pod>, mut gone: watch::Receiver<bool>) {
    let spec = pod.spec.clone().unwrap_or_default();
    let network = loop {
        let network = match spec.host_network {
            Some(true) => Ok(shared.network.host()),
            _ => shared.network.pod().await,
        };
        match network {
            Ok(network) => break network,
            // such as too many processes on a busy machine
            Err(_again) => sleep(Duration::from_secs(1)).await,
        }
    };
    let folder = shared.folder.path().join(pod.uid().unwrap_or_default());
    let mut worker = Worker::new(shared, pod, &spec, network, folder);
    tokio::select! {
        () = worker.run() => {}
        // removed by force: nothing is waited for
        _ = gone.wait_for(|gone| *gone) => {}
    }
    worker.tasks.shutdown().await;
    worker.network.remove().await;
    let _ = tokio::fs::remove_dir_all(&worker.folder).await;
}

struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    network: PodNetwork,
    folder: PathBuf,
    volumes: Volumes,
    containers: Vec<Started>,
    init: usize,
    stop: watch::Sender<Option<Instant>>,
    tasks: JoinSet<()>,
    conditions: Conditions,
    started: Timestamp,
    written: String,
}

struct Started {
    container: Container,
    state: watch::Sender<State>,
    runs: bool,
}

impl Worker {
    fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        spec: &PodSpec,
        network: PodNetwork,
        folder: PathBuf,
    ) -> Self {
        let init = spec.init_containers.clone().unwrap_or_default();
        let address = network.address.to_string();
        Self {
            volumes: Volumes::new(shared.clone(), folder.join("volumes"), address),
            init: init.len(),
            containers: init
                .into_iter()
                .chain(spec.containers.clone())
                .map(|container| Started {
                    container,
                    state: watch::Sender::new(State::default()),
                    runs: false,
                })
                .collect(),
            shared,
            pod,
            network,
            folder,
            stop: watch::Sender::new(None),
            tasks: JoinSet::new(),
            conditions: Conditions::default(),
            started: Timestamp::now(),
            written: String::new(),
        }
    }

    /// Runs it until it is gone.
    async fn run(&mut self) {
        let mut ticks = interval(Duration::from_millis(50));
        let mut refreshed = Instant::now() - REFRESH;
        loop {
            ticks.tick().await;
            let namespace = self.pod.namespace().unwrap_or_default();
            let newest = self
                .shared
                .cluster
                .pods
                .get(&namespace, &self.pod.name_any());
            if let Some(newest) = newest.filter(|newest| newest.uid() == self.pod.uid()) {
                self.pod = newest;
            }
            if self.pod.metadata.deletion_timestamp.is_some() && self.stop.borrow().is_none() {
                let grace = self.pod.metadata.deletion_grace_period_seconds;
                let grace = Duration::from_secs(grace.unwrap_or(30).unsigned_abs());
                self.stop.send_replace(Some(Instant::now() + grace));
            }
            if refreshed.elapsed() >= REFRESH {
                let result = self.volumes.refresh(&self.pod).await;
                self.start_what_can(&result);
                refreshed = Instant::now();
            }
            let is_stopped = self.stop.borrow().is_some();
            let is_over = self
                .containers
                .iter()
                .all(|started| !started.runs && is_stopped || started.state.borrow().is_over);
            let is_written = self.write_status().await;
            if is_over && is_stopped && is_written && self.remove().await.is_ok() {
                return;
            }
        }
    }

    /// Starts the next containers, once the volumes are there: init containers one by one, then all others.
    fn start_what_can(&mut self, volumes: &Result<()>) {
        if self.stop.borrow().is_some() {
            return;
        }
        for number in 0..self.containers.len() {
            let is_init = number < self.init;
            let started = &self.containers[number];
            if !started.runs {
                if let Err(error) = volumes {
                    let reason = ("ContainerCreating", format!("{error:#}"));
                    let state = &started.state;
                    state.send_modify(|state| state.waiting = Some(reason.clone()));
                } else {
                    self.start(number);
                }
            }
            if is_init && !self.has_succeeded(number) {
                return;
            }
        }
    }

    fn has_succeeded(&self, number: usize) -> bool {
        let state = self.containers[number].state.borrow();
        let exit = state.last.as_ref().map(|last| last.exit.code);
        state.is_over && exit == Some(0)
    }

    fn start(&mut self, number: usize) {
        let spec = self.pod.spec.as_ref();
        let policy = spec.and_then(|spec| spec.restart_policy.clone());
        let policy = match (policy.as_deref(), number < self.init) {
            (Some("Never"), _) => "Never",
            (_, true) => "OnFailure",
            (Some("OnFailure"), false) => "OnFailure",
            (_, false) => "Always",
        };
        let started = &mut self.containers[number];
        started.runs = true;
        let task = Task {
            shared: self.shared.clone(),
            pod: self.pod.clone(),
            container: started.container.clone(),
            restart_policy: policy.to_owned(),
            address: self.network.address,
            network: self.network.namespace.clone(),
            folder: self.folder.clone(),
            volumes: self.volumes.path(""),
            state: started.state.clone(),
            stop: self.stop.subscribe(),
        };
        self.tasks.spawn(task.run());
    }

    /// Writes the status if it has changed; whether it is written.
    async fn write_status(&mut self) -> bool {
        let containers = self.containers.iter();
        let summary = Summary {
            pod: &self.pod,
            address: self.network.address.to_string(),
            started: self.started,
            containers: containers
                .map(|started| (&started.container, started.state.borrow().clone()))
                .collect(),
            init: self.init,
        };
        let patch = summary.patch(&mut self.conditions);
        let text = patch.to_string();
        if text == self.written {
            return true;
        }
        let pods = self.api();
        let parameters = PatchParams::default();
        let name = self.pod.name_any();
        let written = pods
            .patch_status(&name, &parameters, &Patch::Strategic(&patch))
            .await;
        let is_written = match written {
            Ok(_) => true,
            Err(kube::Error::Api(error)) => error.code == 404,
            Err(_) => false,
        };
        if is_written {
            self.written = text;
        }
        is_written
    }

    /// Removes it from the apiserver.
    async fn remove(&self) -> Result<()> {
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: self.pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api().delete(&self.pod.name_any(), &parameters).await {
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => Ok(()),
            deleted => Ok(deleted.map(drop)?),
        }
    }

    fn api(&self) -> Api<Pod> {
        let namespace = self.pod.namespace().unwrap_or_default();
        Api::namespaced(self.shared.cluster.client.clone(), &namespace)
    }
}
