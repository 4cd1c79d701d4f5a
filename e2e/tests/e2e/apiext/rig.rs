//! A cluster with old API versions, and replicas of the conversion webhook behind their Service.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use nuncio_e2e::{
    client::{get, open_tls},
    control_plane::{ControlPlane, NAMESPACE, page},
    gateway::metric,
    process::Process,
    wait::until,
    workspace::{nuncio, root},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

/// The Service of the webhook.
pub(super) const SERVICE: &str = "nuncio-apiext";
/// The Secret of its certificate authority.
pub(super) const SECRET: &str = "emissary-ingress-webhook-ca";
/// The name in the certificates of replicas.
pub(super) const SERVER_NAME: &str = "nuncio-apiext.nuncio-system.svc";
/// Kinds with several versions.
pub(super) const KINDS: usize = 13;
/// How often the readiness of replicas is looked at.
const PROBE: Duration = Duration::from_millis(100);
/// How manifests are applied.
pub(super) const APPLY: [&str; 3] = ["apply", "--server-side", "--force-conflicts"];
/// Most replicas.
const REPLICAS: u8 = 3;

/// Which version is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    V2,
    V3Alpha1,
}

/// The cluster and the replicas.
pub(super) struct Rig {
    pub(super) plane: ControlPlane,
    pub(super) client: Client,
    pub(super) replicas: BTreeMap<u8, Process>,
    _tasks: JoinSet<()>,
    folder: tempfile::TempDir,
}

impl Rig {
    /// Starts a cluster that stores this version, and replicas that are ready.
    pub(super) async fn start(stored: Stored, replicas: u8) -> Result<Self> {
        let mut rig = Self::without_replicas(stored).await?;
        for number in 1..=replicas {
            rig.launch(number, &[])?;
        }
        for number in 1..=replicas {
            rig.ready(number).await?;
        }
        rig.serves().await?;
        Ok(rig)
    }

    /// Starts a cluster that stores this version, whose webhook nobody serves.
    pub(super) async fn without_replicas(stored: Stored) -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let folder = tempfile::tempdir()?;
        let definitions = definitions(folder.path(), stored)?;
        plane.kubectl(&[&APPLY[..], &["-k", &definitions]].concat(), "")?;
        let component = root().join("kustomize/components/apiext");
        for file in ["rbac.yaml", "webhook.yaml"] {
            let path = component.join(file).display().to_string();
            plane.kubectl(&[&APPLY[..], &["-f", &path]].concat(), "")?;
        }
        plane.account_kubeconfig(SERVICE)?;
        let client = plane.client().await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_readiness(client.clone()));
        Ok(Self {
            plane,
            client,
            replicas: BTreeMap::new(),
            _tasks: tasks,
            folder,
        })
    }

    /// Changes which version is stored.
    pub(super) fn store(&self, stored: Stored) -> Result<()> {
        let definitions = definitions(self.folder.path(), stored)?;
        let apply = [&APPLY[..], &["-k", &definitions]].concat();
        self.plane.kubectl(&apply, "").map(drop)
    }

    /// Starts a replica, or starts it again.
    pub(super) fn launch(&mut self, number: u8, environment: &[(&str, &str)]) -> Result<()> {
        self.replicas.remove(&number);
        let kubeconfig = self.plane.account_kubeconfig(SERVICE)?;
        let kubeconfig = kubeconfig.display().to_string();
        let name = format!("nuncio-apiext-{number}");
        let mut all = vec![
            ("KUBECONFIG", &*kubeconfig),
            ("POD_NAMESPACE", NAMESPACE),
            ("POD_NAME", &name),
            ("RUST_LOG", "info,nuncio::apiext=debug"),
        ];
        all.extend(environment);
        let arguments = [
            "apiext",
            SERVICE,
            "--address",
            &address(number),
            "--health-address",
            &health(number),
        ];
        let process = Process::start(&name, &nuncio()?, arguments, &all)?;
        self.replicas.insert(number, process);
        Ok(())
    }

    /// Kills a replica.
    pub(super) fn kill(&mut self, number: u8) {
        // as SIGKILL does; the process is waited for
        self.replicas.remove(&number);
    }

    /// Waits until a replica is ready.
    pub(super) async fn ready(&mut self, number: u8) -> Result<()> {
        until(&format!("replica {number}"), || async {
            page(&health(number), "/probes/ready").await.map(drop)
        })
        .await
    }

    /// Waits until the apiserver converts.
    pub(super) async fn serves(&self) -> Result<()> {
        until("the first conversion", || async {
            for version in ["v2", "v3alpha1"] {
                let list = Default::default();
                self.mappings(version).list(&list).await?;
            }
            self.plane
                .kubectl(&["get", "mappings.v2.getambassador.io"], "")?;
            let probe = mapping("v2", "probe", "prefix: /, service: s");
            self.plane.apply("default", &probe)?;
            let read = self.mappings("v3alpha1").get("probe").await?;
            ensure!(read.data["spec"]["hostname"] == "*", "{:?}", read.data);
            Ok(())
        })
        .await
    }

    /// Mappings of the namespace `default` in this version.
    pub(super) fn mappings(&self, version: &str) -> Api<DynamicObject> {
        mappings(&self.client, version)
    }

    /// The definition of Mappings.
    pub(super) fn definition(&self) -> Result<Value> {
        let get = ["get", "crd", "mappings.getambassador.io", "-o", "json"];
        Ok(serde_json::from_str(&self.plane.kubectl(&get, "")?)?)
    }

    /// The keys of the Secret.
    pub(super) fn secret(&self) -> Result<BTreeMap<String, String>> {
        let get = ["get", "secret", SECRET, "-n", NAMESPACE, "-o", "json"];
        let secret: k8s_openapi::api::core::v1::Secret =
            serde_json::from_str(&self.plane.kubectl(&get, "")?)?;
        let data = secret.data.unwrap_or_default().into_iter();
        data.map(|(key, value)| Ok((key, String::from_utf8(value.0)?)))
            .collect()
    }

    /// Waits until each replica serves a certificate of this authority.
    pub(super) async fn is_served_by(&self, authority: &str) -> Result<()> {
        let root = CertificateDer::from_pem_slice(authority.as_bytes())?;
        for number in self.replicas.keys() {
            let address = address(*number);
            until(
                &format!("replica {number} with another authority"),
                || async { open_tls(&address, SERVER_NAME, &root).await.map(drop) },
            )
            .await?;
        }
        Ok(())
    }

    /// A metric of a replica.
    pub(super) async fn metric(&self, number: u8, name: &str) -> Result<f64> {
        metric(&health(number), name).await
    }

    /// What a replica answers to its readiness probe, whatever the status.
    pub(super) async fn readiness(&self, number: u8) -> Result<(u16, String)> {
        let answer = get(&health(number), "localhost", "/probes/ready").await?;
        Ok((answer.status, answer.body))
    }

    /// The log of a replica.
    pub(super) fn log(&self, number: u8) -> Result<String> {
        let process = self.replicas.get(&number).context("no such replica")?;
        Ok(fs::read_to_string(&process.log)?)
    }

    /// The replica that leads.
    pub(super) async fn leader(&self) -> Result<u8> {
        until("a leader", || async {
            for number in self.replicas.keys() {
                if self.metric(*number, "nuncio_apiext_leader").await? > 0.5 {
                    return Ok(*number);
                }
            }
            bail!("no replica leads")
        })
        .await
    }
}

/// Where a replica serves the webhook.
pub(super) fn address(number: u8) -> String {
    format!("10.244.9.{number}:8443")
}

/// Where a replica serves probes and metrics.
pub(super) fn health(number: u8) -> String {
    format!("10.244.9.{number}:8080")
}

/// Mappings of the namespace `default` in this version.
pub(super) fn mappings(client: &Client, version: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("getambassador.io", version, "Mapping");
    let resource = ApiResource::from_gvk_with_plural(&kind, "mappings");
    Api::namespaced_with(client.clone(), "default", &resource)
}

/// A Mapping as YAML.
pub(super) fn mapping(version: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: getambassador.io/{version}\nkind: Mapping\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n"
    )
}

/// Writes a kustomization of the definitions that store this version, and returns its path.
fn definitions(folder: &Path, stored: Stored) -> Result<String> {
    let mut components = vec![
        "config/crd/components/served-v2",
        "config/crd/components/served-v1",
    ];
    if stored == Stored::V2 {
        components.push("config/crd/components/stored-v2");
    }
    kustomization(folder, "config/crd", &components)
}

/// Writes a kustomization of folders of the checkout, and returns its path.
pub(super) fn kustomization(folder: &Path, resource: &str, components: &[&str]) -> Result<String> {
    // kustomize takes no absolute paths
    let up: PathBuf = folder.components().skip(1).map(|_| "..").collect();
    let relative =
        |path: &str| -> Result<PathBuf> { Ok(up.join(root().join(path).strip_prefix("/")?)) };
    let components = components.iter().map(|path| relative(path));
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [relative(resource)?],
        "components": components.collect::<Result<Vec<_>>>()?,
    });
    fs::write(folder.join("kustomization.yaml"), kustomization.to_string())?;
    Ok(folder.display().to_string())
}

/// Keeps the endpoints of the Service those of the replicas that are ready, as kubelet and controllers do.
async fn follow_readiness(client: Client) {
    let slices: Api<EndpointSlice> = Api::namespaced(client, NAMESPACE);
    let mut known = None;
    loop {
        let mut ready = Vec::new();
        for number in 1..=REPLICAS {
            if page(&health(number), "/probes/ready").await.is_ok() {
                ready.push(number);
            }
        }
        if known.as_ref() != Some(&ready) {
            let endpoints: Vec<Value> = ready
                .iter()
                .map(|number| {
                    json!({"addresses": [format!("10.244.9.{number}")], "conditions": {"ready": true}})
                })
                .collect();
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": SERVICE, "labels": {"kubernetes.io/service-name": SERVICE}},
                "addressType": "IPv4",
                "ports": [{"name": "https", "port": 8443}],
                "endpoints": endpoints,
            });
            let parameters = PatchParams::apply("test").force();
            let patched = slices
                .patch(SERVICE, &parameters, &Patch::Apply(slice))
                .await;
            if patched.is_ok() {
                known = Some(ready);
            }
        }
        sleep(PROBE).await;
    }
}
