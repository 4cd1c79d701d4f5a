//! What the gateway would lose if some objects were gone: asked before a list that lacks them is believed.
//!
//! The answer is found by doing it: the objects are taken out, linked, and put back. What the Store holds depends on its
//! present objects only, so that nothing is left of the attempt.

use std::{collections::BTreeSet, sync::Arc};

use nuncio_ir::Discovery;

use super::Store;
use crate::{
    annotation,
    change::{Origin, Reconciled, Source},
    object::{Kind, ObjectRef},
};

/// How many clusters would be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Clusters with an address to send requests to.
    pub clusters: usize,
    /// Of these, clusters that would be gone or have no address any more.
    pub lost: usize,
}

/// An object that was taken out.
struct Removed {
    origin: Origin,
    reconciled: Reconciled,
    document: Option<u32>,
}

impl Loss {
    /// Whether more than half would be lost.
    #[must_use]
    pub const fn is_most(&self) -> bool {
        self.lost * 2 > self.clusters
    }
}

impl Store {
    /// What would be lost if a source had only these objects of a kind.
    pub fn loss(&mut self, source: Source, kind: Kind, listed: &BTreeSet<ObjectRef>) -> Loss {
        let pending = self.link();
        let before = self.live_clusters();
        // what waits is served as it was before, which cannot be put back
        let is_waiting = !self.hosts.waiting.is_empty()
            || !self.tls_contexts.waiting.is_empty()
            || self.waits_for_consul();
        let lost = if is_waiting {
            0
        } else {
            let without = self.live_clusters_without(source, kind, listed);
            before.difference(&without).count()
        };
        self.keep(pending);
        Loss {
            clusters: before.len(),
            lost,
        }
    }

    /// The clusters that would be left.
    fn live_clusters_without(
        &mut self,
        source: Source,
        kind: Kind,
        listed: &BTreeSet<ObjectRef>,
    ) -> BTreeSet<Arc<str>> {
        let origin = Origin::of(source);
        let all = self.objects.of_source(source, kind);
        let mut missing = Vec::new();
        for object in all.difference(listed) {
            missing.extend(self.filed_as(&origin, object));
            // with their annotations
            if annotation::is_read_from(kind) {
                let origin = Origin::owned(Source::Annotation, object.clone());
                let owned = self.objects.owned(&origin);
                missing.extend(
                    owned
                        .iter()
                        .filter_map(|object| self.filed_as(&origin, object)),
                );
            }
        }
        // forgotten with the last reference
        let known_missing = self.secrets.missing.clone();
        for found in &missing {
            self.remove(&found.origin, &found.reconciled.object);
        }
        self.link();
        let left = self.live_clusters();
        self.secrets.missing = known_missing;
        for found in missing {
            let object = found.reconciled.object.clone();
            self.file(&found.origin, found.reconciled);
            if let Some(document) = found.document {
                self.objects.place(&found.origin, &object, document);
            }
        }
        self.link();
        left
    }

    /// What can be filed again after it was removed.
    fn filed_as(&self, origin: &Origin, object: &ObjectRef) -> Option<Removed> {
        let forms = self.older_forms.get(origin, object).cloned();
        let reconciled = forms.or_else(|| self.objects.reconciled(origin, object))?;
        Some(Removed {
            reconciled,
            document: self.objects.document(origin, object),
            origin: origin.clone(),
        })
    }

    /// The names of the clusters that have an address, or a name to find one by.
    fn live_clusters(&self) -> BTreeSet<Arc<str>> {
        let clusters = self.ir.clusters.values();
        let is_live = |discovery: &Discovery| match discovery {
            Discovery::Empty => false,
            Discovery::Static { .. } | Discovery::Dns { .. } | Discovery::Several { .. } => true,
            Discovery::Endpoints(name) => {
                let endpoints = self.ir.endpoints.get(name);
                endpoints.is_some_and(|endpoints| !endpoints.addresses.is_empty())
            }
        };
        let live = clusters.filter(|cluster| is_live(&cluster.discovery));
        live.map(|cluster| cluster.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        change::{Change, Owned},
        reconcile::reconcile,
        settings::Settings,
    };

    fn apply(store: &mut Store, kind: Kind, name: &str, mut value: Value) {
        value["metadata"] = json!({"name": name, "namespace": "default"});
        if kind == Kind::EndpointSlice {
            value["metadata"]["labels"] = json!({"kubernetes.io/service-name": "a"});
        }
        let found = reconcile(kind, value, &store.settings);
        store.apply(Change::Apply(Source::Api, found.into()));
    }

    fn mapping(store: &mut Store, name: &str, service: &str, resolver: &str) {
        let prefix = format!("/{name}/");
        let spec =
            json!({"hostname": "*", "prefix": prefix, "service": service, "resolver": resolver});
        apply(store, Kind::Mapping, name, json!({"spec": spec}));
    }

    /// The loss if only these objects of a kind were left.
    fn left(store: &mut Store, kind: Kind, names: &[&str]) -> (usize, usize) {
        let names = names.iter();
        let listed = names.map(|name| ObjectRef::new(kind, "default", name));
        let loss = store.loss(Source::Api, kind, &listed.collect());
        (loss.lost, loss.clusters)
    }

    #[test]
    fn a_cluster_is_lost_with_its_last_mapping() {
        let mut store = Store::new(Settings::default());
        // six Mappings, three of them with one cluster: 40 % of the objects can be most of the clusters, and the reverse
        for (name, address) in [("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 2), ("f", 3)] {
            mapping(&mut store, name, &format!("10.0.0.{address}"), "");
        }
        let all = ["a", "b", "c", "d", "e", "f"];
        assert_eq!(left(&mut store, Kind::Mapping, &all), (0, 3));
        assert_eq!(left(&mut store, Kind::Mapping, &all[..4]), (2, 3));
        assert_eq!(left(&mut store, Kind::Mapping, &all[3..]), (0, 3));
        assert_eq!(left(&mut store, Kind::Mapping, &[]), (3, 3));
        assert_eq!(left(&mut store, Kind::Host, &[]), (0, 3));
        let half = Loss {
            clusters: 4,
            lost: 2,
        };
        assert!(!half.is_most());
        assert!(Loss { lost: 3, ..half }.is_most());
        assert!(!Loss::default().is_most());
    }

    #[test]
    fn a_cluster_is_lost_with_the_last_thing_that_its_addresses_come_from() {
        let mut store = Store::new(Settings::default());
        let ports = json!([{"name": "http", "port": 80}]);
        let spec = json!({"clusterIP": "10.96.0.1", "ports": ports});
        apply(&mut store, Kind::Service, "a", json!({"spec": spec}));
        for (name, address) in [("a-1", "10.0.0.1"), ("a-2", "10.0.0.2")] {
            let slice = json!({"addressType": "IPv4", "endpoints": [{"addresses": [address]}], "ports": ports});
            apply(&mut store, Kind::EndpointSlice, name, slice);
        }
        let empty = json!({"spec": {}});
        apply(&mut store, Kind::KubernetesEndpointResolver, "own", empty);
        mapping(&mut store, "m", "a", "own");
        let slices = Kind::EndpointSlice;
        assert_eq!(left(&mut store, slices, &["a-2"]), (0, 1));
        assert_eq!(left(&mut store, slices, &[]), (1, 1));
        assert_eq!(
            left(&mut store, Kind::KubernetesEndpointResolver, &[]),
            (1, 1)
        );
        assert_eq!(left(&mut store, Kind::Service, &["a"]), (0, 1));
    }

    #[test]
    fn a_cluster_is_lost_with_the_annotation_that_has_its_mapping() {
        let mut store = Store::new(Settings::default());
        let spec = json!({"clusterIP": "10.96.0.1", "ports": [{"port": 80}]});
        let owner = ObjectRef::new(Kind::Service, "default", "owner");
        for name in ["a", "owner"] {
            apply(&mut store, Kind::Service, name, json!({"spec": spec}));
        }
        let value = json!({
            "metadata": {"name": "m", "namespace": "default"},
            "spec": {"hostname": "*", "prefix": "/", "service": "a"},
        });
        let owned = Owned {
            owner: owner.into(),
            objects: vec![reconcile(Kind::Mapping, value, &store.settings)],
            documents: vec![3],
        };
        store.apply(Change::ReplaceOwned(Source::Annotation, owned));
        store.link();
        let before = store.reports().clone();
        assert_eq!(left(&mut store, Kind::Service, &["a"]), (1, 1));
        assert_eq!(left(&mut store, Kind::Service, &["a", "owner"]), (0, 1));
        store.link();
        assert_eq!(store.reports(), &before);
    }

    #[test]
    fn nothing_is_left_of_the_question() {
        let mut store = Store::new(Settings::default());
        for name in ["a", "b"] {
            mapping(&mut store, name, &format!("{name}.example"), "");
        }
        store.link();
        let tables = |store: &Store| format!("{:?}", store.ir());
        let before = (store.reports().clone(), tables(&store));
        mapping(&mut store, "c", "c.example", "");
        store.apply(Change::Delete(
            Source::Api,
            ObjectRef::new(Kind::Mapping, "default", "c"),
        ));
        assert_eq!(left(&mut store, Kind::Mapping, &[]), (2, 2));
        assert_eq!((store.reports().clone(), tables(&store)), before);
        mapping(&mut store, "d", "d.example", "");
        left(&mut store, Kind::Mapping, &[]);
        assert!(!store.link().units.is_empty(), "what was pending still is");
        let gone = ObjectRef::new(Kind::Mapping, "default", "d");
        store.apply(Change::Delete(Source::Api, gone.clone()));
        left(&mut store, Kind::Mapping, &[]);
        assert!(store.link().reports.contains(&(gone, None)), "so is this");
    }

    /// A Secret that is known to be missing has not become one that must be read first.
    #[test]
    fn a_host_does_not_wait_because_of_the_question() {
        let mut store = Store::new(Settings {
            reads_secrets_on_demand: true,
            ..Settings::default()
        });
        let spec = json!({"hostname": "a.example", "tlsSecret": {"name": "gone"}});
        apply(&mut store, Kind::Host, "a", json!({"spec": spec}));
        store.apply(Change::Replace(Source::Api, Kind::Secret, Vec::new()));
        store.link();
        let before = store.reports().clone();
        left(&mut store, Kind::Host, &[]);
        store.link();
        assert!(store.hosts.waiting.is_empty());
        assert_eq!(store.reports(), &before);
    }
}
