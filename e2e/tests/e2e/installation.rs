//! Nuncio installed by `kubectl apply -k` in a cluster whose Pods run.

use std::{fs::File, io::Write as _, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    certificate::Authority,
    client::{get, tls_config},
    control_plane::ControlPlane,
    gateway::metric,
    node::{
        Node,
        image::{Image, Images},
    },
    traffic::{Target, Traffic, backend::TrafficBackend},
    wait::until,
    workspace::{logs, nuncio, tool},
};

/// Namespace of the installation.
pub(crate) const NUNCIO: &str = "nuncio-system";
/// Namespace of the routes of traffic.
pub(crate) const TRAFFIC: &str = "traffic";
/// Host name of traffic.
pub(crate) const HOST: &str = "traffic.example";
/// The backend of traffic, on all addresses of the node.
pub(crate) const BACKEND: &str = "0.0.0.0:9000";

/// A Service for the backend, and the route to it, which the first certificate completes.
pub(crate) const ROUTE: &str = "
apiVersion: v1
kind: Service
metadata: {name: backend}
spec: {ports: [{name: http, port: 80, targetPort: 9000}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-1, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{name: http, port: 9000}]
endpoints: [{addresses: [10.244.0.1]}]
---
apiVersion: getambassador.io/v3alpha1
kind: Host
metadata: {name: traffic}
spec:
  hostname: traffic.example
  tlsSecret: {name: traffic}
  tls: {alpn_protocols: 'h2,http/1.1'}
  requestPolicy: {insecure: {action: Route}}
---
apiVersion: getambassador.io/v3alpha1
kind: Mapping
metadata: {name: traffic}
spec: {hostname: traffic.example, prefix: /traffic/, service: backend, allow_upgrade: [websocket], timeout_ms: 30000, idle_timeout_ms: 30000}
---
";

/// An installation, a backend, and the route to it.
pub(crate) struct Installation {
    /// The cluster.
    pub(crate) plane: ControlPlane,
    /// Its node.
    pub(crate) node: Node,
    /// The backend of traffic.
    pub(crate) backend: TrafficBackend,
    /// Where traffic goes.
    pub(crate) target: Target,
    /// The authority of the certificates of traffic.
    pub(crate) authority: Authority,
    _images: tempfile::TempDir,
}

impl Installation {
    /// Starts an empty cluster, applies an overlay and a route, and waits until traffic flows.
    pub(crate) async fn start(overlay: &str) -> Result<Self> {
        Self::start_by(|plane| apply_overlay(plane, overlay)).await
    }

    /// The same, with another way to install.
    pub(crate) async fn start_by(install: impl Fn(&ControlPlane) -> Result<()>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let images = images(folder.path())?;
        let plane = ControlPlane::start_empty().await?;
        let node = Node::start(&plane, images).await?;
        let backend = TrafficBackend::start(BACKEND).await?;
        let authority = Authority::new()?;
        install(&plane)?;
        plane.kubectl(&["create", "namespace", TRAFFIC], "")?;
        let secret = authority.issue(&[HOST])?.secret(TRAFFIC, "traffic");
        let route = format!("{ROUTE}{secret}");
        until("the kinds", || async { plane.apply(TRAFFIC, &route) }).await?;
        let address = balancer(&plane).await?;
        let target = Target {
            host: HOST.to_owned(),
            http: format!("{address}:80"),
            https: Some((
                format!("{address}:443"),
                tls_config(&authority.der(), None)?,
            )),
        };
        let installation = Self {
            plane,
            node,
            backend,
            target,
            authority,
            _images: folder,
        };
        installation.serves().await?;
        Ok(installation)
    }

    /// Waits until traffic flows, on all lanes.
    async fn serves(&self) -> Result<()> {
        until("the first answer", || async {
            let answer = get(&self.target.http, HOST, "/traffic/first").await?;
            ensure!(answer.status == 200, "status {}", answer.status);
            Ok(())
        })
        .await?;
        until("traffic of every sort", || async {
            let traffic = Traffic::start(&self.target);
            tokio::time::timeout(Duration::from_secs(10), traffic.proceeds(false)).await?;
            traffic.finish().await?.complete()
        })
        .await
    }

    /// `kubectl` in the namespace of the installation.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let arguments = [&["-n", NUNCIO], arguments].concat();
        self.plane.kubectl(&arguments, "")
    }

    /// Waits until a Deployment has this number of replicas, and no others.
    pub(crate) async fn has_replicas(&self, deployment: &str, replicas: usize) -> Result<()> {
        let selector = format!("app.kubernetes.io/name={deployment}");
        until(&format!("{replicas} replicas of {deployment}"), || async {
            let path = "{range .items[*]}{.status.conditions[?(@.type=='Ready')].status} {end}";
            let output = format!("jsonpath={path}");
            let pods = self.kubectl(&["get", "pods", "-l", &selector, "-o", &output])?;
            let ready: Vec<&str> = pods.split_whitespace().collect();
            ensure!(
                ready.len() == replicas && ready.iter().all(|ready| *ready == "True"),
                "{pods}"
            );
            Ok(())
        })
        .await
    }

    /// A metric of an Envoy pod.
    pub(crate) async fn metric(&self, pod: &str, name: &str) -> Result<f64> {
        metric(&self.address(pod, 8006)?, name).await
    }

    /// A port of a Pod.
    pub(crate) fn address(&self, pod: &str, port: u16) -> Result<String> {
        let path = "{.status.podIP}";
        let address = self.plane.field(NUNCIO, &format!("pod/{pod}"), path)?;
        Ok(format!("{address}:{port}"))
    }

    /// Statistics of the Envoys that explain a loss.
    pub(crate) async fn statistics(&self) -> Result<String> {
        const WORDS: [&str; 7] = [
            "no_cluster",
            "no_route",
            "_rejected",
            "none_healthy",
            "direct_response",
            "connect_fail",
            "downstream_rq_5xx",
        ];
        let mut text = String::new();
        for pod in self.pods("nuncio-envoy")? {
            let address = self.address(&pod, 8006)?;
            let page = get(&address, "localhost", "/metrics?usedonly").await?;
            let lines = page.body.lines().filter(|line| {
                let is_one = WORDS.iter().any(|word| line.contains(word));
                is_one && !line.starts_with('#') && !line.ends_with(" 0")
            });
            for line in lines {
                text.push_str(&format!("{pod}: {line}\n"));
            }
        }
        Ok(text)
    }

    /// Names of the Pods of a Deployment.
    pub(crate) fn pods(&self, deployment: &str) -> Result<Vec<String>> {
        let selector = format!("app.kubernetes.io/name={deployment}");
        let names = self.kubectl(&["get", "pods", "-l", &selector, "-o", "name"])?;
        let names = names.lines().filter_map(|name| name.strip_prefix("pod/"));
        Ok(names.map(str::to_owned).collect())
    }
}

/// `kubectl apply -k` of an overlay.
pub(crate) fn apply_overlay(plane: &ControlPlane, overlay: &str) -> Result<()> {
    let path = format!("kustomize/overlays/{overlay}");
    plane.kubectl(&["apply", "-k", &path], "").map(drop)
}

/// The address that the load balancer has given the Envoys.
pub(crate) async fn balancer(plane: &ControlPlane) -> Result<String> {
    until("the load balancer", || async {
        let path = "{.status.loadBalancer.ingress[0].ip}";
        let address = plane.field(NUNCIO, "service/nuncio-envoy", path)?;
        ensure!(!address.is_empty(), "no address");
        Ok(address)
    })
    .await
}

/// The image of Envoy pods with the minor version of Envoy before this one.
pub(crate) const OLDER_ENVOY: &str = "nuncio-envoy:older";

/// The image of Envoy pods in which libfaketime moves the clock of `nuncio envoy` and not that of Envoy.
pub(crate) const OWN_CLOCK: &str = "nuncio-envoy:own-clock";

/// The images of the project, with what is built here.
pub(crate) fn images(folder: &Path) -> Result<Images> {
    let nuncio = nuncio()?;
    let mut images = Images::default();
    // a colon separates the layers of an overlay
    let root = |name: &str| folder.join(name.replace(':', "-"));
    for (name, role, envoy) in [
        ("nuncio", "nuncio", "envoy"),
        ("nuncio-envoy", "nuncio-envoy", "envoy"),
        (OLDER_ENVOY, "nuncio-envoy", "older-envoy"),
    ] {
        let image = Image::assemble(role, &root(name), &nuncio, &tool(envoy)?);
        let image = image.with_context(|| format!("image {name}"))?;
        if name == "nuncio-envoy" {
            let other = image.without_preload(&root(OWN_CLOCK))?;
            images = images.with(OWN_CLOCK, other);
        }
        images = images.with(name, image);
    }
    Ok(images)
}

/// Adds a line to the results of a run, `table.md` beside the logs.
pub(crate) fn record(line: &str) -> Result<()> {
    let path = logs()?.join("table.md");
    let mut file = File::options().create(true).append(true).open(path)?;
    Ok(writeln!(file, "{line}")?)
}
