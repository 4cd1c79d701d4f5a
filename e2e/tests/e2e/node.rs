//! The node agent runs Pods as a cluster does. The tests of the installation rest on it.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    client::{Load, get},
    control_plane::ControlPlane,
    node::{
        Node,
        image::{Image, Images},
    },
    wait::until,
    workspace::{kat_server, logs},
};
use nuncio_kat::certificate::Authority;

/// The containers of a Deployment that answers on port 8080, and its Service.
const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 10
      automountServiceAccountToken: false
      containers:
        - name: web
          image: kat-server:test
          env: [{name: BACKEND, value: first}]
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {port: http}, periodSeconds: 1}
          lifecycle: {preStop: {sleep: {seconds: 3}}}
";

/// A Pod that prints what it sees, twice a second.
const PRINTER: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red}
---
apiVersion: v1
kind: Pod
metadata: {name: printer, labels: {app: printer}}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 4711, runAsGroup: 4712, fsGroup: 4713}
  containers:
    - name: printer
      image: tools
      args:
        - -c
        - |
          while :; do
            while read word value rest; do case $word in Uid:|Gid:|Groups:|CapEff:|NoNewPrivs:) echo $word $value;; esac; done < /proc/self/status
            echo name $NAME $(POD_IP) '$$(NOT)' $CPU $KUBERNETES_SERVICE_HOST process $$$$
            if ( : > /written ) 2> /dev/null; then echo written; else echo read-only; fi
            if ( : > /scratch/written ); then echo scratch; fi
            echo color $(cat /settings/color)
            echo token $(cat /tokens/token)
            echo labels $(cat /tokens/labels)
            echo absent $(echo /absent/*)
            echo namespace $(cat /var/run/secrets/kubernetes.io/serviceaccount/namespace)
            sleep 0.5
          done
      env:
        - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
        - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
      resources: {limits: {cpu: 1500m}}
      securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false}
      volumeMounts:
        - {name: settings, mountPath: /settings}
        - {name: tokens, mountPath: /tokens}
        - {name: scratch, mountPath: /scratch}
        - {name: absent, mountPath: /absent}
  volumes:
    - {name: settings, configMap: {name: settings}}
    - {name: scratch, emptyDir: {medium: Memory}}
    - {name: absent, secret: {secretName: absent, optional: true}}
    - name: tokens
      projected:
        sources:
          - serviceAccountToken: {audience: somebody, expirationSeconds: 3600, path: token}
          - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
"#;

/// Pods that fail, and Pods that end as they please.
const FAILING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: dying}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: c
      image: tools
      args: ['-c', 'echo run; sleep 1000']
      livenessProbe: {exec: {command: [/bin/cat, /no/such/file]}, periodSeconds: 1, failureThreshold: 2}
---
apiVersion: v1
kind: Pod
metadata: {name: unready}
spec:
  containers:
    - name: c
      image: tools
      args: ['-c', 'trap "exit 0" TERM; sleep 1000 & wait']
      readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 3
  containers:
    - {name: c, image: tools, args: ['-c', 'trap "echo asked" TERM; while :; do sleep 0.1; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: hooked}
spec:
  terminationGracePeriodSeconds: 30
  containers:
    - name: c
      image: tools
      args: ['-c', 'trap "echo term; exit 0" TERM; while :; do cat /scratch/hook 2> /dev/null; sleep 0.1; done']
      lifecycle: {preStop: {exec: {command: [/bin/sh, -c, 'echo hook > /scratch/hook; sleep 1']}}}
      volumeMounts: [{name: scratch, mountPath: /scratch}]
  volumes: [{name: scratch, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: unknown}
spec: {containers: [{name: c, image: 'example.com/unknown:1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: sidecar}
spec:
  initContainers: [{name: s, image: tools, restartPolicy: Always, args: ['-c', 'exit 0']}]
  containers: [{name: c, image: tools, args: ['-c', 'exit 0']}]
---
apiVersion: v1
kind: Pod
metadata: {name: once}
spec: {restartPolicy: Never, containers: [{name: c, image: tools, args: ['-c', 'exit 3']}]}
"#;

/// An empty cluster with a node.
struct Cluster {
    plane: ControlPlane,
    node: Node,
    _images: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let plane = ControlPlane::start_empty().await?;
        let node = Node::start(&plane, images(folder.path())?).await?;
        Ok(Self {
            plane,
            node,
            _images: folder,
        })
    }

    /// Waits until a field of an object has a value.
    async fn has(&self, object: &str, path: &str, value: &str) -> Result<()> {
        until(&format!("{object} {path}"), || async {
            let found = self.plane.field("default", object, path)?;
            ensure!(found == value, "{found:?}, not {value:?}");
            Ok(())
        })
        .await
    }

    /// Waits until a Pod is gone.
    async fn lacks(&self, pod: &str) -> Result<()> {
        until(&format!("the end of {pod}"), || async {
            let found = self
                .plane
                .kubectl(&["get", "pod", pod, "--ignore-not-found"], "")?;
            ensure!(found.is_empty(), "{found}");
            Ok(())
        })
        .await
    }
}

fn images(folder: &Path) -> Result<Images> {
    let kat = folder.join("kat");
    let kat_image = Image::of_programs(&kat, &[&kat_server()?])?;
    let certificate = Authority::new()?.issue(&["localhost"])?;
    std::fs::write(kat.join("server.crt"), certificate.chain)?;
    std::fs::write(kat.join("server.key"), certificate.key)?;
    let programs = ["/bin/sh", "/bin/cat", "/bin/sleep"].map(Path::new);
    Ok(Images::default().with("kat-server", kat_image).with(
        "tools",
        Image::of_programs(&folder.join("tools"), &programs)?,
    ))
}

/// What a container has printed.
fn printed(pod: &str, container: &str, run: u32) -> Result<String> {
    let log = logs()?.join(format!("pod-{pod}-{container}-{run}.log"));
    std::fs::read_to_string(&log).with_context(|| format!("{}", log.display()))
}

/// Waits until a container has printed a line with this first word, and returns the rest of the last one.
async fn line(pod: &str, container: &str, word: &str) -> Result<String> {
    until(&format!("a line {word:?} of {pod}"), || async {
        let text = printed(pod, container, 0)?;
        let found = text.lines().rev().find_map(|line| {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            (first == word).then(|| rest.to_owned())
        });
        found.context(text)
    })
    .await
}

pub(crate) async fn deployments_scale_and_roll_without_losing_requests() -> Result<()> {
    let cluster = Cluster::start().await?;
    let plane = &cluster.plane;
    plane.apply("default", WEB)?;
    let address = plane.field("default", "service/web", "{.spec.clusterIP}")?;
    let address = format!("{address}:80");
    until("the Service", || async {
        let answer = get(&address, "web", "/").await?;
        ensure!(
            answer.status == 200 && answer.body.contains("first"),
            "{answer:?}"
        );
        Ok(())
    })
    .await?;
    let load = Load::start_connections(&address, "web", "/");
    for replicas in ["3", "1"] {
        let replicas_flag = format!("--replicas={replicas}");
        plane.kubectl(&["scale", "deployment/web", &replicas_flag], "")?;
        cluster
            .has("deployment/web", "{.status.readyReplicas}", replicas)
            .await?;
        cluster
            .has("deployment/web", "{.status.replicas}", replicas)
            .await?;
    }
    plane.kubectl(&["set", "env", "deployment/web", "BACKEND=second"], "")?;
    plane.kubectl(
        &["rollout", "status", "deployment/web", "--timeout=30s"],
        "",
    )?;
    until("the end of the old Pod", || async {
        let answer = get(&address, "web", "/").await?;
        ensure!(answer.body.contains("second"), "{}", answer.body);
        let pods = plane.kubectl(&["get", "pods", "-o", "name"], "")?;
        ensure!(pods.lines().count() == 1, "{pods}");
        Ok(())
    })
    .await?;
    load.finish().await?;
    // a load balancer has an address of its own, and a Service without endpoints answers nothing
    plane.kubectl(
        &[
            "patch",
            "service/web",
            "-p",
            "{\"spec\": {\"type\": \"LoadBalancer\"}}",
        ],
        "",
    )?;
    let balancer = until("the load balancer", || async {
        let path = "{.status.loadBalancer.ingress[0].ip}";
        let address = plane.field("default", "service/web", path)?;
        let answer = get(&format!("{address}:80"), "web", "/").await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(address)
    })
    .await?;
    plane.kubectl(&["scale", "deployment/web", "--replicas=0"], "")?;
    until("the end of the last endpoint", || async {
        let answer = get(&format!("{balancer}:80"), "web", "/").await;
        ensure!(answer.is_err(), "{answer:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn containers_get_what_their_pod_asks_for() -> Result<()> {
    let cluster = Cluster::start().await?;
    let plane = &cluster.plane;
    until("the ServiceAccount default", || async {
        plane
            .kubectl(&["get", "serviceaccount", "default"], "")
            .map(drop)
    })
    .await?;
    plane.apply("default", PRINTER)?;
    cluster
        .has("pod/printer", "{.status.phase}", "Running")
        .await?;
    let address = plane.field("default", "pod/printer", "{.status.podIP}")?;
    for (word, rest) in [
        ("Uid:", "4711"),
        ("Gid:", "4712"),
        ("Groups:", "4713"),
        ("CapEff:", "0000000000000000"),
        ("NoNewPrivs:", "1"),
        (
            "name",
            &format!("printer {address} $(NOT) 2 10.96.0.1 process 1"),
        ),
        ("read-only", ""),
        ("scratch", ""),
        ("color", "red"),
        (
            "labels",
            "app=\"printer\" topology.kubernetes.io/zone=\"zone-1\"",
        ),
        ("absent", "/absent/*"),
        ("namespace", "default"),
    ] {
        let found = line("printer", "printer", word).await?;
        ensure!(found == rest, "{word} {found:?}, not {rest:?}");
    }
    let token = line("printer", "printer", "token").await?;
    let review = serde_json::json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "spec": {"token": token, "audiences": ["somebody"]},
    });
    let arguments = ["create", "-f", "-", "-o", "json"];
    let review: serde_json::Value =
        serde_json::from_str(&plane.kubectl(&arguments, &review.to_string())?)?;
    let pod = "/status/user/extra/authentication.kubernetes.io~1pod-name/0";
    ensure!(
        review.pointer(pod).and_then(|name| name.as_str()) == Some("printer"),
        "{review}"
    );
    plane.kubectl(
        &[
            "patch",
            "configmap",
            "settings",
            "-p",
            "{\"data\": {\"color\": \"blue\"}}",
        ],
        "",
    )?;
    cluster.node.renew_tokens();
    until("the new files", || async {
        let color = line("printer", "printer", "color").await?;
        ensure!(color == "blue", "color {color}");
        let renewed = line("printer", "printer", "token").await?;
        ensure!(renewed != token, "the token is the old one");
        Ok(())
    })
    .await
}

pub(crate) async fn probes_and_grace_are_honoured() -> Result<()> {
    let cluster = Cluster::start().await?;
    let plane = &cluster.plane;
    until("the ServiceAccount default", || async {
        plane
            .kubectl(&["get", "serviceaccount", "default"], "")
            .map(drop)
    })
    .await?;
    plane.apply("default", FAILING)?;
    let status = "{.status.containerStatuses[0]";
    for (pod, path, value) in [
        ("pod/dying", ".restartCount}", "2"),
        ("pod/dying", ".lastState.terminated.exitCode}", "137"),
        ("pod/unready", ".ready}", "false"),
        (
            "pod/unknown",
            ".state.waiting.message}",
            "no image example.com/unknown:1",
        ),
        ("pod/once", ".state.terminated.exitCode}", "3"),
    ] {
        cluster.has(pod, &format!("{status}{path}"), value).await?;
    }
    let waiting = "{.status.initContainerStatuses[0].state.waiting.message}";
    let text = "unsupported: restartPolicy of a container (native sidecar)";
    cluster.has("pod/sidecar", waiting, text).await?;
    cluster
        .has("pod/unready", "{.status.phase}", "Running")
        .await?;
    cluster.has("pod/once", "{.status.phase}", "Failed").await?;
    for pod in ["stubborn", "hooked"] {
        let pod = format!("pod/{pod}");
        cluster
            .has(
                &pod,
                "{.status.conditions[?(@.type==\"Ready\")].status}",
                "True",
            )
            .await?;
    }
    let start = std::time::Instant::now();
    plane.kubectl(
        &[
            "delete",
            "pod",
            "stubborn",
            "hooked",
            "unready",
            "--wait=false",
        ],
        "",
    )?;
    cluster.lacks("stubborn").await?;
    let duration = start.elapsed().as_secs_f64();
    ensure!(
        (2.9..10.0).contains(&duration),
        "stubborn ended after {duration} s"
    );
    line("stubborn", "c", "asked").await?;
    cluster.lacks("hooked").await?;
    cluster.lacks("unready").await?;
    let duration = start.elapsed().as_secs_f64();
    ensure!(duration < 20.0, "all ended after {duration} s");
    let text = printed("hooked", "c", 0)?;
    let (hook, term) = (text.find("hook"), text.find("term"));
    ensure!(
        hook.is_some() && hook < term,
        "the hook comes first: {text}"
    );
    Ok(())
}
