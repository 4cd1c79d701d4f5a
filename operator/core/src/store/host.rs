//! Level of Hosts: their TLS, and the groups that are attached to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use nuncio_ir::{Route, SecretContent, ServerTls, TableKey, TableScope};

use super::{
    Store,
    by_name::ByName,
    dirty::Difference,
    group::{GroupKey, RouteOrder},
    secret::{expiry::day, waiting::Waiting},
    tls_context::{ContextState, NO_AUTHORITY},
};
use crate::{
    glob,
    object::{Kind, ObjectRef},
    reconcile::{Host, HostMatch, HostTerms, HostTls, InsecureAction, Mapping, Name, TlsSettings},
    report::{Problem, Reason, Report},
    selector::{LabelSet, Labels},
};

/// Where a Host names its certificate.
const CERTIFICATE: &str = "spec.tlsSecret";

/// Hosts with what they are linked to.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    states: BTreeMap<ObjectRef, HostState>,
    by_name: ByName<ObjectRef>,
    pub(super) waiting: Waiting<Host>,
    /// The tables that have a virtual host of a Host.
    tables: BTreeMap<ObjectRef, BTreeSet<TableKey>>,
}

/// A Host with its TLS and its routes.
#[derive(Debug)]
pub(super) struct HostState {
    pub(super) host: Arc<Host>,
    /// `None`: TLS is not set up; an error: it is, and cannot be terminated.
    pub(super) tls: Option<Result<Arc<ServerTls>, NoTls>>,
    /// Routes of the groups that are attached, in order.
    pub(super) routes: BTreeMap<RouteOrder, AttachedGroup>,
    problems: Vec<Problem>,
    /// Whether the Host differs since it was linked.
    is_new: bool,
}

/// TLS cannot be terminated; the Host's problems have the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoTls;

/// A group as a Host has it.
#[derive(Clone, Debug)]
pub(super) struct AttachedGroup {
    pub(super) key: Arc<GroupKey>,
    pub(super) routes: Arc<[Arc<Route>]>,
}

impl HostState {
    /// The routes of all groups, in order.
    pub(super) fn routes(&self) -> Vec<Arc<Route>> {
        self.routes
            .values()
            .flat_map(|attached| attached.routes.iter().cloned())
            .collect()
    }
}

impl Hosts {
    /// The state of a Host.
    pub(super) fn get(&self, host: &ObjectRef) -> Option<&HostState> {
        self.states.get(host)
    }

    /// Every Host, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectRef, &HostState)> {
        self.states.iter()
    }

    /// Hosts that terminate TLS for exactly this name, or, with the longest wildcard first, for names that include it.
    pub(super) fn termination(
        &self,
        name: &str,
    ) -> (Option<Arc<ServerTls>>, Option<Arc<ServerTls>>) {
        let tls = |host: &ObjectRef| self.states.get(host)?.tls.clone()?.ok();
        let exact = self.by_name.get(name).find_map(tls);
        let wild = self.by_name.wild(name).rev().find_map(tls);
        (exact, wild)
    }

    /// Hosts whose hostname overlaps with this one.
    pub(super) fn with_hostname_like<'a>(
        &'a self,
        hostname: &'a str,
    ) -> impl Iterator<Item = &'a ObjectRef> {
        self.by_name.compatible(hostname)
    }

    /// Hosts that terminate TLS with this Secret of the gateway model.
    pub(super) fn with_secret(&self, resource: &str) -> impl Iterator<Item = &ObjectRef> {
        let uses = move |tls: &ServerTls| {
            *tls.secret == *resource || tls.trusted.as_deref() == Some(resource)
        };
        self.states
            .iter()
            .filter(move |(_, state)| matches!(&state.tls, Some(Ok(tls)) if uses(tls)))
            .map(|(object, _)| object)
    }

    /// Whether any Listener serves this Host.
    pub(super) fn is_served(&self, host: &ObjectRef) -> bool {
        self.tables.contains_key(host)
    }

    /// The tables that have a virtual host of this Host.
    pub(super) fn tables(&self, host: &ObjectRef) -> impl Iterator<Item = &TableKey> {
        self.tables.get(host).into_iter().flatten()
    }

    /// Notes that a table has a virtual host of this Host.
    pub(super) fn enter_table(&mut self, host: &ObjectRef, table: &TableKey) {
        let tables = self.tables.entry(host.clone()).or_default();
        tables.insert(table.clone());
    }

    /// Notes that a table no longer has a virtual host of this Host.
    pub(super) fn leave_table(&mut self, host: &ObjectRef, table: &TableKey) {
        if let Some(tables) = self.tables.get_mut(host) {
            tables.remove(table);
            if tables.is_empty() {
                self.tables.remove(host);
            }
        }
    }

    /// Attaches a group to a Host, or replaces its routes.
    pub(super) fn attach(&mut self, host: &ObjectRef, order: &RouteOrder, group: AttachedGroup) {
        if let Some(state) = self.states.get_mut(host) {
            state.routes.insert(order.clone(), group);
        }
    }

    /// Whether a group is attached to a Host.
    pub(super) fn has(&self, host: &ObjectRef, order: &RouteOrder) -> bool {
        let state = self.states.get(host);
        state.is_some_and(|state| state.routes.contains_key(order))
    }

    /// Detaches a group from a Host.
    pub(super) fn detach(&mut self, host: &ObjectRef, order: &RouteOrder) {
        if let Some(state) = self.states.get_mut(host) {
            state.routes.remove(order);
        }
    }
}

impl Store {
    /// The Host that is served if there is no Host object at all.
    pub(super) fn default_host_ref(&self) -> ObjectRef {
        ObjectRef::new(
            Kind::Host,
            &self.settings.ambassador_namespace,
            "default-host",
        )
    }

    /// The Secret with which the default Host terminates TLS, if there is one.
    pub(super) fn fallback_secret(&self) -> Name {
        Name {
            namespace: self.settings.ambassador_namespace.as_str().into(),
            name: "fallback-self-signed-cert".into(),
        }
    }

    /// Without any Host object every hostname is served, as users of a new installation expect. As soon as there is a
    /// Host, even an invalid one, only Hosts decide: a mistake in one must not open everything.
    pub(super) fn link_default_host(&mut self) {
        if !mem::take(&mut self.dirty.default_host) {
            return;
        }
        let object = self.default_host_ref();
        // one that waits for its Secrets does not count yet
        let any = self.objects.of_kind(Kind::Host).any(|found| {
            self.hosts.states.contains_key(found) || !self.hosts.waiting.contains(found)
        });
        if any {
            if !self.objects.has(&object) {
                self.set_host(&object, None);
            }
            return;
        }
        let fallback = self.fallback_secret();
        let tls = self.secrets.get(&fallback).is_some().then(|| HostTls {
            secret: fallback,
            terms: HostTerms::Own(TlsSettings::default()),
        });
        let host = Arc::new(Host {
            labels: Labels::new(),
            hostname: "*".into(),
            server_name: "*".into(),
            mapping_selector: None,
            insecure: if tls.is_some() {
                InsecureAction::Redirect
            } else {
                InsecureAction::Route
            },
            tls,
        });
        let served = self.hosts.get(&object).map(|state| &state.host);
        if served != Some(&host) {
            self.set_host(&object, Some(host));
        }
    }

    pub(super) fn set_host(&mut self, object: &ObjectRef, host: Option<Arc<Host>>) {
        match &host {
            Some(host) if self.host_has_to_wait(object, host) => return,
            Some(_) => {}
            None => self.stop_waiting_host(object),
        }
        if let Some(old) = self.hosts.get(object).map(|state| state.host.clone()) {
            self.unfile_host(object, &old);
        }
        match host {
            Some(host) => {
                self.file_host(object, &host);
                self.hosts
                    .states
                    .entry(object.clone())
                    .and_modify(|state| {
                        state.host = host.clone();
                        state.is_new = true;
                    })
                    .or_insert_with(|| HostState {
                        host: host.clone(),
                        tls: None,
                        routes: BTreeMap::new(),
                        problems: Vec::new(),
                        is_new: true,
                    });
            }
            None => {
                self.set_validation(object, None);
                if let Some(state) = self.hosts.states.remove(object) {
                    // it may come back before anything is linked, and then look as if it had never had routes
                    self.dirty.route(object, Difference::Match);
                    for attached in state.routes.values() {
                        self.dirty.group_host(&attached.key, object);
                    }
                }
            }
        }
        self.dirty.hosts.insert(object.clone());
    }

    fn file_host(&mut self, object: &ObjectRef, host: &Host) {
        self.hosts.by_name.insert(&host.hostname, object.clone());
        for secret in host.tls.iter().flat_map(secrets) {
            self.use_secret(secret, object);
        }
        if let Some(name) = host.tls.as_ref().and_then(context_name) {
            self.add_context_user(&name.name, object);
        }
    }

    fn unfile_host(&mut self, object: &ObjectRef, host: &Host) {
        self.hosts.by_name.remove(&host.hostname, object);
        for secret in host.tls.iter().flat_map(secrets) {
            self.stop_using_secret(secret, object);
        }
        if let Some(name) = host.tls.as_ref().and_then(context_name) {
            self.remove_context_user(&name.name, object);
        }
    }

    pub(super) fn link_hosts(&mut self) {
        for object in mem::take(&mut self.dirty.hosts) {
            self.dirty.reports.insert(object.clone());
            let Some(state) = self.hosts.get(&object) else {
                self.dirty.sockets.extend(self.listeners.sockets());
                continue;
            };
            let host = state.host.clone();
            let (tls, problems) = self.link_tls(&object, &host);
            let Some(state) = self.hosts.states.get_mut(&object) else {
                continue;
            };
            state.problems = problems;
            let is_new = mem::take(&mut state.is_new);
            // a certificate that is rotated leaves all of this as it is
            if mem::replace(&mut state.tls, tls) != state.tls || is_new {
                self.dirty.sockets.extend(self.listeners.sockets());
            }
            if is_new {
                self.mark_groups(&object, &host);
            }
        }
    }

    /// Marks the groups that a Host has, and those that it may take.
    fn mark_groups(&mut self, object: &ObjectRef, host: &Host) {
        let everywhere = self.settings.loose_label_selectors && host.mapping_selector.is_some();
        let candidates = if everywhere {
            self.groups.keys()
        } else {
            self.groups.for_hostname(&host.hostname)
        };
        for key in candidates {
            self.dirty.group_host(key, object);
        }
        let state = self.hosts.get(object);
        for attached in state.into_iter().flat_map(|state| state.routes.values()) {
            self.dirty.group_host(&attached.key, object);
        }
    }

    /// Whether a Host takes a Mapping: by hostname, by label, or by both if the Host has a selector and the Mapping a
    /// hostname.
    pub(super) fn takes(&self, host: &Host, mapping: &Mapping) -> bool {
        let loose = self.settings.loose_label_selectors;
        let named = match &mapping.host {
            HostMatch::Unset => None,
            HostMatch::Regex(_) => Some(true),
            HostMatch::Glob(glob) => Some(glob::compatible(glob, &host.hostname)),
        };
        let labels = LabelSet::union([&mapping.labels]);
        if !mapping.knative.allow(host) {
            return false;
        }
        let selector = host.mapping_selector.as_ref();
        let selected = selector.map(|selector| selector.matches(&labels, loose));
        match (selected, named) {
            (None, None) => false,
            (None, Some(only)) | (Some(only), None) => only,
            (Some(selected), Some(named)) if loose => selected || named,
            (Some(selected), Some(named)) => selected && named,
        }
    }

    /// Termination of TLS, if it is set up, and what is wrong with it.
    fn link_tls(
        &mut self,
        object: &ObjectRef,
        host: &Host,
    ) -> (Option<Result<Arc<ServerTls>, NoTls>>, Vec<Problem>) {
        let Some(tls) = &host.tls else {
            self.set_validation(object, None);
            return (None, Vec::new());
        };
        let mut problems = Vec::new();
        let found = self.server_tls(object, host, tls, &mut problems);
        if found.is_err() {
            self.set_validation(object, None);
        }
        let found = found.map_err(|problem| {
            problems.extend(problem.map(|problem| Problem {
                message: format!("{}; TLS is closed until it is fixed", problem.message),
                ..problem
            }));
            NoTls
        });
        (Some(found.map(Arc::new)), problems)
    }

    /// # Errors
    /// What is wrong; `None` if the reconciler reported it.
    fn server_tls(
        &mut self,
        object: &ObjectRef,
        host: &Host,
        tls: &HostTls,
        problems: &mut Vec<Problem>,
    ) -> Result<ServerTls, Option<Problem>> {
        if tls.terms == HostTerms::Invalid {
            return Err(None); // reported by the reconciler
        }
        if let HostTerms::Context(name) = &tls.terms {
            problems.extend(self.tls_contexts.notice("spec.tlsContext", name));
        }
        let certificate = self.certificate(CERTIFICATE, &tls.secret, problems)?;
        let (name, is_asked_for) = match &tls.terms {
            HostTerms::Own(settings) => {
                return Ok(self.own_terms(object, tls, settings, certificate, problems)?);
            }
            HostTerms::Context(name) => (name, true),
            HostTerms::Implicit(name) => (name, false),
            HostTerms::Invalid => return Err(None),
        };
        let invalid = |reason: String| {
            let message = format!("TLSContext {:?} cannot be used: {reason}", name.name);
            Problem::unresolved(Reason::INVALID_TLS_CONTEXT, "spec.tlsContext", message)
        };
        let state = if is_asked_for {
            self.tls_contexts.find(name)
        } else {
            self.tls_contexts.own(name)
        };
        let Some(state) = state else {
            if !is_asked_for {
                let settings = TlsSettings::default();
                return Ok(self.own_terms(object, tls, &settings, certificate, problems)?);
            }
            let message = format!("TLSContext {:?} does not exist", name.name);
            return Err(Some(Problem::unresolved(
                Reason::TLS_CONTEXT_NOT_FOUND,
                "spec.tlsContext",
                message,
            )));
        };
        let state = state.map_err(invalid)?;
        if let Some(other) = state
            .context
            .certificate
            .as_ref()
            .filter(|other| **other != tls.secret)
        {
            let message = format!(
                "TLSContext {:?} names Secret {other}, tlsSecret names Secret {}",
                name.name, tls.secret
            );
            return Err(Some(Problem::unresolved(
                Reason::SECRET_CONFLICT,
                "spec.tlsContext",
                message,
            )));
        }
        problems.extend(not_listed(state, object, host));
        let mut found = state.server(Some(certificate)).map_err(invalid)?;
        problems.extend(state.kept().map(|kept| {
            let message = format!("TLSContext {:?}: {}", name.name, kept.message);
            Problem::unresolved(Reason::INVALID_TLS_CONTEXT, "spec.tlsContext", message)
        }));
        // authorities that come with the certificate are for a context that names none
        let root = self.root(&tls.secret).filter(|_| found.trusted.is_none());
        let root = root.map(|root| SecretContent::Validation {
            trusted: root.clone(),
            revoked: None,
        });
        let own = self.set_validation(object, root);
        found.trusted = found.trusted.or(own);
        if found.require_client_certificate && found.trusted.is_none() {
            return Err(Some(invalid(NO_AUTHORITY.to_owned())));
        }
        Ok(found)
    }

    fn own_terms(
        &mut self,
        object: &ObjectRef,
        tls: &HostTls,
        settings: &TlsSettings,
        certificate: Arc<str>,
        kept: &mut Vec<Problem>,
    ) -> Result<ServerTls, Problem> {
        let root = self.root(&tls.secret).cloned();
        let trusted = self.link_validation(object, "spec.tls.", settings, root.as_ref(), kept)?;
        if settings.require_client_certificate && trusted.is_none() {
            return Err(Problem::unresolved(
                Reason::PARTIALLY_INVALID,
                "spec.tls.cert_required",
                NO_AUTHORITY,
            ));
        }
        Ok(ServerTls {
            secret: certificate,
            trusted,
            require_client_certificate: settings.require_client_certificate,
            alpn: settings.alpn.clone(),
            parameters: settings.parameters.clone(),
        })
    }

    pub(super) fn report_host(&self, object: &ObjectRef, report: &mut Report) {
        let Some(state) = self.hosts.get(object) else {
            return;
        };
        report.problems.extend(state.problems.iter().cloned());
        report
            .problems
            .extend(self.listeners.problems(object).cloned());
        let tls = state.tls.as_ref().and_then(|tls| tls.as_ref().ok());
        let certificate = tls.and_then(|tls| self.served_certificate(&tls.secret));
        let expiry = tls.and_then(|tls| self.expiry_problem(CERTIFICATE, &tls.secret));
        report.problems.extend(expiry);
        report.in_service = self.hosts.is_served(object);
        if !report.in_service {
            report.problems.push(Problem::ignored(
                Reason::NO_LISTENER,
                "",
                "no Listener serves this Host; check hostBinding and securityModel of the Listeners, and this Host's TLS",
            ));
            return;
        }
        let mut places: Vec<String> = self
            .hosts
            .tables(object)
            .map(|table| match table.scope {
                TableScope::Tls(_) => format!("{} with TLS", table.listener),
                TableScope::Cleartext
                | TableScope::Host(_)
                | TableScope::Redirects(_)
                | TableScope::OtherHosts => table.listener.to_string(),
            })
            .collect();
        places.dedup();
        report.summary = format!("on {}", places.join(", "));
        if let Some(certificate) = certificate
            && let Some(day) = day(certificate.not_after)
        {
            let summary = &mut report.summary;
            summary.push_str(&format!(", certificate expires {day}"));
        }
    }

    /// Whether the default Host is served, or an object with its name.
    pub(super) fn has_default_host(&self) -> bool {
        self.hosts.states.contains_key(&self.default_host_ref())
    }
}

/// That a TLSContext lists other hosts than this one.
fn not_listed(state: &ContextState, object: &ObjectRef, host: &Host) -> Option<Problem> {
    let hosts = &state.context.hosts;
    let is_listed = |listed: &Arc<str>| *listed == host.hostname || listed == &object.name;
    if hosts.is_empty() || hosts.iter().any(is_listed) {
        return None;
    }
    let name = host.tls.as_ref().and_then(context_name)?;
    let message = format!(
        "TLSContext {:?} has hosts {}, not {:?}; it is used anyway",
        name.name,
        hosts.join(", "),
        host.hostname
    );
    let path = "spec.tlsContext";
    Some(Problem::ignored(Reason::NOT_IN_HOSTS, path, message))
}

/// The Secrets that a Host refers to.
pub(super) fn secrets(tls: &HostTls) -> impl Iterator<Item = &Name> {
    let settings = match &tls.terms {
        HostTerms::Own(settings) => Some(settings),
        HostTerms::Context(_) | HostTerms::Implicit(_) | HostTerms::Invalid => None,
    };
    let more = settings.map(|settings| [&settings.trusted, &settings.revoked]);
    [&tls.secret]
        .into_iter()
        .chain(more.into_iter().flatten().flatten())
}

/// The TLSContext that a Host refers to, or would use if there were one.
pub(super) fn context_name(tls: &HostTls) -> Option<&Name> {
    match &tls.terms {
        HostTerms::Context(name) | HostTerms::Implicit(name) => Some(name),
        HostTerms::Own(_) | HostTerms::Invalid => None,
    }
}
