//! To which objects a rejected resource is attributed.
//!
//! A route table is made of many Mappings. Those that changed in the snapshot that brought the rejected version are meant,
//! and the Host and Listener around them. Later snapshots that do not change the table do not change that. While Envoys serve
//! an earlier version of the table, those that changed since are meant, because none of their changes is served. After a restart
//! the first snapshot brings everything: then those are meant whose status said so before.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use nuncio_core::object::{Kind, ObjectRef};
use nuncio_xds::{ResourceType, Unit, Version, cache::Update, resource::Ref};

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
    /// Objects that changed in the snapshots that brought this version and those before it that not every Envoy has accepted;
    /// `None` in the first snapshot.
    changed: Option<Vec<Arc<BTreeSet<ObjectRef>>>>,
}

/// Sets of objects that are kept apart for one version.
const SETS: usize = 64;

impl Attribution {
    /// Records the first snapshot. These objects were rejected before.
    pub(super) fn start(&mut self, update: &Update, rejected_before: BTreeSet<ObjectRef>) {
        self.rejected_before = rejected_before;
        self.record_origins(update, None, |_| false);
    }

    /// Records a snapshot, with the objects that changed in it. `is_tried` says of which resources not every Envoy has accepted
    /// the version before.
    pub(super) fn record(
        &mut self,
        update: &Update,
        changed: BTreeSet<ObjectRef>,
        is_tried: impl Fn(&Ref) -> bool,
    ) {
        self.record_origins(update, Some(&Arc::new(changed)), is_tried);
    }

    fn record_origins(
        &mut self,
        update: &Update,
        changed: Option<&Arc<BTreeSet<ObjectRef>>>,
        is_tried: impl Fn(&Ref) -> bool,
    ) {
        let is_shared = |kind| matches!(kind, ResourceType::Listener | ResourceType::RouteTable);
        let upserts = update.upserts.iter();
        for resource in upserts.filter(|resource| is_shared(resource.kind)) {
            let Some(unit) = Unit::parse(resource.kind, &resource.name) else {
                continue;
            };
            let known = self.origins.get(&unit);
            if known.is_some_and(|known| known.version == resource.version) {
                continue;
            }
            let before = known.filter(|_| is_tried(&(resource.kind, resource.name.clone())));
            let before = before.and_then(|before| before.changed.clone());
            let origin = Origin {
                version: resource.version,
                changed: changed.map(|changed| added(before.unwrap_or_default(), changed)),
            };
            self.origins.insert(unit, origin);
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
        let is_meant = |owner: &ObjectRef| match &origin.changed {
            Some(changed) => changed.iter().any(|changed| changed.contains(owner)),
            None => before.contains(owner),
        };
        let mut mappings = owners.iter().filter(|owner| is_mapping(owner));
        if origin.changed.is_none() && !mappings.any(is_meant) {
            return owners;
        }
        let is_concerned = |owner: &ObjectRef| !is_mapping(owner) || is_meant(owner);
        owners.into_iter().filter(is_concerned).collect()
    }
}

/// These sets and one more. Many are united, so that they do not become more and more.
fn added(
    mut sets: Vec<Arc<BTreeSet<ObjectRef>>>,
    set: &Arc<BTreeSet<ObjectRef>>,
) -> Vec<Arc<BTreeSet<ObjectRef>>> {
    if sets.len() >= SETS {
        let all = sets.iter().flat_map(|set| set.iter());
        sets = vec![Arc::new(all.cloned().collect())];
    }
    sets.push(set.clone());
    sets
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
        attribution.record(&update("2"), [mapping("b")].into(), |_| false);
        assert_eq!(concerned(&attribution), ["b"]);
    }

    #[test]
    fn update_that_changes_nothing_does_not_clear_it() {
        let mut attribution = Attribution::default();
        attribution.start(&update("1"), BTreeSet::new());
        attribution.record(&update("2"), [mapping("b")].into(), |_| false);
        attribution.record(&update("2"), [mapping("a"), mapping("b")].into(), |_| true);
        attribution.record(&Update::default(), [mapping("c")].into(), |_| true);
        assert_eq!(concerned(&attribution), ["b"]);
    }

    #[test]
    fn mappings_that_changed_since_the_version_that_is_served_are_meant() {
        let mut attribution = Attribution::default();
        attribution.start(&update("1"), BTreeSet::new());
        attribution.record(&update("2"), [mapping("b")].into(), |_| false);
        attribution.record(&update("3"), [mapping("c")].into(), |_| true);
        assert_eq!(concerned(&attribution), ["b", "c"]);
        attribution.record(&update("4"), [mapping("a")].into(), |_| false);
        assert_eq!(concerned(&attribution), ["a"]);
    }

    #[test]
    fn after_a_restart_the_status_says_which_were_meant() {
        let mut attribution = Attribution::default();
        attribution.start(&update("2"), [mapping("b")].into());
        assert_eq!(concerned(&attribution), ["b"]);
        attribution.record(&update("3"), [mapping("c")].into(), |_| false);
        assert_eq!(concerned(&attribution), ["c"]);
    }
}
