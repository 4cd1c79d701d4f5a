//! What is read of a CustomResourceDefinition, and what its conversion must be. Pure.
//!
//! Only this is read: the schemas of the definitions of a cluster are megabytes.

use std::{borrow::Cow, collections::BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::{Resource, api::ObjectMeta, core::ClusterResourceScope};
use nuncio_crds::{GROUP, conversion::ApiVersion};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::identity::authority::Trusted;

/// Path of the webhook.
pub(super) const PATH: &str = "/webhooks/crd-convert";
/// Port of the Service.
const PORT: u16 = 443;
/// Version of ConversionReviews.
const REVIEW_VERSION: &str = "v1";

/// A CustomResourceDefinition.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Definition {
    metadata: ObjectMeta,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
struct Spec {
    group: String,
    versions: Vec<Version>,
    #[serde(default)]
    conversion: Option<Conversion>,
}

#[derive(Clone, Debug, Deserialize)]
struct Version {
    name: String,
    served: bool,
    storage: bool,
}

#[derive(Clone, Debug, Deserialize)]
struct Conversion {
    strategy: String,
    #[serde(default)]
    webhook: Option<Webhook>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Webhook {
    client_config: ClientConfig,
    conversion_review_versions: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientConfig {
    ca_bundle: Option<String>,
    service: Option<Reference>,
    url: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    stored_versions: Option<Vec<String>>,
}

/// The Service that the apiserver calls.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Reference {
    pub(super) namespace: String,
    pub(super) name: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    port: Option<u16>,
}

impl Reference {
    /// The Service of the webhook.
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            path: Some(PATH.to_owned()),
            port: Some(PORT),
        }
    }

    /// The name that the apiserver expects in the certificate.
    pub(super) fn dns_name(&self) -> String {
        format!("{}.{}.svc", self.name, self.namespace)
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.namespace, &self.name) == (&other.namespace, &other.name)
    }

    fn reaches(&self, other: &Self) -> bool {
        self.is_same(other)
            && self.path == other.path
            && self.port.unwrap_or(PORT) == other.port.unwrap_or(PORT)
    }
}

impl Resource for Definition {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "CustomResourceDefinition".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "apiextensions.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "customresourcedefinitions".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// How objects of a definition are converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// There is nothing to convert: another group, one version, or a definition that is being deleted.
    Unneeded,
    /// The apiserver changes `apiVersion` only, although fields differ between the versions.
    Relabel,
    /// A webhook converts.
    Webhook,
}

/// What must be sent to the apiserver.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// A server-side apply of these fields.
    Apply(Value),
    /// A merge patch: a server-side apply cannot remove what another manager has set.
    Merge(Value),
}

impl Definition {
    /// Its name, such as `mappings.getambassador.io`.
    pub(super) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// How its objects are converted.
    pub(super) fn strategy(&self) -> Strategy {
        let is_deleted = self.metadata.deletion_timestamp.is_some();
        if self.spec.group != GROUP || is_deleted || self.versions().len() < 2 {
            return Strategy::Unneeded;
        }
        let conversion = self.spec.conversion.as_ref();
        match conversion.map(|conversion| &*conversion.strategy) {
            Some("Webhook") => Strategy::Webhook,
            Some(_) | None => Strategy::Relabel,
        }
    }

    /// The versions that are served or stored.
    fn versions(&self) -> BTreeSet<&str> {
        let versions = self.spec.versions.iter();
        let versions = versions.filter(|version| version.served || version.storage);
        let stored = self.status.stored_versions.iter().flatten();
        versions
            .map(|version| &*version.name)
            .chain(stored.map(String::as_str))
            .collect()
    }

    /// Older versions in which objects are stored, although the apiserver reads them as another one without converting them.
    pub(super) fn unconverted(&self) -> Vec<&str> {
        if self.strategy() != Strategy::Relabel {
            return Vec::new();
        }
        let served: BTreeSet<&str> = self
            .spec
            .versions
            .iter()
            .filter(|version| version.served)
            .map(|version| &*version.name)
            .collect();
        let stored = self.status.stored_versions.iter().flatten();
        stored
            .map(String::as_str)
            .filter(|stored| *stored != ApiVersion::V3Alpha1.name())
            .filter(|stored| served.iter().any(|served| served != stored))
            .collect()
    }

    /// Whether the apiserver calls this Service to convert its objects.
    pub(super) fn calls(&self, service: &Reference) -> bool {
        let client = self.client();
        self.strategy() == Strategy::Webhook
            && client.is_some_and(|client| {
                client.url.is_none()
                    && client
                        .service
                        .as_ref()
                        .is_some_and(|own| own.is_same(service))
            })
    }

    /// The certificates with which the apiserver verifies the webhook, PEM.
    pub(super) fn bundle(&self) -> Option<String> {
        let encoded = self.client()?.ca_bundle.as_ref()?;
        let bytes = STANDARD.decode(encoded).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// The same, parsed; empty if it cannot be used.
    pub(super) fn trusted(&self) -> Vec<Trusted> {
        let bundle = self.bundle();
        let parsed = bundle.map(|bundle| Trusted::parse(&bundle, "caBundle"));
        parsed.and_then(Result::ok).unwrap_or_default()
    }

    fn client(&self) -> Option<&ClientConfig> {
        let conversion = self.spec.conversion.as_ref()?;
        Some(&conversion.webhook.as_ref()?.client_config)
    }

    /// What must change so that the apiserver calls this Service and trusts this bundle.
    pub(super) fn change(&self, service: &Reference, bundle: &str) -> Option<Change> {
        let webhook = self
            .spec
            .conversion
            .as_ref()
            .and_then(|conversion| conversion.webhook.clone())
            .unwrap_or_default();
        let client = &webhook.client_config;
        let has_version = webhook
            .conversion_review_versions
            .iter()
            .any(|version| version == REVIEW_VERSION);
        let reaches = client
            .service
            .as_ref()
            .is_some_and(|own| own.reaches(service));
        if reaches
            && client.url.is_none()
            && has_version
            && self.bundle().as_deref() == Some(bundle)
        {
            return None;
        }
        let mut wanted = json!({"clientConfig": {
            "caBundle": STANDARD.encode(bundle),
            "service": {
                "namespace": service.namespace,
                "name": service.name,
                "path": service.path,
                "port": service.port,
            },
        }});
        if !has_version && let Some(wanted) = wanted.as_object_mut() {
            let versions = json!([REVIEW_VERSION]);
            wanted.insert("conversionReviewVersions".to_owned(), versions);
        }
        let has_url = client.url.is_some();
        let own = wanted
            .get_mut("clientConfig")
            .and_then(Value::as_object_mut);
        if let Some(own) = own.filter(|_| has_url) {
            own.insert("url".to_owned(), Value::Null);
        }
        let spec = json!({"conversion": {"webhook": wanted}});
        Some(if has_url {
            Change::Merge(json!({"spec": spec}))
        } else {
            Change::Apply(self.applied(&spec))
        })
    }

    /// A server-side apply of this spec. With the UID it fails if the definition was deleted, instead of creating another.
    fn applied(&self, spec: &Value) -> Value {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.name(), "uid": self.metadata.uid},
            "spec": spec,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn definition(more: &Value) -> Definition {
        let mut value = json!({
            "metadata": {"name": "mappings.getambassador.io", "uid": "u"},
            "spec": {
                "group": "getambassador.io",
                "versions": [
                    {"name": "v2", "served": true, "storage": true},
                    {"name": "v3alpha1", "served": true, "storage": false},
                ],
                "conversion": {"strategy": "Webhook", "webhook": {
                    "conversionReviewVersions": ["v1"],
                    "clientConfig": {"service": {
                        "namespace": "ns", "name": "apiext", "path": PATH, "port": 443,
                    }},
                }},
            },
            "status": {"storedVersions": ["v2"]},
        });
        merge(&mut value, more);
        serde_json::from_value(value).unwrap()
    }

    fn merge(value: &mut Value, more: &Value) {
        match (value, more) {
            (Value::Object(value), Value::Object(more)) => {
                for (key, more) in more {
                    merge(value.entry(key.clone()).or_insert(Value::Null), more);
                }
            }
            (value, more) => *value = more.clone(),
        }
    }

    fn service() -> Reference {
        Reference::new("ns", "apiext")
    }

    fn client(more: &Value) -> Value {
        json!({"spec": {"conversion": {"webhook": {"clientConfig": more}}}})
    }

    #[test]
    fn a_definition_with_several_versions_of_the_group_is_converted() {
        assert_eq!(definition(&json!({})).strategy(), Strategy::Webhook);
        let none = json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}});
        assert_eq!(definition(&none).strategy(), Strategy::Relabel);
        let absent = json!({"spec": {"conversion": null}});
        assert_eq!(definition(&absent).strategy(), Strategy::Relabel);
        let one = json!({"spec": {"versions": [{"name": "v2", "served": true, "storage": true}]}});
        assert_eq!(definition(&one).strategy(), Strategy::Unneeded);
        let unserved = json!({"spec": {"versions": [
            {"name": "v2", "served": false, "storage": false},
            {"name": "v3alpha1", "served": true, "storage": true},
        ]}});
        // objects that are stored in it are still there
        assert_eq!(definition(&unserved).strategy(), Strategy::Webhook);
        let others = json!({"spec": {"group": "example.com"}});
        assert_eq!(definition(&others).strategy(), Strategy::Unneeded);
        let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(definition(&deleted).strategy(), Strategy::Unneeded);
    }

    #[test]
    fn stored_versions_that_are_not_converted_are_found() {
        assert!(definition(&json!({})).unconverted().is_empty());
        let none = json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}});
        assert_eq!(definition(&none).unconverted(), ["v2"]);
        let mut current = none;
        merge(
            &mut current,
            &json!({
                "spec": {"versions": [
                    {"name": "v2", "served": false, "storage": false},
                    {"name": "v3alpha1", "served": true, "storage": true},
                ]},
                "status": {"storedVersions": ["v3alpha1"]},
            }),
        );
        assert!(definition(&current).unconverted().is_empty());
    }

    #[test]
    fn only_what_the_webhook_needs_is_applied() {
        let found = definition(&json!({}));
        let Some(Change::Apply(patch)) = found.change(&service(), "PEM") else {
            panic!("no apply")
        };
        assert_eq!(
            patch,
            json!({
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": "mappings.getambassador.io", "uid": "u"},
                "spec": {"conversion": {"webhook": {"clientConfig": {
                    "caBundle": "UEVN",
                    "service": {"namespace": "ns", "name": "apiext", "path": PATH, "port": 443},
                }}}},
            })
        );
        let patched = definition(&client(&json!({"caBundle": "UEVN"})));
        assert_eq!(patched.change(&service(), "PEM"), None);
        assert_eq!(patched.bundle().as_deref(), Some("PEM"));
    }

    #[test]
    fn what_others_overwrite_is_found() {
        let current = json!({"caBundle": "UEVN"});
        for more in [
            json!({"caBundle": null}),
            json!({"caBundle": "bad!"}),
            json!({"service": {"name": "emissary-apiext"}}),
            json!({"service": {"namespace": "emissary-system"}}),
            json!({"service": {"path": "/other"}}),
            json!({"service": {"path": null}}),
            json!({"service": {"port": 8443}}),
        ] {
            let mut changed = current.clone();
            merge(&mut changed, &more);
            let found = definition(&client(&changed));
            assert!(found.change(&service(), "PEM").is_some(), "{more}");
        }
        // 443 is the default
        let mut changed = current.clone();
        merge(&mut changed, &json!({"service": {"port": null}}));
        assert_eq!(
            definition(&client(&changed)).change(&service(), "PEM"),
            None
        );
        let old = json!({"spec": {"conversion": {"webhook": {
            "conversionReviewVersions": ["v1beta1"], "clientConfig": {"caBundle": "UEVN"},
        }}}});
        let Some(Change::Apply(patch)) = definition(&old).change(&service(), "PEM") else {
            panic!("no apply")
        };
        let versions = patch.pointer("/spec/conversion/webhook/conversionReviewVersions");
        assert_eq!(versions, Some(&json!(["v1"])));
    }

    #[test]
    fn a_url_is_removed_by_a_merge_patch() {
        let url = client(&json!({"url": "https://example.com/", "service": null}));
        let found = definition(&url);
        assert!(!found.calls(&service()));
        let Some(Change::Merge(patch)) = found.change(&service(), "PEM") else {
            panic!("no merge patch")
        };
        let client = patch.pointer("/spec/conversion/webhook/clientConfig");
        assert_eq!(client.unwrap().get("url"), Some(&Value::Null));
        assert_eq!(client.unwrap()["service"]["name"], "apiext");
    }

    #[test]
    fn a_definition_calls_the_service_that_it_names() {
        assert!(definition(&json!({})).calls(&service()));
        assert!(!definition(&json!({})).calls(&Reference::new("ns", "other")));
        assert_eq!(service().dns_name(), "apiext.ns.svc");
    }
}
