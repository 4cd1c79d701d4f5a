//! The fleets that have an object. A fleet that does not have one, and does not get it, gets no change of it: what happens
//! to objects of others costs it nothing, and it does not know their names.

use std::collections::HashMap;

use nuncio_core::{
    change::{Change, Reconciled, Source},
    object::ObjectRef,
};

use super::known::key;

/// The fleets that have each object, by the hashes of names. Empty for one fleet, which has everything.
#[derive(Debug)]
pub(crate) struct Audience {
    fleets: usize,
    /// Numbers of fleets, ascending.
    objects: HashMap<u64, Vec<usize>>,
}

impl Audience {
    pub(crate) fn new(fleets: usize) -> Self {
        Self {
            fleets,
            objects: HashMap::new(),
        }
    }

    /// The change of each fleet when an object is new or differs.
    pub(crate) fn apply(
        &mut self,
        object: &ObjectRef,
        found: Vec<Option<Reconciled>>,
    ) -> Vec<Option<Change>> {
        let before = self.remember(object, &found);
        let change = |(fleet, found)| match found {
            Some(found) => Some(Change::Apply(Source::Api, Box::new(found))),
            None if before.contains(&fleet) => Some(Change::Delete(Source::Api, object.clone())),
            None => None,
        };
        found.into_iter().enumerate().map(change).collect()
    }

    /// The change of each fleet when an object is deleted.
    pub(crate) fn delete(&mut self, object: &ObjectRef) -> Vec<Option<Change>> {
        let before = self.forget(object);
        let has = |fleet: usize| self.fleets == 1 || before.contains(&fleet);
        let change = |fleet| has(fleet).then(|| Change::Delete(Source::Api, object.clone()));
        (0..self.fleets).map(change).collect()
    }

    /// A list begins: what is not in it is gone.
    pub(crate) fn clear(&mut self) {
        self.objects.clear();
    }

    /// Records which fleets have an object; returns those that had it.
    pub(crate) fn remember(
        &mut self,
        object: &ObjectRef,
        found: &[Option<Reconciled>],
    ) -> Vec<usize> {
        if self.fleets == 1 {
            return Vec::new();
        }
        let fleets = found.iter().enumerate();
        let fleets: Vec<usize> = fleets
            .filter_map(|(fleet, found)| found.is_some().then_some(fleet))
            .collect();
        if fleets.is_empty() {
            return self.forget(object);
        }
        let before = self.objects.insert(hash(object), fleets);
        before.unwrap_or_default()
    }

    fn forget(&mut self, object: &ObjectRef) -> Vec<usize> {
        self.objects.remove(&hash(object)).unwrap_or_default()
    }
}

fn hash(object: &ObjectRef) -> u64 {
    key(&object.namespace, &object.name)
}

#[cfg(test)]
mod tests {
    use nuncio_core::{change::ResourceVersion, object::Kind};

    use super::*;

    fn object(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Mapping, "default", name)
    }

    fn found(object: &ObjectRef, fleets: &[bool]) -> Vec<Option<Reconciled>> {
        let found = |is_for: &bool| {
            is_for.then(|| Reconciled {
                object: object.clone(),
                generation: 1,
                version: ResourceVersion::Unknown,
                fragment: None,
                problems: Vec::new(),
                older: Vec::new(),
            })
        };
        fleets.iter().map(found).collect()
    }

    /// `+` for an object, `-` for a deletion, ` ` for no change.
    fn shown(changes: &[Option<Change>]) -> String {
        let shown = |change: &Option<Change>| match change {
            Some(Change::Apply(..)) => '+',
            Some(_) => '-',
            None => ' ',
        };
        changes.iter().map(shown).collect()
    }

    #[test]
    fn a_fleet_that_does_not_have_an_object_gets_no_change_of_it() {
        let mut audience = Audience::new(3);
        let mut apply = |name: &str, fleets: [bool; 3]| {
            let object = object(name);
            shown(&audience.apply(&object, found(&object, &fleets)))
        };
        assert_eq!(apply("a", [true, false, false]), "+  ");
        assert_eq!(apply("b", [true, true, true]), "+++");
        assert_eq!(apply("a", [true, true, false]), "++ ");
        assert_eq!(apply("a", [false, true, false]), "-+ ");
        assert_eq!(apply("a", [false, false, false]), " - ");
        assert_eq!(apply("a", [false, false, false]), "   ");
        assert_eq!(shown(&audience.delete(&object("b"))), "---");
        assert_eq!(shown(&audience.delete(&object("b"))), "   ");
    }

    #[test]
    fn one_fleet_gets_every_change() {
        let mut audience = Audience::new(1);
        let object = object("a");
        let changes = audience.apply(&object, found(&object, &[true]));
        assert_eq!(shown(&changes), "+");
        assert_eq!(shown(&audience.delete(&object)), "-");
        assert_eq!(shown(&audience.delete(&object)), "-");
    }
}
