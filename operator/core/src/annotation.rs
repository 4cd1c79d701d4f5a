//! Objects in the annotation `getambassador.io/config` of a Service or an Ingress: YAML documents, as manifests or in the flat
//! form of old releases, which has the fields of `metadata` and `spec` at the top. Pure.
//!
//! What is wrong with a document that is not an object is a problem of the owner; what is wrong with an object is in the
//! report of that object, and its owner's includes it.

use std::{collections::BTreeSet, slice, sync::Arc};

use nuncio_crds::GROUP;
use serde_json::{Map, Value};

use crate::{
    change::{Owned, Reconciled},
    object::{Kind, ObjectRef},
    reconcile::{identify, reconcile_each},
    report::{Problem, Reason},
    settings::Fleets,
    yaml,
};

/// Name of the annotation.
pub const ANNOTATION: &str = "getambassador.io/config";
/// Path of the annotation.
pub(crate) const PATH: &str = "metadata.annotations[getambassador.io/config]";

/// Problems of an annotation that are reported; more would only be in the way.
const MOST_PROBLEMS: usize = 20;

/// Fields of a manifest; all others of a flat document belong to `metadata` or `spec`.
const MANIFEST: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// Fields of `metadata` in a flat document, with their names there.
const METADATA: [(&str, &str); 4] = [
    ("name", "name"),
    ("namespace", "namespace"),
    ("generation", "generation"),
    ("metadata_labels", "labels"),
];
/// What documents of old releases call our group.
const OLD_GROUP: &str = "ambassador/";

/// Whether objects of this kind can have the annotation.
#[must_use]
pub const fn is_read_from(kind: Kind) -> bool {
    matches!(kind, Kind::Service | Kind::Ingress)
}

/// What is in an annotation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Annotation {
    /// The objects of each fleet, with the numbers of their documents. Each object is there once.
    pub fleets: Vec<Vec<(u32, Reconciled)>>,
    /// What is wrong with the documents.
    pub problems: Vec<Problem>,
}

impl Annotation {
    /// Reads the annotation of an object of this kind; `None` without one. An item of a list does not name its kind.
    #[must_use]
    pub fn of(kind: Kind, owner: &Value, fleets: &Fleets) -> Option<Self> {
        if !is_read_from(kind) {
            return None;
        }
        let text = owner.get("metadata")?.get("annotations")?.get(ANNOTATION)?;
        let mut all = Self {
            fleets: fleets.iter().map(|_fleet| Vec::new()).collect(),
            problems: Vec::new(),
        };
        let mut seen = BTreeSet::new();
        let documents = yaml::split(text.as_str().unwrap_or_default());
        for ((first, text), number) in documents.into_iter().zip(1..) {
            let read = document(
                first,
                text,
                owner,
                fleets.common().single_namespace.as_deref(),
            );
            match read {
                Ok(Some((of, manifest))) => {
                    let found = reconcile_each(of, manifest, fleets);
                    all.add(number, found, (kind, owner), &mut seen);
                }
                // only comments
                Ok(None) => {}
                Err(problem) => all.report(number, &problem),
            }
        }
        Some(all)
    }

    /// What the object yields for each fleet.
    #[must_use]
    pub fn into_owned(self, owner: &ObjectRef) -> Vec<Owned> {
        let owner = Arc::new(owner.clone());
        let owned = |objects: Vec<(u32, Reconciled)>| {
            let (documents, objects) = objects.into_iter().unzip();
            Owned {
                owner: owner.clone(),
                objects,
                documents,
            }
        };
        self.fleets.into_iter().map(owned).collect()
    }

    /// Adds the object of a document, as each fleet has it.
    fn add(
        &mut self,
        number: u32,
        mut found: Vec<Option<Reconciled>>,
        (kind, owner): (Kind, &Value),
        seen: &mut BTreeSet<ObjectRef>,
    ) {
        let Some(first) = found.iter().flatten().next() else {
            return; // for other installations
        };
        let object = first.object.clone();
        if !seen.insert(object.clone()) {
            let message = format!("duplicate {object}: using the first; ignored");
            let problem = Problem::ignored(Reason::DUPLICATE, "", message);
            return self.report(number, &problem);
        }
        let namespace = owner["metadata"]["namespace"].as_str();
        if let Some(namespace) = namespace.filter(|namespace| *namespace != &*object.namespace) {
            let name = owner["metadata"]["name"].as_str().unwrap_or_default();
            let message = format!(
                "configured in another namespace, by the annotation of {} {namespace}/{name}",
                kind.name()
            );
            let notice = Problem::notice(Reason::CROSS_NAMESPACE, "", message);
            for found in found.iter_mut().flatten() {
                found.add_problems(slice::from_ref(&notice));
            }
        }
        for (all, found) in self.fleets.iter_mut().zip(found) {
            all.extend(found.map(|found| (number, found)));
        }
    }

    /// Reports what is wrong with a document.
    fn report(&mut self, number: u32, problem: &Problem) {
        if self.problems.len() >= MOST_PROBLEMS {
            return;
        }
        let message = match problem.path.as_str() {
            "" => format!("document {number}: {}", problem.message),
            path => format!("document {number}, {path}: {}", problem.message),
        };
        let problem = Problem::ignored(problem.reason, PATH, message);
        self.problems.push(problem);
    }
}

/// The object in a document that begins in this line; `None` if there are only comments.
fn document(
    first: usize,
    text: &str,
    owner: &Value,
    single_namespace: Option<&str>,
) -> Result<Option<(Kind, Value)>, Problem> {
    let manifest = match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Null) => return Ok(None),
        Ok(Value::Object(document)) => manifest(document, owner),
        Ok(other) => {
            identify(&other)?;
            return Ok(None);
        }
        Err(error) => {
            let message = format!("{}; ignored", yaml::invalid(first, &error));
            return Err(Problem::ignored(Reason::NOT_YAML, "", message));
        }
    };
    let kind = identify(&manifest)?;
    if kind.group() != GROUP {
        let message = format!(
            "kind {} is not supported in an annotation; ignored",
            kind.name()
        );
        return Err(Problem::ignored(Reason::UNKNOWN_KIND, "kind", message));
    }
    let namespace = manifest["metadata"]["namespace"].as_str();
    if let (Some(only), Some(namespace)) = (single_namespace, namespace)
        && only != namespace
    {
        let message = format!("namespace {namespace} is not watched; ignored");
        return Err(Problem::ignored(
            Reason::IGNORED,
            "metadata.namespace",
            message,
        ));
    }
    Ok(Some((kind, manifest)))
}

/// A document as a manifest. Its namespace and labels are those of the owner unless it has its own; its age and version are
/// always the owner's.
fn manifest(document: Map<String, Value>, owner: &Value) -> Value {
    let owner = &owner["metadata"];
    let mut manifest = unfolded(document);
    if let Some(Value::Object(metadata)) = manifest.get_mut("metadata") {
        let namespace = metadata.get("namespace").and_then(Value::as_str);
        if namespace.is_none_or(str::is_empty) {
            inherit(metadata, "namespace", owner);
        }
        if metadata.get("labels").is_none_or(Value::is_null) {
            inherit(metadata, "labels", owner);
        }
        for name in ["creationTimestamp", "resourceVersion"] {
            inherit(metadata, name, owner);
        }
    }
    if let Some(Value::String(version)) = manifest.get_mut("apiVersion")
        && let Some(name) = version.strip_prefix(OLD_GROUP)
    {
        *version = format!("{GROUP}/{name}");
    }
    Value::Object(manifest)
}

/// Gives an object this field of its owner's metadata, in place of its own.
fn inherit(metadata: &mut Map<String, Value>, name: &str, owner: &Value) {
    metadata.remove(name);
    if let Some(value) = owner.get(name) {
        metadata.insert(name.to_owned(), value.clone());
    }
}

/// A document in the flat form, or in that of a manifest, or mixed, as a manifest.
#[must_use]
pub fn unfolded(mut document: Map<String, Value>) -> Map<String, Value> {
    let mut part = |name: &str| match document.get_mut(name).map(Value::take) {
        Some(Value::Object(part)) => part,
        _other => Map::new(),
    };
    let (mut metadata, mut spec) = (part("metadata"), part("spec"));
    let mut manifest = Map::new();
    for (name, value) in document {
        if let Some((_, name)) = METADATA.iter().find(|(flat, _)| *flat == name) {
            metadata.insert((*name).to_owned(), value);
        } else if MANIFEST.contains(&name.as_str()) {
            manifest.insert(name, value);
        } else {
            spec.insert(name, value);
        }
    }
    manifest.insert("metadata".to_owned(), Value::Object(metadata));
    manifest.insert("spec".to_owned(), Value::Object(spec));
    manifest
}

#[cfg(test)]
mod tests;
