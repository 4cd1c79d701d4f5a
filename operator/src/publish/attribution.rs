//! To which objects a rejected resource is attributed.
//!
//! A route table is made of many Mappings. Those that changed in the snapshot that brought the rejected version are meant,
//! and the Host and Listener around them. Later snapshots that do not change the table do not change that. After a restart
//! the first snapshot brings everything: then those are meant whose status said so before.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nuncio_core::object::{Kind, ObjectRef};
use nuncio_xds::{ResourceType, Unit, Version, cache::Update};

/// Where the current versions of listeners and route tables come from.
#[derive(Debug, Default)]
pub(super) struct Attribution {
    origins: BTreeMap<Unit, Origin>,
    /// Objects whose status said that Envoy rejects them when this process started.
    rejected_before: BTreeSet<ObjectRef>,
}

#[derive(Debug)]
struct Origin {
    version: Version,
    /// Objects that changed in the snapshot that brought this version; `None` in the first snapshot.
    changed: Option<Arc<BTreeSet<ObjectRef>>>,
}

impl Attribution {
    /// Records the first snapshot. These objects were rejected before.
    pub(super) fn start(&mut self, update: &Update, rejected_before: BTreeSet<ObjectRef>) {
        self.rejected_before = rejected_before;
        self.record_origins(update, None);
    }

    /// Records a snapshot, with the objects that changed in it.
    pub(super) fn record(&mut self, update: &Update, changed: BTreeSet<ObjectRef>) {
        self.record_origins(update, Some(&Arc::new(changed)));
    }

    fn record_origins(&mut self, update: &Update, changed: Option<&Arc<BTreeSet<ObjectRef>>>) {
        let is_shared = |kind| matches!(kind, ResourceType::Listener | ResourceType::RouteTable);
        let upserts = update.upserts.iter();
        for resource in upserts.filter(|resource| is_shared(resource.kind)) {
            let Some(unit) = Unit::parse(resource.kind, &resource.name) else {
                continue;
            };
            let known = self.origins.get(&unit);
            if known.is_none_or(|known| known.version != resource.version) {
                let origin = Origin {
                    version: resource.version,
                    changed: changed.cloned(),
                };
                self.origins.insert(unit, origin);
            }
        }
        for (kind, name) in &update.removals {
            if let Some(unit) = Unit::parse(*kind, name) {
                self.origins.remove(&unit);
            }
        }
    }

    /// Those of the owners of a rejected resource that are meant.
    pub(super) fn concerned(
        &self,
        unit: &Unit,
        owners: BTreeSet<ObjectRef>,
    ) -> BTreeSet<ObjectRef> {
        let Some(origin) = self.origins.get(unit) else {
            return owners;
        };
        let before = &self.rejected_before;
        let meant = match &origin.changed {
            Some(changed) => changed.as_ref(),
            None if owners
                .iter()
                .any(|owner| is_mapping(owner) && before.contains(owner)) =>
            {
                before
            }
            None => return owners,
        };
        let is_meant = |owner: &ObjectRef| !is_mapping(owner) || meant.contains(owner);
        owners.into_iter().filter(is_meant).collect()
    }
}

fn is_mapping(object: &ObjectRef) -> bool {
    object.kind == Kind::Mapping
}

#[cfg(test)]
mod tests {
    use nuncio_xds::Resource;

    use super::*;

    const TABLE: &str = "tcp-8080/cleartext";

    fn update(body: &'static str) -> Update {
        let body = body.as_bytes().into();
        Update {
            upserts: vec![Resource::new(ResourceType::RouteTable, TABLE, body)],
            ..Update::default()
        }
    }

    fn mapping(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Mapping, "default", name)
    }

    /// Names of the Mappings that are meant, among these.
    fn concerned(attribution: &Attribution) -> Vec<String> {
        let unit = Unit::parse(ResourceType::RouteTable, TABLE).unwrap();
        let owners = ["a", "b", "c"].map(mapping).into_iter();
        let host = ObjectRef::new(Kind::Host, "default", "host");
        let meant = attribution.concerned(&unit, owners.chain([host.clone()]).collect());
        assert!(meant.contains(&host));
        let mappings = meant.iter().filter(|object| is_mapping(object));
        mappings.map(|object| object.name.to_string()).collect()
    }

    #[test]
    fn mappings_that_brought_the_rejected_version_are_meant() {
        let mut attribution = Attribution::default();
        attribution.start(&update("1"), BTreeSet::new());
        assert_eq!(concerned(&attribution), ["a", "b", "c"]);
        attribution.record(&update("2"), [mapping("b")].into());
        assert_eq!(concerned(&attribution), ["b"]);
    }

    #[test]
    fn update_that_changes_nothing_does_not_clear_it() {
        let mut attribution = Attribution::default();
        attribution.start(&update("1"), BTreeSet::new());
        attribution.record(&update("2"), [mapping("b")].into());
        attribution.record(&update("2"), [mapping("a"), mapping("b")].into());
        attribution.record(&Update::default(), [mapping("c")].into());
        assert_eq!(concerned(&attribution), ["b"]);
    }

    #[test]
    fn after_a_restart_the_status_says_which_were_meant() {
        let mut attribution = Attribution::default();
        attribution.start(&update("2"), [mapping("b")].into());
        assert_eq!(concerned(&attribution), ["b"]);
        attribution.record(&update("3"), [mapping("c")].into());
        assert_eq!(concerned(&attribution), ["c"]);
    }
}
