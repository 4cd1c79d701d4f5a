//! What is measured: an apiserver, the operator, an Envoy with two workers, and two backends.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::Client;
use tokio::time::sleep;

use crate::{
    backend::Backend,
    control_plane::ControlPlane,
    gateway::{Envoy, Replica},
    instance::Instance,
};

/// A Listener for clear text, and the Services `one` and `two`.
const MANIFESTS: &str = "\
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http, namespace: default}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: default}
spec: {clusterIP: 10.96.1.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: default}
spec: {clusterIP: 10.96.1.2, ports: [{port: 80}]}
---
";

/// A Listener for TLS. Hosts without TLS would be served there, too, in clear text.
pub(super) const TLS_LISTENER: &str = "\
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https, namespace: default}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
";

/// Where Envoy serves clear text.
pub(super) const HTTP: &str = "127.0.0.1:8080";
/// Where Envoy serves TLS.
pub(super) const HTTPS: &str = "127.0.0.1:8443";

/// Longest wait for a process that was started again.
const PATIENCE: Duration = Duration::from_secs(120);

/// All that runs.
pub(super) struct Rig {
    /// A client of the apiserver.
    pub(super) client: Client,
    /// The operator.
    pub(super) replica: Replica,
    /// The Envoy.
    pub(super) envoy: Envoy,
    _backends: [Backend; 2],
    instance: Instance,
    plane: ControlPlane,
}

impl Rig {
    /// Starts it with the Listeners, the Services, and these manifests.
    pub(super) async fn start(manifests: &str) -> Result<Self> {
        let instance = Instance::default();
        let plane = ControlPlane::start().await?;
        let backends = [
            Backend::start("10.96.1.1:80", "one").await?,
            Backend::start("10.96.1.2:80", "two").await?,
        ];
        plane.apply("default", &format!("{MANIFESTS}{manifests}"))?;
        let replica = Replica::start(&plane, &instance, 0).await?;
        let envoy = Envoy::start("bench-envoy", &instance.xds(0), &instance.admin(0), "delta")?;
        envoy.ready().await?;
        Ok(Self {
            client: plane.client().await?,
            replica,
            envoy,
            _backends: backends,
            instance,
            plane,
        })
    }

    /// Starts the operator again, and does not wait until it is ready.
    pub(super) fn launch_replica(&mut self) -> Result<()> {
        let kubeconfig = self.plane.operator_kubeconfig();
        self.replica = Replica::launch(&kubeconfig, &self.instance, 0)?;
        Ok(())
    }

    /// When the operator is ready, in seconds.
    pub(super) async fn replica_ready(&self, since: Instant) -> Result<f64> {
        seconds(since, || async { self.replica.readiness().await.is_ok() }).await
    }

    /// When Envoy is ready, in seconds.
    pub(super) async fn envoy_ready(&self, since: Instant) -> Result<f64> {
        seconds(since, || async { self.envoy.admin("/ready").await.is_ok() }).await
    }
}

/// When this becomes true, in seconds.
async fn seconds<F: Future<Output = bool>>(since: Instant, is: impl Fn() -> F) -> Result<f64> {
    while !is().await {
        ensure!(since.elapsed() < PATIENCE, "not ready");
        sleep(Duration::from_millis(5)).await;
    }
    Ok(since.elapsed().as_secs_f64())
}
