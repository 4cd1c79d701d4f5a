//! Level of Ingresses: the Hosts and Mappings that they stand for. It comes first, because all other levels take these as
//! they take those that users write.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use super::{Store, users::Users};
use crate::{
    annotation,
    change::{Origin, Source},
    object::ObjectRef,
    reconcile::{Backend, Ingress, IngressClass, KnativeIngress, Name, Port, reconcile},
    report::{Problem, Report},
};

mod generate;
mod knative;

/// Ingresses and our IngressClasses.
#[derive(Debug, Default)]
pub(super) struct Ingresses {
    by_ref: BTreeMap<ObjectRef, Arc<Ingress>>,
    knative: BTreeMap<ObjectRef, Arc<KnativeIngress>>,
    classes: BTreeSet<Arc<str>>,
    /// Ingresses by their class.
    users_of_class: Users<Arc<str>>,
    /// Ingresses by the Services of which they name a port.
    users_of_ports: Users<Name>,
    /// Those that are ours.
    served: Arc<BTreeSet<ObjectRef>>,
    /// What is wrong with those that are ours, besides what was found in them alone.
    problems: BTreeMap<ObjectRef, Vec<Problem>>,
}

/// The origin of what an Ingress stands for.
fn origin(ingress: &ObjectRef) -> Origin {
    Origin::owned(Source::Ingress, ingress.clone())
}

/// The Services of which an object in this namespace names a port.
fn named_ports<'a>(
    namespace: &'a Arc<str>,
    backends: impl Iterator<Item = (Option<&'a str>, &'a Backend)> + 'a,
) -> impl Iterator<Item = Name> + 'a {
    backends.filter_map(move |(of_service, backend)| match backend.port {
        Port::Name(_) => Some(Name {
            namespace: of_service.map_or_else(|| namespace.clone(), Into::into),
            name: backend.service.as_str().into(),
        }),
        Port::Number(_) => None,
    })
}

/// The Services of which an Ingress names a port.
fn of_ingress<'a>(object: &'a ObjectRef, ingress: &'a Ingress) -> impl Iterator<Item = Name> + 'a {
    let backends = ingress.backends().map(|backend| (None, backend));
    named_ports(&object.namespace, backends)
}

/// The Services of which an Ingress of Knative names a port.
fn of_knative<'a>(
    object: &'a ObjectRef,
    ingress: &'a KnativeIngress,
) -> impl Iterator<Item = Name> + 'a {
    let splits = ingress.splits();
    let backends =
        splits.filter_map(|split| Some((split.namespace.as_deref(), split.backend.as_ref()?)));
    named_ports(&object.namespace, backends)
}

impl Store {
    pub(super) fn set_ingress(&mut self, object: &ObjectRef, ingress: Option<Arc<Ingress>>) {
        let ingresses = &mut self.ingresses;
        if let Some(old) = ingresses.by_ref.remove(object) {
            if let IngressClass::Named(class) = &old.class {
                ingresses.users_of_class.remove(class, object);
            }
            for service in of_ingress(object, &old) {
                ingresses.users_of_ports.remove(&service, object);
            }
        }
        if let Some(new) = ingress {
            if let IngressClass::Named(class) = &new.class {
                ingresses.users_of_class.add(class, object);
            }
            for service in of_ingress(object, &new) {
                ingresses.users_of_ports.add(&service, object);
            }
            ingresses.by_ref.insert(object.clone(), new);
        }
        self.dirty.ingresses.insert(object.clone());
    }

    pub(super) fn set_knative_ingress(
        &mut self,
        object: &ObjectRef,
        ingress: Option<Arc<KnativeIngress>>,
    ) {
        let ingresses = &mut self.ingresses;
        if let Some(old) = ingresses.knative.remove(object) {
            for service in of_knative(object, &old) {
                ingresses.users_of_ports.remove(&service, object);
            }
        }
        if let Some(new) = ingress {
            for service in of_knative(object, &new) {
                ingresses.users_of_ports.add(&service, object);
            }
            ingresses.knative.insert(object.clone(), new);
        }
        self.dirty.ingresses.insert(object.clone());
    }

    pub(super) fn set_ingress_class(&mut self, object: &ObjectRef, is_own: bool) {
        let ingresses = &mut self.ingresses;
        let has_changed = match is_own {
            true => ingresses.classes.insert(object.name.clone()),
            false => ingresses.classes.remove(&object.name),
        };
        if has_changed {
            let users = ingresses.users_of_class.of(&object.name);
            self.dirty.ingresses.extend(users.cloned());
        }
    }

    /// Marks the Ingresses that name a port of a Service.
    pub(super) fn mark_named_ports(&mut self, service: &Name) {
        let users = self.ingresses.users_of_ports.of(service);
        self.dirty.ingresses.extend(users.cloned());
    }

    /// Whether we serve an Ingress.
    fn is_own(&self, ingress: &Ingress) -> bool {
        match &ingress.class {
            IngressClass::Own => true,
            IngressClass::Named(class) => self.ingresses.classes.contains(class),
        }
    }

    /// Files what Ingresses stand for. It is not what a source has changed, so it does not count as touched.
    pub(super) fn link_ingresses(&mut self) {
        for object in mem::take(&mut self.dirty.ingresses) {
            let ingress = self.ingresses.by_ref.get(&object);
            let own = ingress.filter(|ingress| self.is_own(ingress)).cloned();
            let knative = self.ingresses.knative.get(&object).cloned();
            let is_served = own.is_some() || knative.is_some();
            if is_served != self.ingresses.served.contains(&object) {
                let served = Arc::make_mut(&mut self.ingresses.served);
                if is_served {
                    served.insert(object.clone());
                } else {
                    served.remove(&object);
                }
            }
            let id = &self.settings.ambassador_id;
            let port_of = |namespace: Arc<str>, service: &str, port: &str| {
                let name = Name {
                    namespace,
                    name: service.into(),
                };
                self.services.get(&name)?.port_named(port)
            };
            let (all, problems): (Vec<_>, Vec<_>) = if let Some(ingress) = own {
                let namespace = || object.namespace.clone();
                let port = |service: &str, port: &str| port_of(namespace(), service, port);
                let (manifests, problems) = generate::generate(&object, &ingress, id, port);
                let all = manifests.into_iter();
                let all = all.map(|(kind, value)| reconcile(kind, value, &self.settings));
                (all.collect(), problems)
            } else if let Some(ingress) = knative {
                knative::generate(&object, &ingress, &self.settings, &port_of)
            } else {
                <_>::default()
            };
            let origin = origin(&object);
            let old = self.objects.owned(&origin);
            self.replace(&origin, old, all);
            if problems.is_empty() {
                self.ingresses.problems.remove(&object);
            } else {
                self.ingresses.problems.insert(object.clone(), problems);
            }
            self.dirty.reports.insert(object);
        }
        self.touched.clear();
    }

    /// The Ingresses that are ours, as of the last [`Store::link`].
    #[must_use]
    pub fn served_ingresses(&self) -> &Arc<BTreeSet<ObjectRef>> {
        &self.ingresses.served
    }

    /// Adds what was found in what the Ingress stands for. What is wrong with one of another controller is not ours to say,
    /// but for its annotation.
    pub(super) fn report_ingress(&self, object: &ObjectRef, report: &mut Report) {
        let ingress = self.ingresses.by_ref.get(object);
        if ingress.is_some_and(|ingress| !self.is_own(ingress)) {
            let problems = &mut report.problems;
            problems.retain(|problem| problem.path == annotation::PATH);
        }
        let found = self.ingresses.problems.get(object);
        report.problems.extend(found.into_iter().flatten().cloned());
        report.in_service |= self.report_owned(Source::Ingress, object, report);
    }
}

#[cfg(test)]
mod tests;
