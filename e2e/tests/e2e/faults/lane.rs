//! A gateway of its own under constant traffic, whose way to the apiserver and to its Envoy can be disturbed.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, bail, ensure};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use nuncio_e2e::{
    backend::Backend,
    certificate::{Authority, Certificate},
    client::{Load, get, get_tls, open_tls, tls_config},
    control_plane::{APISERVER, ControlPlane},
    fault_proxy::FaultProxy,
    gateway::{Envoy, Replica},
    instance::Instance,
    relay::Relay,
    wait::until,
};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    fixture::{LISTENERS, endpoints, mapping, service, tls_host},
    space::with_id,
};

/// Longest wait for the apiserver to answer one request of a test.
const PATIENCE: Duration = Duration::from_secs(2);

/// A change that traffic shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// `rewrite` of a Mapping.
    Route,
    /// The addresses of a Service.
    Endpoints,
    /// The certificate of a Host.
    Certificate,
    /// `rewrite` of a Mapping, seen in its status.
    Status,
}

/// A replica and an Envoy, and the network around them.
pub(crate) struct Lane {
    pub(crate) plane: Arc<ControlPlane>,
    pub(crate) namespace: String,
    pub(crate) instance: Instance,
    /// How the replica finds the apiserver: through the network and the proxy.
    pub(crate) kubeconfig: PathBuf,
    pub(crate) replica: Replica,
    pub(crate) envoy: Envoy,
    /// Between the replica and the proxy.
    pub(crate) network: Relay,
    /// Between the network and the apiserver.
    pub(crate) proxy: FaultProxy,
    /// Between the Envoy and the replica.
    pub(crate) xds: Relay,
    /// Between the apiserver and etcd, if that can be disturbed.
    pub(crate) etcd: Option<Relay>,
    /// Another replica, while a fault needs one.
    pub(crate) second: Option<Replica>,
    number: u8,
    client: Client,
    authority: Authority,
    _backends: Vec<Backend>,
    /// How many edits have been made.
    edits: u32,
    /// The address of the endpoint, of two.
    address: u8,
}

/// The traffic of a lane.
pub(crate) struct Traffic(Vec<Load>);

impl Traffic {
    /// Stops it; how many requests were sent, and why those that were lost were.
    pub(crate) async fn stop(self) -> Result<(u64, Vec<String>)> {
        let (mut requests, mut all) = (0, Vec::new());
        for load in self.0 {
            let (sent, lost) = load.stop().await?;
            ensure!(sent.requests > 5, "only {} requests", sent.requests);
            requests += sent.requests;
            all.extend(lost);
        }
        Ok((requests, all))
    }
}

impl Lane {
    /// Starts number `number` of a cluster.
    pub(crate) async fn start(plane: Arc<ControlPlane>, number: u8) -> Result<Self> {
        let namespace = format!("lane-{number}");
        let instance = Instance::new(&namespace, number);
        let network = Relay::start(&instance.port(6444), &instance.port(6445)).await?;
        let proxy = FaultProxy::start(&instance.port(6445), APISERVER).await?;
        let text = fs::read_to_string(plane.operator_kubeconfig())?;
        let kubeconfig = plane.operator_kubeconfig().with_extension(&namespace);
        fs::write(&kubeconfig, text.replace(APISERVER, network.address()))?;
        let backends = [
            format!("10.96.{number}.1:80"),
            format!("10.244.{number}.1:8000"),
            format!("10.244.{number}.2:8000"),
        ];
        let backends = backends
            .iter()
            .map(|address| Backend::start(address, address));
        let backends = futures::future::try_join_all(backends).await?;
        let authority = Authority::new()?;
        plane.kubectl(&["create", "namespace", &namespace], "")?;
        let replica = Replica::launch(&kubeconfig, &instance, 0)?;
        let xds = Relay::start(&instance.port(8004), &instance.xds(0)).await?;
        let envoy = Envoy::start(
            &instance.name("envoy", 0),
            xds.address(),
            &instance.admin(0),
            "delta",
        )?;
        let mut lane = Self {
            client: plane.client().await?,
            plane,
            namespace,
            instance,
            kubeconfig,
            replica,
            envoy,
            network,
            proxy,
            xds,
            etcd: None,
            second: None,
            number,
            authority,
            _backends: backends,
            edits: 0,
            address: 1,
        };
        lane.apply()?;
        lane.replica.ready().await?;
        lane.is_served().await?;
        Ok(lane)
    }

    /// The hostname whose requests are counted.
    pub(crate) fn hostname(&self) -> String {
        format!("{}.example", self.namespace)
    }

    fn http(&self) -> String {
        self.instance.port(8080)
    }

    fn https(&self) -> String {
        self.instance.port(8443)
    }

    fn certificate(&self) -> Result<Certificate> {
        self.authority.issue(&[&self.hostname()])
    }

    /// Applies the objects of the lane.
    pub(crate) fn apply(&self) -> Result<()> {
        let (host, number) = (self.hostname(), self.number);
        let insecure = ", requestPolicy: {insecure: {action: Route}}";
        let manifests = [
            LISTENERS.to_owned() + "---\n",
            self.certificate()?.secret(&self.namespace, "steady"),
            tls_host("steady", &host, insecure),
            service("steady", &format!("10.96.{number}.1")),
            mapping("steady", &host, "/steady/", "steady", ""),
            mapping("edited", &host, "/edited/", "steady", ""),
            service("pods", &format!("10.96.{number}.2")),
            endpoints("pods", &[&format!("10.244.{number}.1")]),
            mapping("pods", &host, "/pods/", "pods", ", resolver: endpoint"),
        ];
        self.apply_all(&manifests.concat())
    }

    /// Applies these manifests for the instance of the lane.
    pub(crate) fn apply_all(&self, manifests: &str) -> Result<()> {
        let manifests = with_id(manifests, &self.instance.id)?;
        self.plane.apply(&self.namespace, &manifests)
    }

    /// Waits until everything is served, to new connections and with TLS.
    pub(crate) async fn is_served(&self) -> Result<()> {
        until("all routes", || async {
            for path in ["/steady/", "/edited/", "/pods/"] {
                let answer = get(&self.http(), &self.hostname(), path).await?;
                ensure!(answer.status == 200, "{path}: {}", answer.status);
            }
            let (authority, host) = (self.authority.der(), self.hostname());
            let answer = get_tls(&self.https(), &host, "/pods/", &authority).await?;
            ensure!(answer.status == 200, "TLS: {}", answer.status);
            Ok(())
        })
        .await
    }

    /// Whether a route of another hostname is served.
    pub(crate) async fn answers(&self, hostname: &str, status: u16) -> Result<()> {
        until(hostname, || async {
            let answer = get(&self.http(), hostname, "/").await?;
            ensure!(answer.status == status, "status {}", answer.status);
            Ok(())
        })
        .await
    }

    /// Waits until a counted route is gone.
    pub(crate) async fn is_gone(&self) -> Result<()> {
        until("no route", || async {
            let answer = get(&self.http(), &self.hostname(), "/pods/").await?;
            ensure!(answer.status == 404, "status {}", answer.status);
            Ok(())
        })
        .await
    }

    /// Starts traffic: on a connection that stays, and with a handshake and an endpoint for each request.
    pub(crate) fn traffic(&self) -> Result<Traffic> {
        let config = tls_config(&self.authority.der(), None)?;
        let host = self.hostname();
        Ok(Traffic(vec![
            Load::start(&self.http(), &host, "/steady/"),
            Load::start_handshakes(&self.https(), &host, "/pods/", config),
        ]))
    }

    /// The admin interface of the Envoy.
    pub(crate) fn admin(&self) -> String {
        self.instance.admin(0)
    }

    /// Starts the replica again, and does not wait until it is ready.
    pub(crate) fn restart_replica(&mut self) -> Result<()> {
        self.replica.process.kill();
        self.replica = Replica::launch(&self.kubeconfig, &self.instance, 0)?;
        Ok(())
    }

    /// Makes a change at the apiserver, however often that takes.
    pub(crate) async fn edit(&mut self, edit: Edit) -> Result<Change> {
        self.edits += 1;
        let (number, edits) = (self.number, self.edits);
        let path = format!("/edit-{edits}/");
        let (kind, name, patch, change) = match edit {
            Edit::Route | Edit::Status => {
                let patch = json!({"spec": {"rewrite": path}});
                let change = if edit == Edit::Route {
                    Change::Path(path)
                } else {
                    Change::Generation
                };
                (mappings(), "edited", patch, change)
            }
            Edit::Endpoints => {
                self.address = 3 - self.address;
                let address = format!("10.244.{number}.{}", self.address);
                let patch = json!({"endpoints": [{"addresses": [address]}]});
                let kind =
                    ApiResource::erase::<k8s_openapi::api::discovery::v1::EndpointSlice>(&());
                (kind, "pods-1", patch, Change::Backend(address))
            }
            Edit::Certificate => {
                let own = self.certificate()?;
                let patch = json!({"stringData": {"tls.crt": own.chain, "tls.key": own.key}});
                let kind = ApiResource::erase::<k8s_openapi::api::core::v1::Secret>(&());
                (kind, "steady", patch, Change::Certificate(own))
            }
        };
        let api = self.api(&kind);
        until("an edit", || async {
            let parameters = PatchParams::default();
            let patch = Patch::Merge(&patch);
            timeout(PATIENCE, api.patch(name, &parameters, &patch)).await??;
            Ok(())
        })
        .await?;
        Ok(change)
    }

    fn api(&self, kind: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, kind)
    }

    /// Waits until a change is seen.
    pub(crate) async fn sees(&self, change: &Change) -> Result<()> {
        let (http, https, host) = (self.http(), self.https(), self.hostname());
        until("the edit", || async {
            match change {
                Change::Path(path) => body(&http, &host, "/edited/", path).await,
                Change::Backend(address) => body(&http, &host, "/pods/", address).await,
                Change::Certificate(own) => {
                    let connection = open_tls(&https, &host, &self.authority.der()).await?;
                    let is_it = connection.certificate() == Some(own.der()?);
                    ensure!(is_it, "another certificate is presented");
                    Ok(())
                }
                Change::Generation => {
                    let api = self.api(&mappings());
                    let object = timeout(PATIENCE, api.get("edited")).await??;
                    let observed = accepted_generation(&object.data);
                    let current = object.metadata.generation;
                    ensure!(observed == current, "{observed:?} of {current:?}");
                    Ok(())
                }
            }
        })
        .await
    }
}

/// A change that was made, and what shows it.
pub(crate) enum Change {
    /// The backend sees this path.
    Path(String),
    /// This backend answers.
    Backend(String),
    /// This certificate is presented.
    Certificate(Certificate),
    /// The status is that of the current generation.
    Generation,
}

fn mappings() -> ApiResource {
    ApiResource {
        group: "getambassador.io".to_owned(),
        version: "v3alpha1".to_owned(),
        api_version: "getambassador.io/v3alpha1".to_owned(),
        kind: "Mapping".to_owned(),
        plural: "mappings".to_owned(),
    }
}

fn accepted_generation(object: &Value) -> Option<i64> {
    let conditions = object["status"]["conditions"].as_array()?;
    let accepted = conditions
        .iter()
        .find(|found| found["type"] == "Accepted")?;
    accepted["observedGeneration"].as_i64()
}

async fn body(address: &str, host: &str, path: &str, text: &str) -> Result<()> {
    let answer = get(address, host, path).await?;
    if answer.status == 200 && answer.body.contains(text) {
        return Ok(());
    }
    bail!("{} {:?}", answer.status, answer.body)
}
