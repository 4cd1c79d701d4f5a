//! The objects whose annotations had others the last time: what they yield is removed with the annotation, or with them.

use std::{collections::BTreeMap, mem};

use nuncio_core::{
    change::{Change, Owned, Source},
    object::ObjectRef,
};

/// Objects with an annotation that yields something, and the fleets for which it does, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Annotated {
    owners: BTreeMap<ObjectRef, Vec<usize>>,
}

impl Annotated {
    /// The changes of each fleet when an object is new or differs: those of the object itself, and of what it yields, which
    /// is empty without an annotation.
    pub(crate) fn apply(
        &mut self,
        owner: &ObjectRef,
        owned: Vec<Owned>,
        changes: Vec<Option<Change>>,
    ) -> Vec<Vec<Change>> {
        let mut changes: Vec<Vec<Change>> = changes.into_iter().map(Vec::from_iter).collect();
        let before = self.owners.remove(owner);
        self.replace(
            owner,
            before.as_deref().unwrap_or_default(),
            owned,
            &mut changes,
        );
        changes
    }

    /// The changes of each fleet after a list of all objects: those of the list itself, and then of what its objects yield.
    pub(crate) fn list(
        &mut self,
        all: Vec<(ObjectRef, Vec<Owned>)>,
        changes: Vec<Option<Change>>,
    ) -> Vec<Vec<Change>> {
        let mut changes: Vec<Vec<Change>> = changes.into_iter().map(Vec::from_iter).collect();
        let mut before = mem::take(&mut self.owners);
        for (owner, owned) in all {
            let before = before.remove(&owner).unwrap_or_default();
            self.replace(&owner, &before, owned, &mut changes);
        }
        for (owner, before) in before {
            self.replace(&owner, &before, Vec::new(), &mut changes);
        }
        changes
    }

    /// Adds to the changes of each fleet what an object yields instead of what it yielded for these fleets.
    fn replace(
        &mut self,
        owner: &ObjectRef,
        before: &[usize],
        mut owned: Vec<Owned>,
        changes: &mut [Vec<Change>],
    ) {
        let mut now = Vec::new();
        owned.reverse();
        for (fleet, changes) in changes.iter_mut().enumerate() {
            let owned = owned.pop().filter(|owned| !owned.objects.is_empty());
            let owned = match owned {
                Some(owned) => {
                    now.push(fleet);
                    owned
                }
                None if before.contains(&fleet) => Owned::nothing(owner),
                None => continue,
            };
            changes.push(Change::ReplaceOwned(Source::Annotation, owned));
        }
        if !now.is_empty() {
            self.owners.insert(owner.clone(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use nuncio_core::{
        change::{Reconciled, ResourceVersion},
        object::Kind,
    };

    use super::*;

    fn owner(name: &str) -> ObjectRef {
        ObjectRef::new(Kind::Service, "default", name)
    }

    fn owned(name: &str, fleets: &[bool]) -> Vec<Owned> {
        let owned = |is_for: &bool| {
            let found = Reconciled {
                object: ObjectRef::new(Kind::Mapping, "default", name),
                generation: 1,
                version: ResourceVersion::Unknown,
                fragment: None,
                problems: Vec::new(),
                older: Vec::new(),
            };
            Owned {
                owner: owner(name).into(),
                objects: is_for.then_some(found).into_iter().collect(),
                documents: vec![1],
            }
        };
        fleets.iter().map(owned).collect()
    }

    /// For each fleet the objects that yield something now, with `+`, or nothing any more, with `-`.
    fn shown(changes: &[Vec<Change>]) -> Vec<String> {
        let shown = |change: &Change| match change {
            Change::ReplaceOwned(Source::Annotation, owned) => {
                let sign = if owned.objects.is_empty() { '-' } else { '+' };
                format!("{sign}{}", owned.owner.name)
            }
            other => format!("{other:?}"),
        };
        let fleet = |changes: &Vec<Change>| changes.iter().map(shown).collect();
        changes.iter().map(fleet).collect()
    }

    #[test]
    fn what_an_annotation_yielded_is_removed_with_it() {
        let mut annotated = Annotated::default();
        let mut apply = |name: &str, fleets: &[bool]| {
            shown(&annotated.apply(&owner(name), owned(name, fleets), vec![None, None]))
        };
        assert_eq!(apply("a", &[true, false]), ["+a", ""]);
        assert_eq!(apply("a", &[true, true]), ["+a", "+a"]);
        assert_eq!(apply("a", &[false, true]), ["-a", "+a"]);
        assert_eq!(apply("a", &[]), ["", "-a"]);
        assert_eq!(apply("a", &[]), ["", ""]);
    }

    #[test]
    fn what_a_list_lacks_is_removed() {
        let mut annotated = Annotated::default();
        let mut list = |names: &[&str]| {
            let all = names.iter();
            let all = all.map(|name| (owner(name), owned(name, &[true])));
            shown(&annotated.list(all.collect(), vec![None]))
        };
        assert_eq!(list(&["a", "b"]), ["+a+b"]);
        assert_eq!(list(&["b", "c"]), ["+b+c-a"]);
        assert_eq!(list(&[]), ["-b-c"]);
        assert_eq!(list(&[]), [""]);
    }
}
