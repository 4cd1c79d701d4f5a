//! Level of resolvers: what their names mean.
//!
//! All kinds of resolvers share their names. A reference is a name, which means the first object of that name in any
//! namespace, or `name.namespace`. Some built-in names come in pairs: who defines one of them defines both.

use std::{collections::BTreeMap, mem, sync::Arc};

use super::{Store, users::Users};
use crate::{
    object::{Kind, ObjectRef},
    reconcile::{ConsulResolver, Resolver, ResolverKind},
};

/// Names of which each means what the other does, unless both are defined.
const PAIRS: [(&str, &str); 2] = [
    ("endpoint", "kubernetes-endpoint"),
    ("consul", "consul-endpoint"),
];

/// Resolvers, and who names them.
#[derive(Debug, Default)]
pub(super) struct Resolvers {
    by_name: BTreeMap<Arc<str>, BTreeMap<ObjectRef, ResolverKind>>,
    pub(super) users: Users<Arc<str>>,
}

/// What the name of a resolver means.
#[derive(Clone, Debug)]
pub(super) struct Meaning {
    pub(super) kind: ResolverKind,
    /// The object; `None`: a built-in one.
    pub(super) object: Option<ObjectRef>,
}

impl Resolvers {
    /// What this reference means; `None`: there is no such resolver.
    pub(super) fn get(&self, reference: &str) -> Option<Meaning> {
        self.first(reference)
            .or_else(|| self.in_namespace(reference))
            .or_else(|| self.first(alias(reference)?))
            .or_else(|| {
                let kind = built_in(reference)?;
                Some(Meaning { kind, object: None })
            })
    }

    /// The first object of this name, by its namespace; of several in one namespace, the first by its kind.
    fn first(&self, name: &str) -> Option<Meaning> {
        let objects = self.by_name.get(name)?.iter();
        let (object, kind) = objects.min_by_key(|(object, _)| {
            let any_kind = ObjectRef {
                kind: Kind::ConsulResolver,
                ..(*object).clone()
            };
            (any_kind, object.kind)
        })?;
        Some(Meaning {
            kind: kind.clone(),
            object: Some(object.clone()),
        })
    }

    /// The object of a reference `name.namespace`; names may have dots as well.
    fn in_namespace(&self, reference: &str) -> Option<Meaning> {
        let (name, namespace) = reference.rsplit_once('.')?;
        let mut objects = self.by_name.get(name)?.iter();
        let (object, kind) = objects.find(|(object, _)| &*object.namespace == namespace)?;
        Some(Meaning {
            kind: kind.clone(),
            object: Some(object.clone()),
        })
    }

    /// The resolver that is used of all with the name and the namespace of this one.
    pub(super) fn winner(&self, object: &ObjectRef) -> Option<&ObjectRef> {
        let mut objects = self.by_name.get(&object.name)?.keys();
        objects.find(|other| other.namespace == object.namespace)
    }

    /// The resolver as this object has it.
    pub(super) fn of(&self, object: &ObjectRef) -> Option<&ResolverKind> {
        self.by_name.get(&object.name)?.get(object)
    }
}

/// The other name of a pair.
fn alias(name: &str) -> Option<&'static str> {
    PAIRS.iter().find_map(|&(one, other)| match name {
        name if name == one => Some(other),
        name if name == other => Some(one),
        _ => None,
    })
}

fn built_in(name: &str) -> Option<ResolverKind> {
    match name {
        "kubernetes-service" => Some(ResolverKind::Service),
        "endpoint" | "kubernetes-endpoint" => Some(ResolverKind::Endpoints),
        "consul" | "consul-endpoint" => {
            Some(ResolverKind::Consul(ConsulResolver::built_in().into()))
        }
        _ => None,
    }
}

impl Store {
    pub(super) fn set_resolver(&mut self, object: &ObjectRef, kind: Option<ResolverKind>) {
        if let Some(ResolverKind::Consul(old)) = self.resolvers.of(object).cloned() {
            for secret in old.secrets() {
                self.stop_using_secret(secret, object);
            }
        }
        if let Some(ResolverKind::Consul(new)) = &kind {
            for secret in new.secrets() {
                self.use_secret(secret, object);
            }
        }
        let by_name = &mut self.resolvers.by_name;
        let objects = by_name.entry(object.name.clone()).or_default();
        match kind {
            Some(kind) => objects.insert(object.clone(), kind),
            None => objects.remove(object),
        };
        if objects.is_empty() {
            by_name.remove(&object.name);
        }
        self.mark_resolver(object);
        if object.kind == Kind::ConsulResolver {
            self.dirty.consul_resolvers.insert(object.clone());
        }
    }

    /// Marks everything that a resolver may be called.
    fn mark_resolver(&mut self, object: &ObjectRef) {
        let ObjectRef {
            name, namespace, ..
        } = object;
        let names = &mut self.dirty.resolvers;
        names.insert(name.clone());
        names.insert(format!("{name}.{namespace}").into());
        names.extend(alias(name).map(Into::into));
        // others of this name may be used in its place, or no longer be
        let same = self.resolvers.by_name.get(name).into_iter().flatten();
        for (other, _) in same {
            self.dirty.reports.insert(other.clone());
        }
        self.dirty.reports.insert(object.clone());
    }

    /// The name of the resolver of an upstream.
    pub(super) fn resolver_name<'a>(&'a self, resolver: &'a Resolver) -> &'a Arc<str> {
        match resolver {
            Resolver::Named(name) => name,
            Resolver::Default => &self.defaults.resolver,
        }
    }

    pub(super) fn link_resolvers(&mut self) {
        for object in mem::take(&mut self.dirty.consul_resolvers) {
            self.mark_resolver(&object);
            self.consul.note_change();
        }
        for name in mem::take(&mut self.dirty.resolvers) {
            for user in self.resolvers.users.of(&name) {
                self.dirty.link_again(user);
            }
            if name == self.defaults.resolver {
                self.default_resolver_changed();
            }
        }
    }

    /// Marks what has the default resolver; of the few edge services and probes, all.
    pub(super) fn default_resolver_changed(&mut self) {
        let mappings = self.mappings.with_default_resolver();
        self.dirty.mappings.extend(mappings.cloned());
        let mappings = self.tcp_mappings.with_default_resolver();
        self.dirty.tcp_mappings.extend(mappings.cloned());
        self.link_all_edge_services_again();
        self.dirty.probes = true;
    }
}
