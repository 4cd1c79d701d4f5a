//! Level of TLSContexts: the Secrets that they name, and what follows for their users.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::{ClientTls, ServerTls};

use super::{Store, neighbour, secret::waiting::Waiting, users::Users};
use crate::{
    object::{Kind, ObjectRef},
    reconcile::{HostTerms, Name, TlsContext, tls_context},
    report::{Problem, Reason, Report},
};

/// Why a TLSContext that its reconciler rejected cannot be used.
const INVALID: &str = "it is invalid (see its conditions)";

/// Where a TLSContext names its certificate.
const CERTIFICATE: &str = "spec.secret";

/// Why no client can be authenticated.
pub(super) const NO_AUTHORITY: &str = "cert_required needs ca_secret";

/// TLSContexts, and who names them.
#[derive(Debug, Default)]
pub(super) struct TlsContexts {
    contexts: BTreeMap<ObjectRef, ContextState>,
    /// Every TLSContext, valid or not.
    by_name: BTreeMap<Arc<str>, BTreeSet<ObjectRef>>,
    pub(super) waiting: Waiting<TlsContext>,
    /// By name alone: a TLSContext is looked for in several namespaces.
    pub(super) users: Users<Arc<str>>,
}

/// A TLSContext with what its Secrets come to.
#[derive(Debug)]
pub(super) struct ContextState {
    pub(super) context: Arc<TlsContext>,
    /// Secrets of the gateway model, or the problems of the Secrets that are named.
    linked: Result<Linked, Vec<Problem>>,
}

#[derive(Debug, Default)]
struct Linked {
    certificate: Option<Arc<str>>,
    validation: Option<Arc<str>>,
    /// Secrets that have become unusable and are served as they were before.
    kept: Vec<Problem>,
}

impl ContextState {
    fn linked(&self) -> Result<&Linked, String> {
        let text = |problems: &Vec<Problem>| {
            let messages: Vec<&str> = problems
                .iter()
                .map(|problem| problem.message.as_str())
                .collect();
            messages.join(" and ")
        };
        self.linked.as_ref().map_err(text)
    }

    /// TLS to upstreams.
    ///
    /// # Errors
    /// Why it cannot be originated.
    pub(super) fn client(&self) -> Result<ClientTls, String> {
        let linked = self.linked()?;
        let settings = &self.context.settings;
        Ok(ClientTls {
            certificate: linked.certificate.clone(),
            trusted: linked.validation.clone(),
            server_name: self.context.server_name.clone(),
            alpn: settings.alpn.clone(),
            parameters: settings.parameters.clone(),
        })
    }

    /// TLS from clients, with this certificate or else its own.
    ///
    /// # Errors
    /// Why it cannot be terminated.
    pub(super) fn server(&self, certificate: Option<Arc<str>>) -> Result<ServerTls, String> {
        let linked = self.linked()?;
        let settings = &self.context.settings;
        let certificate = certificate.or_else(|| linked.certificate.clone());
        Ok(ServerTls {
            secret: certificate.ok_or("secret is not set")?,
            trusted: linked.validation.clone(),
            require_client_certificate: settings.require_client_certificate,
            alpn: settings.alpn.clone(),
            parameters: settings.parameters.clone(),
        })
    }

    /// TLS from clients, with its own certificate.
    ///
    /// # Errors
    /// Why it cannot be terminated.
    pub(super) fn own_server(&self) -> Result<ServerTls, String> {
        let tls = self.server(None)?;
        if tls.require_client_certificate && tls.trusted.is_none() {
            return Err(NO_AUTHORITY.to_owned());
        }
        Ok(tls)
    }

    /// What its Secrets other than its certificate come to, if they have become unusable and are served as they were before.
    pub(super) fn kept(&self) -> impl Iterator<Item = &Problem> {
        let kept = self.linked.iter().flat_map(|linked| &linked.kept);
        kept.filter(|problem| problem.path != CERTIFICATE)
    }

    /// Whether a Secret of the gateway model is one of its own.
    fn has_secret(&self, resource: &str) -> bool {
        self.linked.as_ref().is_ok_and(|linked| {
            [&linked.certificate, &linked.validation]
                .into_iter()
                .flatten()
                .any(|secret| &**secret == resource)
        })
    }
}

impl TlsContexts {
    /// The state of a TLSContext.
    pub(super) fn get(&self, object: &ObjectRef) -> Option<&ContextState> {
        self.contexts.get(object)
    }

    /// The TLSContext of this name in its own namespace only; `None`: there is none, or it waits for its Secrets.
    ///
    /// # Errors
    /// It is invalid, so that its settings are unknown.
    pub(super) fn own(&self, name: &Name) -> Option<Result<&ContextState, String>> {
        let own = ObjectRef::new(Kind::TlsContext, &name.namespace, &name.name);
        let exists = |all: &BTreeSet<ObjectRef>| all.contains(&own) && !self.waiting.contains(&own);
        match self.contexts.get(&own) {
            Some(state) => Some(Ok(state)),
            None => {
                let exists = self.by_name.get(&name.name).is_some_and(exists);
                exists.then(|| Err(INVALID.to_owned()))
            }
        }
    }

    /// The TLSContext of this name: that of the same namespace, or else the first of any, valid ones before others;
    /// `None`: there is none, or it waits for its Secrets.
    ///
    /// # Errors
    /// It is invalid, so that its settings are unknown.
    pub(super) fn find(&self, name: &Name) -> Option<Result<&ContextState, String>> {
        self.own(name).or_else(|| {
            let mut all = self.by_name.get(&name.name)?.iter();
            let valid = all.clone().find_map(|object| self.contexts.get(object));
            match valid {
                Some(state) => Some(Ok(state)),
                None => {
                    let invalid = all.any(|object| !self.waiting.contains(object));
                    invalid.then(|| Err(INVALID.to_owned()))
                }
            }
        })
    }

    /// The TLSContext that [`TlsContexts::find`] finds, if it is of another namespace.
    fn of_another_namespace(&self, name: &Name) -> Option<&ObjectRef> {
        if self.own(name).is_some() {
            return None;
        }
        let mut all = self.by_name.get(&name.name)?.iter();
        all.find(|object| self.contexts.contains_key(*object))
    }

    /// A notice for who names a TLSContext, if it is of another namespace.
    pub(super) fn notice(&self, path: &str, name: &Name) -> Option<Problem> {
        let context = self.of_another_namespace(name)?;
        let message = format!("uses {context} of another namespace");
        Some(Problem::notice(Reason::CROSS_NAMESPACE, path, message))
    }

    /// TLSContexts of this name in other namespaces than this one.
    fn of_other_namespaces<'a>(
        &'a self,
        name: &str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a ObjectRef> {
        let all = self.by_name.get(name).into_iter().flatten();
        all.filter(move |object| *object.namespace != *namespace)
    }

    /// Whether a TLSContext of this name waits for its Secrets and none is there to be used meanwhile.
    pub(super) fn is_pending(&self, name: &Name) -> bool {
        let all = self.by_name.get(&name.name);
        let mut all = all.into_iter().flatten();
        self.find(name).is_none() && all.any(|object| self.waiting.contains(object))
    }

    /// Notes whether a TLSContext exists.
    fn note(&mut self, object: &ObjectRef, exists: bool) {
        let all = self.by_name.entry(object.name.clone()).or_default();
        if exists {
            all.insert(object.clone());
        } else {
            all.remove(object);
        }
        if all.is_empty() {
            self.by_name.remove(&object.name);
        }
    }

    /// The TLSContexts that list this hostname.
    pub(super) fn listing(&self, hostname: &str) -> impl Iterator<Item = &ContextState> {
        self.contexts.values().filter(move |state| {
            let mut hosts = state.context.hosts.iter();
            hosts.any(|host| &**host == hostname)
        })
    }

    /// The TLSContexts that use this Secret of the gateway model.
    pub(super) fn with_secret(&self, resource: &str) -> impl Iterator<Item = &ObjectRef> {
        self.contexts
            .iter()
            .filter(move |(_, state)| state.has_secret(resource))
            .map(|(object, _)| object)
    }
}

impl Store {
    /// Notes who names a TLSContext, which one of another namespace reports.
    pub(super) fn add_context_user(&mut self, name: &Arc<str>, user: &ObjectRef) {
        self.tls_contexts.users.add(name, user);
        let others = self.tls_contexts.of_other_namespaces(name, &user.namespace);
        self.dirty.reports.extend(others.cloned());
    }

    pub(super) fn remove_context_user(&mut self, name: &Arc<str>, user: &ObjectRef) {
        self.tls_contexts.users.remove(name, user);
        let others = self.tls_contexts.of_other_namespaces(name, &user.namespace);
        self.dirty.reports.extend(others.cloned());
    }

    pub(super) fn set_tls_context(&mut self, object: &ObjectRef, context: Option<Arc<TlsContext>>) {
        self.tls_contexts.note(object, self.has_tls_context(object));
        match &context {
            Some(context) if self.context_has_to_wait(object, context) => return,
            Some(_) => {}
            None => self.stop_waiting_context(object),
        }
        if let Some(old) = self.tls_contexts.contexts.remove(object) {
            for secret in secrets(&old.context) {
                self.stop_using_secret(secret, object);
            }
        }
        if let Some(context) = context {
            for secret in secrets(&context) {
                self.use_secret(secret, object);
            }
            let linked = Ok(Linked::default());
            let state = ContextState { context, linked };
            self.tls_contexts.contexts.insert(object.clone(), state);
        }
        self.dirty.tls_contexts.insert(object.clone());
        self.settle_context(object);
    }

    pub(super) fn link_tls_contexts(&mut self) {
        for object in mem::take(&mut self.dirty.tls_contexts) {
            self.dirty.reports.insert(object.clone());
            // whoever names it may use another one now
            let all = self.tls_contexts.by_name.get(&object.name);
            let all = all.into_iter().flatten();
            self.dirty.reports.extend(all.cloned());
            for user in self.tls_contexts.users.of(&object.name) {
                self.dirty.link_again(user);
            }
            self.dirty
                .sockets
                .extend(self.listeners.with_tcp_mappings());
            let Some(state) = self.tls_contexts.contexts.get(&object) else {
                self.set_validation(&object, None);
                continue;
            };
            let context = state.context.clone();
            let linked = self.link_secrets_of(&object, &context);
            if let Some(state) = self.tls_contexts.contexts.get_mut(&object) {
                state.linked = linked;
            }
        }
    }

    fn link_secrets_of(
        &mut self,
        object: &ObjectRef,
        context: &TlsContext,
    ) -> Result<Linked, Vec<Problem>> {
        let name = context.certificate.as_ref();
        let mut kept = Vec::new();
        let certificate = name.map(|name| self.certificate(CERTIFICATE, name, &mut kept));
        let root = name.and_then(|name| self.root(name)).cloned();
        let settings = &context.settings;
        let validation = self.link_validation(object, "spec.", settings, root.as_ref(), &mut kept);
        match (certificate.transpose(), validation) {
            (Ok(certificate), Ok(validation)) => Ok(Linked {
                certificate,
                validation,
                kept,
            }),
            (one, other) => Err(one.err().into_iter().chain(other.err()).collect()),
        }
    }

    pub(super) fn report_tls_context(&self, object: &ObjectRef, report: &mut Report) {
        let Some(state) = self.tls_contexts.contexts.get(object) else {
            return;
        };
        let problems = match &state.linked {
            Ok(linked) => &linked.kept,
            Err(problems) => problems,
        };
        report.problems.extend(problems.iter().cloned());
        let notices = tls_context::notices(object, &state.context);
        report.problems.extend(notices);
        let certificate = state.linked.as_ref().ok();
        let certificate = certificate.and_then(|linked| linked.certificate.as_deref());
        let expiry = certificate.and_then(|resource| self.expiry_problem(CERTIFICATE, resource));
        report.problems.extend(expiry);
        let user = self.user_of_another_namespace(object);
        let notice = |user| neighbour::notice("", user, "uses this TLSContext");
        report.problems.extend(user.map(notice));
        report.in_service = state.linked.is_ok();
    }

    /// The first object of another namespace that uses a TLSContext.
    fn user_of_another_namespace(&self, object: &ObjectRef) -> Option<&ObjectRef> {
        let mut users = self.tls_contexts.users.of(&object.name);
        users.find(|user| {
            let name = Name {
                namespace: user.namespace.clone(),
                name: object.name.clone(),
            };
            let tls = self
                .hosts
                .get(user)
                .and_then(|state| state.host.tls.as_ref());
            // only its own namespace has the TLSContext that a Host does not name
            let is_implicit = tls.is_some_and(|tls| matches!(tls.terms, HostTerms::Implicit(_)));
            user.namespace != object.namespace
                && !is_implicit
                && self.tls_contexts.of_another_namespace(&name) == Some(object)
        })
    }
}

/// The Secrets that a TLSContext names.
pub(super) fn secrets(context: &TlsContext) -> impl Iterator<Item = &Name> {
    let settings = &context.settings;
    [&context.certificate, &settings.trusted, &settings.revoked]
        .into_iter()
        .flatten()
}
