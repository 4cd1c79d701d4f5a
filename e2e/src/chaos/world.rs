//! What is disturbed: an apiserver with etcd, two replicas with an Envoy each, backends, and requests to one Host.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    change::{self, CERTIFICATES, Change, Kind},
    fault::Fault,
    side::Side,
};
use crate::{
    backend::Backend,
    certificate::{Authority, Certificate},
    client::{Load, get, get_tls, tls_config},
    control_plane::{ControlPlane, ETCD, NAMESPACE},
    relay::Relay,
    wait::until,
};

/// The Host whose requests are counted, and what it needs.
const STEADY: &str = "\
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: steady}
spec: {hostname: steady.example, tlsSecret: {name: steady}, requestPolicy: {insecure: {action: Route}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: steady}
spec: {hostname: steady.example, prefix: /steady/, service: steady}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: pods}
spec: {hostname: steady.example, prefix: /pods/, service: pods, resolver: endpoint}
---
apiVersion: v1
kind: Service
metadata: {name: steady}
spec: {clusterIP: 10.96.8.1, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: v1
kind: Service
metadata: {name: pods}
spec: {clusterIP: 10.96.8.2, ports: [{name: http, port: 80, targetPort: 8000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: pods-1, labels: {kubernetes.io/service-name: pods}}
addressType: IPv4
ports: [{name: http, port: 8000}]
endpoints: [{addresses: [10.244.8.1]}]
---
";
const HOST: &str = "steady.example";
/// Where the steady objects are, apart from those that change.
const STEADY_NAMESPACE: &str = "default";

/// Longest wait for the apiserver to answer a change.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) struct World {
    pub(super) plane: ControlPlane,
    pub(super) client: Client,
    pub(super) sides: [Side; 2],
    etcd: Relay,
    authority: Authority,
    certificates: Vec<Certificate>,
    /// Programs that are killed at the moment.
    killed: BTreeSet<String>,
    _backends: Vec<Backend>,
}

impl World {
    pub(super) async fn start(seed: u64) -> Result<Self> {
        let etcd = Relay::start("127.0.0.1:2378", ETCD).await?;
        let plane = ControlPlane::start_with_etcd_at(etcd.address()).await?;
        let authority = Authority::new()?;
        let names: Vec<String> = (0..CERTIFICATES).map(|n| format!("o{n}.chaos")).collect();
        let certificates: Result<Vec<Certificate>> = names
            .iter()
            .map(|name| authority.issue(&[name, "*.chaos"]))
            .collect();
        let mut addresses = vec!["10.96.8.1:80".to_owned(), "10.244.8.1:8000".to_owned()];
        addresses.extend((1..5).map(|n| format!("10.96.9.{n}:80")));
        addresses.extend((1..9).map(|n| format!("10.244.9.{n}:8000")));
        let backends = addresses
            .iter()
            .map(|address| Backend::start(address, address));
        let backends = futures::future::try_join_all(backends).await?;
        let own = authority.issue(&[HOST])?;
        let steady = own.secret(STEADY_NAMESPACE, "steady") + STEADY;
        plane.apply(STEADY_NAMESPACE, &steady)?;
        plane.kubectl(&["create", "namespace", change::NAMESPACE], "")?;
        let world = Self {
            client: plane.client().await?,
            sides: [Side::start(&plane, 0).await?, Side::start(&plane, 1).await?],
            plane,
            etcd,
            authority,
            certificates: certificates?,
            killed: BTreeSet::new(),
            _backends: backends,
        };
        // enough objects to begin with
        let mut random = fastrand::Rng::with_seed(!seed);
        for _ in 0..60 {
            // some are invalid
            let _ = world.change(&Change::random(&mut random)).await;
        }
        world.is_served().await?;
        Ok(world)
    }

    /// Waits until the steady Host is served.
    pub(super) async fn is_served(&self) -> Result<()> {
        let (http, https) = (self.http(), self.https());
        until("the steady Host", || async {
            for path in ["/steady/", "/pods/"] {
                let answer = get(&http, HOST, path).await?;
                ensure!(answer.status == 200, "{path}: {}", answer.status);
                let answer = get_tls(&https, HOST, path, &self.authority.der()).await?;
                ensure!(answer.status == 200, "TLS, {path}: {}", answer.status);
            }
            Ok(())
        })
        .await
    }

    /// Makes all Secrets and the Module usable. While they are not, a replica serves what it remembers of them, and one that
    /// starts remembers nothing: what is served then is a matter of history, as it is meant to be.
    pub(super) async fn repair(&self) -> Result<()> {
        for change in Change::usable() {
            until("the apiserver", || async {
                self.change(&change)
                    .await
                    .with_context(|| change.to_string())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until the replicas are ready again, and the steady Host is served.
    pub(super) async fn recovers(&mut self) -> Result<()> {
        for side in &mut self.sides {
            side.replica.ready().await?;
        }
        self.is_served().await
    }

    fn http(&self) -> String {
        self.sides[0].instance.port(8080)
    }

    fn https(&self) -> String {
        self.sides[0].instance.port(8443)
    }

    /// Requests on connections that stay, and with a handshake and an endpoint for each.
    pub(super) fn traffic(&self) -> Result<Vec<Load>> {
        let config = || tls_config(&self.authority.der(), None);
        let (http, https) = (self.http(), self.https());
        Ok(vec![
            Load::start(&http, HOST, "/steady/"),
            Load::start_connections(&http, HOST, "/pods/"),
            Load::start_tls(&https, HOST, "/steady/", config()?),
            Load::start_handshakes(&https, HOST, "/pods/", config()?),
        ])
    }

    /// Makes a change.
    ///
    /// # Errors
    /// The apiserver does not accept it, or does not answer.
    pub(super) async fn change(&self, change: &Change) -> Result<()> {
        let resource = change.kind.resource();
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), change::NAMESPACE, &resource);
        let Some(content) = &change.content else {
            let parameters = DeleteParams::default();
            let delete = api.delete(&change.name, &parameters);
            timeout(PATIENCE, delete).await??;
            return Ok(());
        };
        let mut object = match change.kind {
            Kind::Secret => self.secret(content),
            _ => content.clone(),
        };
        object["apiVersion"] = json!(resource.api_version);
        object["kind"] = json!(resource.kind);
        let labels = object.as_object_mut().and_then(|all| all.remove("labels"));
        object["metadata"] = json!({"name": change.name, "labels": labels.unwrap_or(json!({}))});
        let parameters = PatchParams::apply("chaos").force();
        let patch = Patch::Apply(&object);
        let patch = api.patch(&change.name, &parameters, &patch);
        timeout(PATIENCE, patch).await??;
        Ok(())
    }

    fn secret(&self, content: &Value) -> Value {
        let certificate = |number: &Value| {
            let number = usize::try_from(number.as_u64()?).ok()?;
            self.certificates.get(number)
        };
        let chain = certificate(&content["certificate"]).map_or("garbage", |own| &own.chain);
        let key = certificate(&content["key"]).map_or("garbage", |own| &own.key);
        json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": chain, "tls.key": key}})
    }

    pub(super) async fn begin(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::ReplicaKilled(side) => {
                self.killed.insert(format!("replica {side}"));
                self.sides[side].replica.process.kill();
            }
            Fault::ReplicaStopped(side) => self.sides[side].replica.process.signal(Signal::STOP),
            Fault::EnvoyKilled => {
                self.killed.insert("Envoy 1".to_owned());
                self.sides[1].envoy.process.kill();
            }
            Fault::EnvoyStopped => self.sides[1].envoy.process.signal(Signal::STOP),
            Fault::EnvoyCut(side) => self.sides[side].xds.partition(),
            Fault::EnvoyHalfOpen(side) => self.sides[side].xds.freeze(),
            Fault::WatchesCut(side) => self.sides[side].network.partition(),
            Fault::WatchesHalfOpen(side) => self.sides[side].network.freeze(),
            Fault::WatchesClosed(side) => self.sides[side].network.close(),
            Fault::Answered(side, answers) => self.sides[side].proxy.begin(answers),
            Fault::ApiserverKilled => self.plane.apiserver().kill(),
            Fault::ApiserverStopped => self.plane.apiserver().signal(Signal::STOP),
            Fault::EtcdKilled => self.plane.etcd().kill(),
            Fault::EtcdStopped => self.plane.etcd().signal(Signal::STOP),
            Fault::EtcdCut => self.etcd.partition(),
            Fault::LeaseDeleted => {
                let lease = nuncio::leader::lease_name(&self.sides[0].instance.id);
                let resource =
                    kube::api::ApiResource::erase::<k8s_openapi::api::coordination::v1::Lease>(&());
                let api: Api<DynamicObject> =
                    Api::namespaced_with(self.client.clone(), NAMESPACE, &resource);
                // there may be none, or no apiserver
                let _ = timeout(PATIENCE, api.delete(&lease, &DeleteParams::default())).await;
            }
        }
        Ok(())
    }

    pub(super) async fn end(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::ReplicaKilled(side) => {
                self.killed.remove(&format!("replica {side}"));
                self.sides[side].restart_replica()?;
            }
            Fault::ReplicaStopped(side) => self.sides[side].replica.process.signal(Signal::CONT),
            Fault::EnvoyKilled => {
                self.killed.remove("Envoy 1");
                self.sides[1].envoy.restart()?;
            }
            Fault::EnvoyStopped => self.sides[1].envoy.process.signal(Signal::CONT),
            Fault::EnvoyCut(side) => self.sides[side].xds.heal(),
            Fault::WatchesCut(side) => self.sides[side].network.heal(),
            Fault::Answered(side, _) => self.sides[side].proxy.end(),
            Fault::ApiserverKilled => self.plane.restart_apiserver().await?,
            Fault::ApiserverStopped => self.plane.apiserver().signal(Signal::CONT),
            Fault::EtcdKilled => self.plane.restart_etcd()?,
            Fault::EtcdStopped => self.plane.etcd().signal(Signal::CONT),
            Fault::EtcdCut => self.etcd.heal(),
            Fault::EnvoyHalfOpen(_)
            | Fault::WatchesHalfOpen(_)
            | Fault::WatchesClosed(_)
            | Fault::LeaseDeleted => {}
        }
        Ok(())
    }

    /// Replicas and Envoys that have ended and were not killed.
    pub(super) fn ended(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for side in &mut self.sides {
            let number = side.number;
            for (name, process) in [
                (format!("replica {number}"), &mut side.replica.process),
                (format!("Envoy {number}"), &mut side.envoy.process),
            ] {
                if !self.killed.contains(&name) && !process.is_running() {
                    let log = process.log.display();
                    ended.push(format!("{name} has ended by itself; see {log}"));
                }
            }
        }
        ended
    }
}
