//! What an installation chooses of the API versions, as kustomize components on top of the definitions: which versions are
//! served beside `v3alpha1`, and whether `v2` is the stored one.
//!
//! The definitions alone have `v3alpha1` only, and no webhook. They do not list the other versions as unserved, although a
//! cluster that has stored objects as `v2` then refuses them (`status.storedVersions` must be among the versions). Listed without a
//! webhook, such an object would be read as `v3alpha1` by its `apiVersion` alone: fields that have another name would be dropped
//! with its next write, and others would mean something else. The refusal keeps the objects as they are; with the component
//! `served-v2` and the webhook they are converted, and after a migration of what is stored the definitions alone are accepted.
//!
//! A component copies a version from a document of its own into the definition of the kind (a `replacement`), because a patch
//! would need the place of the version in the list, which depends on the other components. The documents are
//! CustomResourceDefinitions with one version, which kustomize does not print.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, ServiceReference, WebhookClientConfig,
    WebhookConversion,
};
use serde_json::{Value, json};

use crate::{GROUP, KINDS, KindInfo, conversion::ApiVersion};

/// Name of the Service of the conversion webhook.
pub const SERVICE: &str = "nuncio-apiext";
/// Namespace of the Service, unless the installation chooses another.
pub const NAMESPACE: &str = "nuncio-system";
/// Port of the Service.
pub const PORT: u16 = 443;
/// Path of the webhook.
pub const PATH: &str = "/webhooks/crd-convert";

const KIND: &str = "CustomResourceDefinition";
/// Marks what kustomize reads and does not print.
const LOCAL: &str = "config.kubernetes.io/local-config";

/// A choice.
#[derive(Clone, Copy, Debug)]
pub enum Component {
    /// A version is served.
    Served(ApiVersion),
    /// `v2` is stored.
    StoredV2,
}

impl Component {
    /// The choices.
    pub const ALL: [Self; 3] = [
        Self::Served(ApiVersion::V1),
        Self::Served(ApiVersion::V2),
        Self::StoredV2,
    ];

    /// Name of its folder.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Served(version) => format!("served-{}", version.name()),
            Self::StoredV2 => "stored-v2".to_owned(),
        }
    }

    /// What it does.
    #[must_use]
    pub fn description(self) -> String {
        match self {
            Self::Served(version) => format!(
                "Serves {} beside v3alpha1. Needs the conversion webhook.",
                version.name()
            ),
            Self::StoredV2 => {
                "Stores objects as v2, as Emissary-ingress does. Comes after served-v2.".to_owned()
            }
        }
    }

    /// The kustomization.
    #[must_use]
    pub fn kustomization(self) -> Value {
        let documents = self.documents();
        let mut kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            "resources": documents.keys().collect::<Vec<_>>(),
        });
        kustomization["replacements"] = match self {
            Self::Served(version) => kinds(version)
                .flat_map(|info| copies(info, version))
                .collect(),
            Self::StoredV2 => storage(),
        };
        if let Self::Served(_) = self {
            kustomization["configurations"] = json!([CONFIGURATION]);
        }
        kustomization
    }

    /// Files that the kustomization reads, by name: those of resources.
    #[must_use]
    pub fn documents(self) -> BTreeMap<String, Value> {
        match self {
            Self::Served(version) => {
                let documents = kinds(version).filter_map(|info| {
                    let name = format!("{}_{}.yaml", info.group, info.plural);
                    Some((name, document(info, version)?))
                });
                documents.collect()
            }
            Self::StoredV2 => BTreeMap::from([("stored.yaml".to_owned(), stored())]),
        }
    }

    /// Other files that the kustomization reads, by name.
    #[must_use]
    pub fn configurations(self) -> BTreeMap<String, Value> {
        match self {
            Self::Served(_) => BTreeMap::from([(CONFIGURATION.to_owned(), configuration())]),
            Self::StoredV2 => BTreeMap::new(),
        }
    }
}

/// File with what kustomize must know about definitions.
const CONFIGURATION: &str = "configuration.yaml";

/// Kinds with this version.
fn kinds(version: ApiVersion) -> impl Iterator<Item = &'static KindInfo> {
    let kinds = KINDS.iter().filter(|info| info.group == GROUP);
    kinds.filter(move |info| version.has(info.name))
}

/// Name of the definition of a kind.
fn definition(info: &KindInfo) -> String {
    format!("{}.{}", info.plural, info.group)
}

/// Name of the document with a version of a kind.
fn source(info: &KindInfo, version: ApiVersion) -> String {
    format!("{}-{}", definition(info), version.name())
}

/// What is added to the definition of a kind.
fn document(info: &KindInfo, version: ApiVersion) -> Option<Value> {
    let mut document: CustomResourceDefinition = info.definition()?;
    document.metadata.name = Some(source(info, version));
    document.metadata.labels = None;
    document.metadata.annotations = Some(BTreeMap::from([(LOCAL.to_owned(), "true".to_owned())]));
    document.spec.versions = vec![info.version(version)?];
    document.spec.conversion = Some(conversion());
    serde_json::to_value(document).ok()
}

/// Copies of the version and the conversion into the definition.
fn copies(info: &KindInfo, version: ApiVersion) -> [Value; 2] {
    let paths = [
        format!("spec.versions.[name={}]", version.name()),
        "spec.conversion".to_owned(),
    ];
    paths.map(|path| {
        json!({
            "source": {"kind": KIND, "name": source(info, version), "fieldPath": path},
            "targets": [{
                "select": {"kind": KIND, "name": definition(info)},
                "fieldPaths": [path],
                "options": {"create": true},
            }],
        })
    })
}

/// The webhook, which adds its CA bundle when it runs.
fn conversion() -> CustomResourceConversion {
    CustomResourceConversion {
        strategy: "Webhook".to_owned(),
        webhook: Some(WebhookConversion {
            client_config: Some(WebhookClientConfig {
                service: Some(ServiceReference {
                    name: SERVICE.to_owned(),
                    namespace: NAMESPACE.to_owned(),
                    path: Some(PATH.to_owned()),
                    port: Some(PORT.into()),
                }),
                ..WebhookClientConfig::default()
            }),
            conversion_review_versions: vec!["v1".to_owned()],
        }),
    }
}

/// Where the namespace of an overlay goes, too.
fn configuration() -> Value {
    let field = "spec/conversion/webhook/clientConfig/service";
    json!({
        "namespace": [{
            "group": "apiextensions.k8s.io",
            "kind": KIND,
            "path": format!("{field}/namespace"),
            "create": false,
        }],
    })
}

/// The document that the storage of versions is copied from.
fn stored() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "StoredVersion",
        "metadata": {"name": "v2", "annotations": {LOCAL: "true"}},
        "v2": true,
        "v3alpha1": false,
    })
}

fn storage() -> Value {
    let copy = |version: ApiVersion| {
        let targets = kinds(ApiVersion::V2).map(|info| {
            json!({
                "select": {"kind": KIND, "name": definition(info)},
                "fieldPaths": [format!("spec.versions.[name={}].storage", version.name())],
            })
        });
        json!({
            "source": {"kind": "StoredVersion", "name": "v2", "fieldPath": version.name()},
            "targets": targets.collect::<Vec<_>>(),
        })
    };
    [ApiVersion::V2, ApiVersion::V3Alpha1]
        .map(copy)
        .into_iter()
        .collect()
}
