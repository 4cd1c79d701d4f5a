//! What a test has to itself: a namespace, and a gateway that serves it, which it may share with other tests.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use nuncio_e2e::{
    client::get,
    control_plane::ControlPlane,
    gateway::{Envoy, Replica},
    instance::Instance,
    wait::until,
};
use serde_json::{Value, json};

use crate::{answer::CONNECTIONS, fixture::LISTENERS};

/// How many instances have been started besides the shared one.
static NUMBER: AtomicU8 = AtomicU8::new(0);

/// A replica of Nuncio and an Envoy.
pub(crate) struct Gateway {
    /// Their instance.
    pub(crate) instance: Instance,
    /// The replica.
    pub(crate) replica: Replica,
    /// The Envoy.
    pub(crate) envoy: Envoy,
}

impl Gateway {
    /// Starts one, and waits until it serves and writes status.
    pub(crate) async fn start(plane: &ControlPlane, instance: Instance) -> Result<Self> {
        let replica = Replica::start(plane, &instance, 0).await?;
        let envoy = Envoy::start(
            &instance.name("envoy", 0),
            &instance.xds(0),
            &instance.admin(0),
            "delta",
        )?;
        envoy.ready().await?;
        until("the Lease", || async {
            let leads = replica.metric("nuncio_leader").await?;
            ensure!((leads - 1.0).abs() < 0.1, "no replica leads");
            Ok(())
        })
        .await?;
        Ok(Self {
            instance,
            replica,
            envoy,
        })
    }
}

/// What a test has to itself.
pub(crate) struct Space {
    /// Its namespace.
    pub(crate) namespace: String,
    /// The cluster.
    pub(crate) plane: Arc<ControlPlane>,
    /// What serves the namespace.
    pub(crate) gateway: Arc<Gateway>,
}

impl Space {
    /// A namespace that the shared gateway serves.
    pub(crate) fn shared(
        namespace: String,
        plane: Arc<ControlPlane>,
        gateway: Arc<Gateway>,
    ) -> Result<Self> {
        create(&plane, &namespace)?;
        Ok(Self {
            namespace,
            plane,
            gateway,
        })
    }

    /// A namespace with a gateway of its own: an instance whose ID is the name of the namespace.
    pub(crate) async fn own(namespace: String, plane: Arc<ControlPlane>) -> Result<Self> {
        create(&plane, &namespace)?;
        let gateway = Gateway::start(&plane, instance(&namespace)).await?;
        let space = Self {
            namespace,
            plane,
            gateway: gateway.into(),
        };
        space.apply(LISTENERS)?;
        Ok(space)
    }

    /// The gateway, for a test to which it belongs.
    pub(crate) fn own_gateway(&mut self) -> Result<&mut Gateway> {
        Arc::get_mut(&mut self.gateway).context("the gateway is shared")
    }

    /// Starts the replica of the gateway again, for a test to which it belongs.
    pub(crate) async fn restart_replica(&mut self) -> Result<()> {
        let instance = self.gateway.instance.clone();
        let plane = self.plane.clone();
        self.own_gateway()?.replica = Replica::start(&plane, &instance, 0).await?;
        Ok(())
    }

    /// The cluster, for a test to which it belongs.
    pub(crate) fn own_plane(&mut self) -> Result<&mut ControlPlane> {
        Arc::get_mut(&mut self.plane).context("the cluster is shared")
    }

    /// Where Envoy listens without TLS.
    pub(crate) fn http(&self) -> String {
        self.gateway.instance.port(8080)
    }

    /// Where Envoy listens with TLS.
    pub(crate) fn https(&self) -> String {
        self.gateway.instance.port(8443)
    }

    /// `kubectl apply` of these manifests, in the namespace, for the instance that serves it.
    pub(crate) fn apply(&self, manifests: &str) -> Result<()> {
        let id = &self.gateway.instance.id;
        let manifests = match &**id {
            "default" => Cow::from(manifests),
            _ => with_id(manifests, id)?.into(),
        };
        self.plane.apply(&self.namespace, &manifests)
    }

    /// `kubectl delete` of one object of the namespace.
    pub(crate) fn delete(&self, object: &str) -> Result<()> {
        self.plane.delete(&self.namespace, object)
    }

    /// A field of an object of the namespace, by JSONPath.
    pub(crate) fn field(&self, object: &str, path: &str) -> Result<String> {
        self.plane.field(&self.namespace, object, path)
    }

    /// Waits until a path is answered with this status and a body that begins so, whichever worker of Envoy answers.
    pub(crate) async fn answers(
        &self,
        hostname: &str,
        path: &str,
        status: u16,
        body: &str,
    ) -> Result<()> {
        let address = self.http();
        until(path, || async {
            let answers = (0..CONNECTIONS).map(|_| get(&address, hostname, path));
            for answer in try_join_all(answers).await? {
                ensure!(
                    answer.status == status && answer.body.starts_with(body),
                    "{} {:?}",
                    answer.status,
                    answer.body
                );
            }
            Ok(())
        })
        .await
    }
}

/// An instance with an address of its own.
pub(crate) fn instance(id: &str) -> Instance {
    Instance::new(id, NUMBER.fetch_add(1, Ordering::Relaxed) + 1)
}

fn create(plane: &ControlPlane, namespace: &str) -> Result<()> {
    // fails if another test has it
    plane
        .kubectl(&["create", "namespace", namespace], "")
        .map(drop)
}

/// Manifests whose objects of our kinds are for this instance.
pub(crate) fn with_id(manifests: &str, id: &str) -> Result<String> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(manifests)?;
    for object in &mut objects {
        let version = object["apiVersion"].as_str().unwrap_or_default();
        if version.starts_with("getambassador.io/") {
            object["spec"]["ambassador_id"] = json!([id]);
        }
    }
    let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
    Ok(documents.join("\n---\n"))
}
