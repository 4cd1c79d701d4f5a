//! Which objects there are: their kinds and their identity.

use std::{cmp::Ordering, fmt, sync::Arc};

use nuncio_crds::kind::Scope;
use nuncio_ir::Origin;

use crate::reconcile::Name;

pub use nuncio_crds::Kind;

/// Identity of one object. Cheap to clone.
///
/// Ordered by kind, then by the bytes of `NAME.NAMESPACE.1`, which is how Emissary orders its resources: the order in which
/// conflicts between objects of a kind are decided, so that the same object wins after a migration. `-` comes before `.`,
/// so that `api-canary` is before `api`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// Kind of the object.
    pub kind: Kind,
    /// `metadata.name`
    pub name: Arc<str>,
    /// `metadata.namespace`; empty for kinds that have none.
    pub namespace: Arc<str>,
}

impl ObjectRef {
    /// The object of this kind with this name.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            name: name.into(),
            namespace: namespace.into(),
        }
    }

    /// This object, for what is made from it.
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            kind: self.kind.name(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

impl Ord for ObjectRef {
    fn cmp(&self, other: &Self) -> Ordering {
        self.kind
            .cmp(&other.kind)
            .then_with(|| cmp_keys(&self.name, &self.namespace, &other.name, &other.namespace))
    }
}

impl PartialOrd for ObjectRef {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Compares `NAME.NAMESPACE.1` of two objects. No name comes before every name.
fn cmp_keys(name: &str, namespace: &str, other_name: &str, other_namespace: &str) -> Ordering {
    fn key<'a>(name: &'a str, namespace: &'a str) -> impl Iterator<Item = u8> + 'a {
        let suffix = ".1".bytes();
        name.bytes()
            .chain(".".bytes())
            .chain(namespace.bytes())
            .chain(suffix)
    }
    let common = name.len().min(other_name.len());
    let (start, other_start) = (&name.as_bytes()[..common], &other_name.as_bytes()[..common]);
    let by_key = || {
        other_name
            .is_empty()
            .cmp(&name.is_empty())
            .then_with(|| key(name, namespace).cmp(key(other_name, other_namespace)))
            // `a.b` in `c` and `a` in `b.c` have the same key, though no cluster has such a namespace
            .then_with(|| name.cmp(other_name))
    };
    // different names are told apart without the rest, unless one begins with the other
    start.cmp(other_start).then_with(by_key)
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind.info().scope {
            Scope::Namespaced => write!(f, "{} {}/{}", self.kind, self.namespace, self.name),
            Scope::Cluster => write!(f, "{} {}", self.kind, self.name),
            Scope::File => f.write_str(&self.name),
        }
    }
}

impl Name {
    /// The name of this object.
    #[must_use]
    pub fn of(object: &ObjectRef) -> Self {
        Self {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{reconcile::reconcile, settings::Settings};

    #[test]
    fn objects_are_named_by_what_identifies_them() {
        let name = |kind| ObjectRef::new(kind, "ns", "x").to_string();
        assert_eq!(name(Kind::TlsContext), "TLSContext ns/x");
        assert_eq!(name(Kind::Namespace), "Namespace x");
        assert_eq!(name(Kind::Document), "x");
    }

    /// A watch names what was deleted by the metadata that the apiserver sends, which has no namespace here.
    #[test]
    fn a_namespace_is_deleted_by_its_name_alone() {
        let found = reconcile(
            Kind::Namespace,
            json!({"metadata": {"name": "x"}}),
            &Settings::default(),
        );
        assert_eq!(found.object, ObjectRef::new(Kind::Namespace, "", "x"));
    }

    #[test]
    fn objects_are_in_the_order_of_their_keys() {
        let expected = [
            ("", ""),
            ("a", "b"),
            ("a", "b-c"),
            ("api-canary", "default"),
            ("api-canary", "other"),
            ("api", "default"),
            ("api", "default-2"),
            ("api", "other"),
            ("api.x", "default"),
            ("api2", "default"),
            ("b", "a"),
        ];
        let object =
            |(name, namespace): (&str, &str)| ObjectRef::new(Kind::Mapping, namespace, name);
        for one in expected {
            for other in expected {
                let key = |(name, namespace): (&str, &str)| match name {
                    "" => String::new(),
                    _ => format!("{name}.{namespace}.1"),
                };
                assert_eq!(
                    object(one).cmp(&object(other)),
                    key(one).cmp(&key(other)),
                    "{one:?} {other:?}"
                );
            }
        }
    }
}
