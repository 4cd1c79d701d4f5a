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
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        change::{Change, Source},
        object::Kind,
        reconcile::reconcile,
        settings::Settings,
        store::Store,
    };

    fn apply(store: &mut Store, kind: Kind, namespace: &str, name: &str, spec: &Value) {
        let value = json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec});
        let reconciled = reconcile(kind, value, &Settings::default());
        store.apply(Change::Apply(Source::Api, Box::new(reconciled)));
        store.link();
    }

    fn mapping(store: &mut Store, namespace: &str, name: &str, more: &Value) {
        let mut spec = json!({"hostname": "*", "prefix": "/", "service": "10.0.0.1"});
        let fields = more.as_object().unwrap().clone();
        spec.as_object_mut().unwrap().extend(fields);
        apply(store, Kind::Mapping, namespace, name, &spec);
    }

    fn delete(store: &mut Store, namespace: &str, name: &str) {
        let object = ObjectRef::new(Kind::Mapping, namespace, name);
        store.apply(Change::Delete(Source::Api, object));
        store.link();
    }

    /// The Mappings with a notice.
    fn notified(store: &Store) -> Vec<&str> {
        let is_notice = |problem: &Problem| problem.reason == Reason::CROSS_NAMESPACE;
        let reports = store.reports().iter();
        let notified = reports.filter(|(_, report)| report.problems.iter().any(is_notice));
        notified.map(|(object, _)| &*object.name).collect()
    }

    fn store() -> Store {
        let mut store = Store::new(Settings::default());
        let spec = json!({"port": 8080, "protocol": "HTTP", "securityModel": "XFP", "hostBinding": {"namespace": {"from": "ALL"}}});
        apply(&mut store, Kind::Listener, "default", "http", &spec);
        store
    }

    #[test]
    fn notices_come_and_go_with_a_mapping_that_is_tried_first() {
        let mut store = store();
        mapping(&mut store, "shop", "a", &json!({}));
        mapping(&mut store, "shop", "b", &json!({"method": "PUT"}));
        assert_eq!(notified(&store), [""; 0]);
        let beta = json!({"headers": {"x-beta": "1"}});
        mapping(&mut store, "other", "c", &beta);
        assert_eq!(notified(&store), ["a", "b", "c"]);
        delete(&mut store, "other", "c");
        assert_eq!(notified(&store), [""; 0]);
    }

    #[test]
    fn notices_come_and_go_with_a_mapping_that_is_unreachable() {
        let mut store = store();
        mapping(&mut store, "other", "all", &json!({"precedence": 1}));
        assert_eq!(notified(&store), [""; 0]);
        mapping(&mut store, "shop", "a", &json!({"prefix": "/a/"}));
        assert_eq!(notified(&store), ["all"]);
        mapping(
            &mut store,
            "shop",
            "a",
            &json!({"prefix": "/a/", "precedence": 2}),
        );
        assert_eq!(notified(&store), [""; 0]);
    }

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
