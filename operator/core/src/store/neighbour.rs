//! Objects of other namespaces: what one namespace does to another's is reported on both.

use crate::{
    object::ObjectRef,
    report::{Problem, Reason},
};

/// For each of some objects the first one of another namespace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Neighbours<'a> {
    first: Option<&'a ObjectRef>,
    /// The first whose namespace is not that of the first.
    other: Option<&'a ObjectRef>,
}

impl<'a> Neighbours<'a> {
    pub(super) fn of(objects: impl IntoIterator<Item = &'a ObjectRef>) -> Self {
        let mut objects = objects.into_iter();
        let first = objects.next();
        let other =
            objects.find(|object| first.is_some_and(|first| first.namespace != object.namespace));
        Self { first, other }
    }

    /// The first object of another namespace than this one's.
    pub(super) fn of_another_namespace(&self, object: &ObjectRef) -> Option<&'a ObjectRef> {
        let differs = |found: &&ObjectRef| found.namespace != object.namespace;
        self.first.filter(differs).or(self.other.filter(differs))
    }
}

/// A notice of what an object of another namespace does.
pub(super) fn notice(path: &str, other: &ObjectRef, fact: &str) -> Problem {
    let message = format!("{other} of another namespace {fact}");
    Problem::notice(Reason::CROSS_NAMESPACE, path, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    #[test]
    fn the_first_of_another_namespace_is_found() {
        let object = |namespace: &str, name: &str| ObjectRef::new(Kind::Mapping, namespace, name);
        let all = [
            object("a", "1"),
            object("a", "2"),
            object("b", "3"),
            object("c", "4"),
        ];
        let found = |object| {
            let neighbours = Neighbours::of(&all);
            neighbours
                .of_another_namespace(object)
                .map(|found| &*found.name)
        };
        assert_eq!(found(&all[0]), Some("3"));
        assert_eq!(found(&all[1]), Some("3"));
        assert_eq!(found(&all[2]), Some("1"));
        assert_eq!(found(&all[3]), Some("1"));
        assert!(
            Neighbours::of(&all[..2])
                .of_another_namespace(&all[0])
                .is_none()
        );
    }
}
