//! Each overlay and each component in `kustomize/`, checked by a real apiserver without running anything.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use nuncio_e2e::{control_plane::ControlPlane, wait::until, workspace::root};
use serde_json::{Value, json};

/// A namespace for pods that meet the restricted Pod Security standard, with the accounts that they name.
const RESTRICTED: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: restricted, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nuncio, namespace: restricted}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nuncio-envoy, namespace: restricted}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nuncio-apiext, namespace: restricted}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: nuncio-migrate-storage, namespace: restricted}
";
/// The only component whose pods do not meet the standard.
const HOST_NETWORK: &str = "host-network";
/// Another namespace than that of the base.
const OTHER: &str = "gw";

pub(crate) async fn overlays_and_components_are_valid() -> Result<()> {
    let plane = ControlPlane::start_empty().await?;
    plane.kubectl(&["apply", "-k", "config/crd"], "")?;
    let schemas = root().join(".tools/schemas");
    ensure!(
        schemas.is_dir(),
        "{} is missing: run `make tools`",
        schemas.display()
    );
    plane.kubectl(&["apply", "--server-side", "-f", ".tools/schemas"], "")?;
    plane.kubectl(&["apply", "-f", "-"], RESTRICTED)?;
    until("the kinds", || async {
        let established = ["wait", "--for=condition=Established", "crd", "--all"];
        plane.kubectl(&established, "")?;
        let account = ["get", "serviceaccount", "default", "-n", "restricted"];
        plane.kubectl(&account, "").map(drop)
    })
    .await?;
    let folder = tempfile::tempdir()?;
    for path in folders("kustomize/overlays")? {
        let manifests = check(&plane, &path)?;
        all_are_in_a_namespace(&manifests).with_context(|| path.display().to_string())?;
    }
    check(&plane, &root().join("kustomize/quickstart"))?;
    for component in folders("kustomize/components")? {
        for namespace in [None, Some(OTHER)] {
            let path = folder.path().join(namespace.unwrap_or("base"));
            let path = path.join(component.file_name().unwrap_or_default());
            compose(&path, &[&component], namespace)?;
            let manifests = check(&plane, &path)?;
            all_are_in_a_namespace(&manifests).with_context(|| path.display().to_string())?;
            ensure!(
                namespace.is_none() || !manifests.contains("nuncio-system"),
                "{}: nuncio-system is still named:\n{manifests}",
                path.display()
            );
        }
    }
    for (index, (components, versions)) in API_VERSIONS.into_iter().enumerate() {
        let path = folder.path().join(format!("versions-{index}"));
        let components = components
            .iter()
            .map(|name| root().join("config/crd/components").join(name));
        let components: Vec<PathBuf> = components.collect();
        let components: Vec<&Path> = components.iter().map(PathBuf::as_path).collect();
        compose(&path, &components, Some(OTHER))?;
        let found = versions_of_mappings(&check(&plane, &path)?)?;
        ensure!(found == versions, "{}: {found}", path.display());
    }
    Ok(())
}

/// Checks that each object names its namespace: one without is created in whatever namespace kubectl is set to.
fn all_are_in_a_namespace(manifests: &str) -> Result<()> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifests)?;
    for object in &objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        let is_cluster_wide = kind.starts_with("Cluster")
            || ["CustomResourceDefinition", "Namespace"].contains(&kind);
        let name = &object["metadata"]["name"];
        ensure!(
            is_cluster_wide || object["metadata"]["namespace"].is_string(),
            "{kind} {name} has no namespace"
        );
    }
    Ok(())
}

/// Components that choose API versions, and the versions of Mappings with them; `*` marks the stored one, and the last word is the
/// namespace of the webhook.
const API_VERSIONS: [(&[&str], &str); 5] = [
    (&[], "v3alpha1*"),
    (&["served-v1"], "v3alpha1* v1 gw"),
    (&["served-v2"], "v3alpha1* v2 gw"),
    (
        &["served-v1", "served-v2", "stored-v2"],
        "v3alpha1 v1 v2* gw",
    ),
    (
        &["served-v2", "stored-v2", "served-v1"],
        "v3alpha1 v2* v1 gw",
    ),
];

fn versions_of_mappings(manifests: &str) -> Result<String> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifests)?;
    let mut all = objects.iter();
    let definition = all
        .find(|object| object["metadata"]["name"] == "mappings.getambassador.io")
        .context("no definition of Mappings")?;
    let versions = definition["spec"]["versions"].as_array();
    let version = |version: &Value| {
        let mark = if version["storage"] == true { "*" } else { "" };
        format!("{}{mark}", version["name"].as_str().unwrap_or_default())
    };
    let service = definition.pointer("/spec/conversion/webhook/clientConfig/service/namespace");
    let namespace = service.and_then(Value::as_str).map(str::to_owned);
    let words = versions.into_iter().flatten().map(version).chain(namespace);
    Ok(words.collect::<Vec<_>>().join(" "))
}

/// The folders in a folder of the checkout.
fn folders(path: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(root().join(path))?;
    let folders = entries.map(|entry| Ok(entry?.path()));
    let mut folders = folders.collect::<Result<Vec<_>>>()?;
    folders.sort();
    ensure!(!folders.is_empty(), "nothing in {path}");
    Ok(folders)
}

/// Writes a kustomization with the base and components.
pub(super) fn compose(path: &Path, components: &[&Path], namespace: Option<&str>) -> Result<()> {
    fs::create_dir_all(path)?;
    let components = components.iter().map(|component| relative(path, component));
    let components: Vec<_> = components.collect::<Result<_>>()?;
    let mut kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [relative(path, &root().join("kustomize/base"))?],
        "components": components,
    });
    if let Some(namespace) = namespace {
        kustomization["namespace"] = json!(namespace);
    }
    let text = kustomization.to_string();
    Ok(fs::write(path.join("kustomization.yaml"), text)?)
}

/// The path from one folder to another: kustomize takes no absolute ones.
fn relative(from: &Path, to: &Path) -> Result<PathBuf> {
    let up: PathBuf = from.components().skip(1).map(|_| "..").collect();
    Ok(up.join(to.strip_prefix("/")?))
}

/// Checks what a folder builds, and returns it.
fn check(plane: &ControlPlane, path: &Path) -> Result<String> {
    let name = path.display().to_string();
    let manifests = plane.kubectl_without_warning(&["kustomize", &name], "")?;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&manifests)?;
    let namespaces = objects.iter().filter(|one| one["kind"] == "Namespace");
    for namespace in namespaces {
        // what is in a namespace is rejected without it; and its labels decide about pods
        plane.kubectl(&["apply", "-f", "-"], &namespace.to_string())?;
    }
    let apply = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    let applied = plane.kubectl_without_warning(&apply, &manifests);
    applied.with_context(|| name.clone())?;
    let mut pods = 0;
    for object in &objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        if ["Deployment", "DaemonSet", "StatefulSet", "Job"].contains(&kind) {
            pods += 1;
            check_pod(plane, path, object)?;
        }
    }
    ensure!(pods > 0, "{name} has no pods");
    Ok(manifests)
}

/// Checks that a pod of a Deployment meets the restricted Pod Security standard.
fn check_pod(plane: &ControlPlane, path: &Path, object: &Value) -> Result<()> {
    let name = &object["metadata"]["name"];
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "restricted"},
        "spec": object["spec"]["template"]["spec"],
    });
    let apply = ["apply", "--dry-run=server", "-f", "-"];
    let applied = plane.kubectl_without_warning(&apply, &pod.to_string());
    let is_on_host = path.ends_with(HOST_NETWORK) && *name == "nuncio-envoy";
    match applied {
        Ok(_) if is_on_host => bail!("{}: {name} is not on the host", path.display()),
        Err(error) if is_on_host => {
            let text = error.to_string();
            let (_, violations) = text
                .split_once("violates PodSecurity")
                .context(text.clone())?;
            // the network of the host and its ports, and nothing else
            ensure!(
                violations.contains("host namespaces (hostNetwork=true), hostPort (")
                    && violations.matches(" (").count() == 2,
                "{text}"
            );
            Ok(())
        }
        other => other.map(drop).with_context(|| path.display().to_string()),
    }
}
