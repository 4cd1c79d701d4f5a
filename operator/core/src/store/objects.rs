//! Level of objects: what each source has of each object, and which of them is served.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use litemap::LiteMap;

use crate::{
    change::{Origin, Reconciled, ResourceVersion, Source},
    object::{Kind, ObjectRef},
    reconcile::Fragment,
    report::{Problem, Reason},
};

/// Every object, from whichever source.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// By precedence: the first is served. Nearly all objects have one origin.
    by_ref: BTreeMap<ObjectRef, LiteMap<Origin, Object>>,
    /// Objects that others were generated from, with what they yield and the number of the document that it is in, if it is
    /// in one.
    owned: BTreeMap<Origin, BTreeMap<ObjectRef, Option<u32>>>,
}

/// An object as its reconciler left it.
#[derive(Debug, PartialEq)]
pub(super) struct Object {
    pub(super) generation: i64,
    pub(super) fragment: Option<Fragment>,
    pub(super) problems: Vec<Problem>,
}

/// What filing an object changed for the levels below.
#[derive(Debug, PartialEq)]
pub(super) enum Filed {
    /// Nothing.
    Same,
    /// Its report at most.
    Report,
    /// What it adds to the gateway, which is now this.
    Fragment(Option<Fragment>),
}

impl Objects {
    /// Files what a source has of an object.
    pub(super) fn file(&mut self, origin: &Origin, reconciled: Reconciled) -> Filed {
        let Reconciled {
            object,
            generation,
            version: _,
            fragment,
            problems,
            older: _,
        } = reconciled;
        if fragment.is_none() && problems.is_empty() {
            // nothing to serve and nothing to report: an object of another instance
            return self.remove(origin, &object);
        }
        let new = Object {
            generation,
            fragment,
            problems,
        };
        let origins = self.by_ref.entry(object.clone());
        let origins = origins.or_insert_with(|| LiteMap::with_capacity(1));
        if origins.get(origin) == Some(&new) {
            return Filed::Same;
        }
        let before = served(origins).and_then(|object| object.fragment.clone());
        let was_there = !origins.is_empty();
        origins.insert(origin.clone(), new);
        if origin.owner.is_some() {
            let owned = self.owned.entry(origin.clone()).or_default();
            owned.entry(object).or_default();
        }
        let now = served(origins).and_then(|object| object.fragment.clone());
        // an object that is new is set even if it adds nothing: that it exists may matter
        if was_there && before == now {
            Filed::Report
        } else {
            Filed::Fragment(now)
        }
    }

    /// Removes what a source has of an object.
    pub(super) fn remove(&mut self, origin: &Origin, object: &ObjectRef) -> Filed {
        let Entry::Occupied(mut origins) = self.by_ref.entry(object.clone()) else {
            return Filed::Same;
        };
        let before = served(origins.get()).and_then(|object| object.fragment.clone());
        if origins.get_mut().remove(origin).is_none() {
            return Filed::Same;
        }
        if let Entry::Occupied(mut owned) = self.owned.entry(origin.clone()) {
            owned.get_mut().remove(object);
            if owned.get().is_empty() {
                owned.remove();
            }
        }
        if origins.get().is_empty() {
            origins.remove();
            return Filed::Fragment(None);
        }
        let now = served(origins.get()).and_then(|object| object.fragment.clone());
        if before == now {
            Filed::Report
        } else {
            Filed::Fragment(now)
        }
    }

    /// The objects of a kind that the source itself has.
    pub(super) fn of_source(&self, source: Source, kind: Kind) -> BTreeSet<ObjectRef> {
        let origin = Origin::of(source);
        self.of_kind(kind)
            .filter(|object| self.by_ref[*object].contains_key(&origin))
            .cloned()
            .collect()
    }

    /// The objects that this one yields.
    pub(super) fn owned(&self, origin: &Origin) -> BTreeSet<ObjectRef> {
        let owned = self.owned.get(origin).into_iter();
        owned.flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Whether any object yields others.
    pub(super) fn has_owners(&self) -> bool {
        !self.owned.is_empty()
    }

    /// Records which document of its owner an object is in; whether it was another.
    pub(super) fn place(&mut self, origin: &Origin, object: &ObjectRef, document: u32) -> bool {
        let place = self.owned.get_mut(origin);
        let place = place.and_then(|owned| owned.get_mut(object));
        place.is_some_and(|place| place.replace(document) != Some(document))
    }

    /// The object that is served.
    pub(super) fn get(&self, object: &ObjectRef) -> Option<&Object> {
        served(self.by_ref.get(object)?)
    }

    /// Where the object that is served comes from.
    pub(super) fn origin(&self, object: &ObjectRef) -> Option<&Origin> {
        let (origin, _) = self.by_ref.get(object)?.first()?;
        Some(origin)
    }

    /// The document of this origin that an object is in, if it is in one.
    pub(super) fn document(&self, origin: &Origin, object: &ObjectRef) -> Option<u32> {
        *self.owned.get(origin)?.get(object)?
    }

    /// The objects that this one is generated from, whether it is served like that or not.
    pub(super) fn owners(&self, object: &ObjectRef) -> impl Iterator<Item = &ObjectRef> {
        let origins = self.by_ref.get(object).into_iter().flat_map(LiteMap::keys);
        origins.filter_map(|origin| origin.owner.as_deref())
    }

    /// The object as this origin has it.
    pub(super) fn reconciled(&self, origin: &Origin, object: &ObjectRef) -> Option<Reconciled> {
        let found = self.by_ref.get(object)?.get(origin)?;
        Some(Reconciled {
            object: object.clone(),
            generation: found.generation,
            version: ResourceVersion::Unknown,
            fragment: found.fragment.clone(),
            problems: found.problems.clone(),
            older: Vec::new(),
        })
    }

    /// Whether any source has the object, valid or not.
    pub(super) fn has(&self, object: &ObjectRef) -> bool {
        self.by_ref.contains_key(object)
    }

    /// The objects of a kind, in order.
    pub(super) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &ObjectRef> {
        self.by_ref
            .range(ObjectRef::new(kind, "", "")..)
            .map(|(object, _)| object)
            .take_while(move |object| object.kind == kind)
    }

    /// Notices about sources whose object is not served, because another source has it, too.
    pub(super) fn notices(&self, object: &ObjectRef) -> Vec<Problem> {
        let origins = self.by_ref.get(object);
        let mut origins = origins.into_iter().flat_map(LiteMap::keys);
        let Some(first) = origins.next() else {
            return Vec::new();
        };
        let notice = |other: &Origin| {
            let message = format!("also defined by {other}; using the one of {first}");
            Problem::notice(Reason::DUPLICATE, "", message)
        };
        origins.map(notice).collect()
    }
}

fn served(origins: &LiteMap<Origin, Object>) -> Option<&Object> {
    origins.first().map(|(_, object)| object)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::reconcile::ResolverKind;

    fn resolver(name: &str, fragment: Option<ResolverKind>) -> Reconciled {
        Reconciled {
            object: ObjectRef::new(Kind::KubernetesEndpointResolver, "default", name),
            generation: 1,
            version: ResourceVersion::Unknown,
            fragment: fragment.map(Fragment::Resolver),
            problems: vec![Problem::notice(Reason::IGNORED, "", "a hint")],
            older: Vec::new(),
        }
    }

    fn fragment(kind: ResolverKind) -> Filed {
        Filed::Fragment(Some(Fragment::Resolver(kind)))
    }

    #[test]
    fn removing_the_source_that_is_served_restores_the_next() {
        let mut objects = Objects::default();
        let (istio, api) = (Origin::of(Source::Istio), Origin::of(Source::Api));
        let (service, endpoints) = (ResolverKind::Service, ResolverKind::Endpoints);
        let found = resolver("a", Some(service.clone()));
        let object = found.object.clone();
        assert_eq!(objects.file(&api, found.clone()), fragment(service.clone()));
        assert_eq!(objects.file(&api, found), Filed::Same);
        assert_eq!(
            objects.file(&istio, resolver("a", Some(endpoints.clone()))),
            fragment(endpoints)
        );
        assert_eq!(objects.notices(&object).len(), 1);
        assert_eq!(
            objects.file(&api, resolver("a", None)),
            Filed::Report,
            "not the one that is served"
        );
        objects.file(&api, resolver("a", Some(service.clone())));
        assert_eq!(objects.remove(&istio, &object), fragment(service));
        assert_eq!(objects.remove(&istio, &object), Filed::Same);
        assert_eq!(objects.remove(&api, &object), Filed::Fragment(None));
        assert!(!objects.has(&object));
    }

    #[test]
    fn what_an_object_yields_is_known() {
        let mut objects = Objects::default();
        let origin = Origin {
            source: Source::Api,
            owner: Some(Arc::new(ObjectRef::new(Kind::Service, "default", "s"))),
        };
        for name in ["a", "b"] {
            objects.file(&origin, resolver(name, Some(ResolverKind::Service)));
        }
        let yielded = objects.owned(&origin);
        assert_eq!(yielded.len(), 2);
        if let Some(first) = yielded.first() {
            objects.remove(&origin, first);
        }
        assert_eq!(objects.owned(&origin).len(), 1);
        let own = objects.of_source(Source::Api, Kind::KubernetesEndpointResolver);
        assert!(own.is_empty(), "a list of the source does not remove them");
    }
}
