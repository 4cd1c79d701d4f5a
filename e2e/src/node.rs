//! The node agent: the part of a cluster below the apiserver. It runs the Pods that real controllers make, as local processes.
//!
//! Input: the Pods, Services, EndpointSlices, Secrets and ConfigMaps of an apiserver. Output: processes, and the status of
//! Pods and Services. It does as much as the tests need of the work of a scheduler (there is one Node, which takes every Pod),
//! a kubelet, kube-proxy, a load balancer and the DNS of a cluster.
//!
//! - A Pod has namespaces of its own for network, mounts, processes, host name and IPC, so that several Pods can bind
//!   0.0.0.0:8080, and so that process 1 has the signals of a process 1. Container images are directories ([`image`]).
//! - Services are carried by a relay in user space ([`service`]), because neither nftables nor IPVS is required of a machine
//!   that runs the tests. Thus a connection through a Service has the address of the node as its source, and changes of
//!   endpoints take effect after a delay, as with kube-proxy.
//! - What is not implemented (`hostPath`, gRPC probes, native sidecars, …) keeps the Pod waiting, and the message of the
//!   container's status names it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use crate::control_plane::ControlPlane;

mod cluster;
mod command;
mod container;
mod dns;
mod environment;
pub mod image;
mod network;
mod pod;
mod probe;
mod process;
mod service;
mod status;
mod volume;

use self::{cluster::Cluster, image::Images, network::Network};

/// Name of the one Node.
pub const NAME: &str = "node-1";

/// What all Pods share.
struct Shared {
    cluster: Cluster,
    images: Images,
    network: Network,
    folder: tempfile::TempDir,
    /// Tokens of an older generation are renewed.
    tokens: watch::Sender<u64>,
    /// The first process of the containers of each Pod, by namespace and name.
    processes: Mutex<BTreeMap<(String, String), Vec<Pid>>>,
}

/// A running node. Its Pods end with it.
pub struct Node {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl Node {
    /// Registers the Node and starts to run Pods. It takes over the addresses of pods in this network namespace.
    ///
    /// # Errors
    /// Pods cannot be isolated on this machine, or the apiserver does not answer.
    pub async fn start(plane: &ControlPlane, images: Images) -> Result<Self> {
        let client = plane.client().await?;
        let folder = tempfile::tempdir()?;
        let network = Network::create(folder.path()).await?;
        register(&client).await.context("cannot create the Node")?;
        let mut tasks = JoinSet::new();
        let shared = Arc::new(Shared {
            cluster: Cluster::follow(client, &mut tasks).await?,
            images,
            network,
            folder,
            tokens: watch::Sender::new(0),
            processes: Mutex::default(),
        });
        dns::start(shared.clone(), &mut tasks).await?;
        tasks.spawn(service::run(shared.clone()));
        tasks.spawn(run(shared.clone()));
        Ok(Self {
            shared,
            _tasks: tasks,
        })
    }

    /// Renews the service-account tokens of all Pods now, as it otherwise does after four fifths of their lifetime.
    pub fn renew_tokens(&self) {
        self.shared
            .tokens
            .send_modify(|generation| *generation += 1);
    }
}

impl Node {
    /// Sends a signal to the first process of each container of a Pod.
    ///
    /// # Errors
    /// No container of the Pod runs.
    pub fn signal(&self, namespace: &str, pod: &str, signal: Signal) -> Result<()> {
        for pid in self.processes(namespace, pod)? {
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// The text of a file as the first container of a Pod sees it.
    ///
    /// # Errors
    /// It cannot be read, or no container of the Pod runs.
    pub fn read(&self, namespace: &str, pod: &str, path: &str) -> Result<String> {
        let path = format!("{}{path}", self.root(namespace, pod)?);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }

    /// Reads a file of this name in a folder below another one, of the first container of a Pod.
    ///
    /// # Errors
    /// There is no such Pod or file.
    pub fn read_below(
        &self,
        namespace: &str,
        pod: &str,
        folder: &str,
        name: &str,
    ) -> Result<String> {
        let root = format!("{}{folder}", self.root(namespace, pod)?);
        let folders = std::fs::read_dir(&root).with_context(|| format!("cannot read {root}"))?;
        let mut files = folders.flatten().map(|folder| folder.path().join(name));
        let file = files.find(|file| file.exists());
        let file = file.with_context(|| format!("no {name} below {root}"))?;
        Ok(std::fs::read_to_string(file)?)
    }

    /// The root file system of the first container of a Pod.
    fn root(&self, namespace: &str, pod: &str) -> Result<String> {
        let pid = self.processes(namespace, pod)?[0].as_raw_nonzero();
        Ok(format!("/proc/{pid}/root"))
    }

    /// The first processes of the containers of a Pod; at least one.
    fn processes(&self, namespace: &str, pod: &str) -> Result<Vec<Pid>> {
        let processes = self
            .shared
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let found = processes.get(&(namespace.to_owned(), pod.to_owned()));
        let found = found.filter(|found| !found.is_empty());
        let found = found.with_context(|| format!("{namespace}/{pod} does not run"))?;
        Ok(found.clone())
    }
}

impl Shared {
    fn change_processes(&self, pod: &Pod, change: impl FnOnce(&mut Vec<Pid>)) {
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        let mut processes = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(processes.entry(key).or_default());
    }
}

async fn register(client: &Client) -> Result<()> {
    let resources =
        json!({"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"});
    let node = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": NAME, "labels": {
            "kubernetes.io/hostname": NAME, "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": "zone-1",
        }},
        "status": {
            "capacity": resources, "allocatable": resources,
            "addresses": [{"type": "InternalIP", "address": network::NODE.to_string()}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "NodeAgent", "message": ""}],
        },
    });
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(client.clone());
    let parameters = PostParams::default();
    nodes
        .create(&parameters, &serde_json::from_value(node)?)
        .await?;
    // the apiserver taints every new Node as not ready, which keeps DaemonSets away until a controller lifts it
    let untainted = Patch::Merge(json!({"spec": {"taints": null}}));
    nodes
        .patch(NAME, &PatchParams::default(), &untainted)
        .await?;
    Ok(())
}

/// Gives each Pod to a task of its own. Ends never.
async fn run(shared: Arc<Shared>) {
    let mut changes = shared.cluster.pods.changes();
    // whether a Pod is gone, and the task that runs it
    let mut running: BTreeMap<String, (watch::Sender<bool>, AbortHandle)> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    while changes.changed().await.is_ok() {
        let pods: BTreeMap<String, Arc<Pod>> = shared
            .cluster
            .pods
            .all()
            .into_iter()
            .filter_map(|pod| Some((pod.uid()?, pod)))
            .collect();
        running.retain(|uid, (gone, task)| {
            gone.send_replace(!pods.contains_key(uid));
            !task.is_finished()
        });
        for (uid, pod) in pods {
            if running.contains_key(&uid) || pod::is_over(&pod) {
                continue;
            }
            if is_bound(&pod) {
                let gone = watch::Sender::new(false);
                let task = tasks.spawn(pod::run(shared.clone(), pod, gone.subscribe()));
                running.insert(uid, (gone, task));
            } else {
                // a failure is repeated with the next change of any Pod
                let _ = bind(&shared.cluster.client, &pod).await;
            }
        }
        while tasks.try_join_next().is_some() {}
    }
}

fn is_bound(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.is_some_and(|node| !node.is_empty())
}

/// Assigns a Pod to the Node, as a scheduler does.
async fn bind(client: &Client, pod: &Pod) -> Result<()> {
    let name = pod.name_any();
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": name, "uid": pod.uid()},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NAME},
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let _: Value = pods
        .create_subresource("binding", &name, &PostParams::default(), &binding)
        .await?;
    Ok(())
}
