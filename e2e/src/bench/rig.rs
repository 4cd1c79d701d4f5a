//! What is measured: an apiserver, the operator, an Envoy with two workers, and two backends.

use anyhow::Result;
use kube::Client;

use crate::{
    backend::Backend,
    control_plane::ControlPlane,
    gateway::{Envoy, Replica},
    instance::Instance,
};

/// Listeners for clear text and TLS, and the Services `one` and `two`.
const MANIFESTS: &str = "\
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: http, namespace: default}
spec: {port: 8080, protocol: HTTP, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
---
apiVersion: getambassador.io/v3alpha1
kind: Listener
metadata: {name: https, namespace: default}
spec: {port: 8443, protocol: HTTPS, securityModel: XFP, hostBinding: {namespace: {from: ALL}}}
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

/// Where Envoy serves clear text.
pub(super) const HTTP: &str = "127.0.0.1:8080";
/// Where Envoy serves TLS.
pub(super) const HTTPS: &str = "127.0.0.1:8443";

/// All that runs.
pub(super) struct Rig {
    /// A client of the apiserver.
    pub(super) client: Client,
    /// The operator.
    pub(super) replica: Replica,
    /// The Envoy.
    pub(super) envoy: Envoy,
    _backends: [Backend; 2],
    _plane: ControlPlane,
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
            _plane: plane,
        })
    }
}
