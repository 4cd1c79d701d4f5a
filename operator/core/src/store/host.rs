//! Level of Hosts: their certificates, and the groups that are attached to them.

use std::{collections::BTreeMap, mem, sync::Arc};

use nuncio_ir::{SecretContent, ServerTls};

use super::{
    AttachedGroup, Difference, Group, GroupKey, HostState, NoTls, RouteOrder, Store,
    tls_context::UNCHECKED,
};
use crate::{
    glob,
    object::{Kind, ObjectRef},
    reconcile::{Host, HostMatch, HostTerms, HostTls, InsecureAction, Name, TlsSettings},
    report::{Problem, Reason},
    selector::{LabelSet, Labels},
};

impl Store {
    /// The Host that stands in when there is no Host object at all.
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

    /// Without any Host object everything is served, as a gateway fresh from the box should. As soon as there is
    /// one, be it broken, Hosts alone say what is served: a mistake in one must not open everything.
    pub(super) fn link_default_host(&mut self) {
        if !mem::take(&mut self.dirty.default_host) {
            return;
        }
        let object = self.default_host_ref();
        let first = ObjectRef::new(Kind::Host, "", "");
        let mut hosts = self
            .objects
            .range(first..)
            .map(|(found, _)| found)
            .take_while(|found| found.kind == Kind::Host);
        // one that waits for its Secrets does not take over yet
        let any = hosts
            .any(|found| self.hosts.contains_key(found) || !self.waiting_hosts.contains_key(found));
        if any {
            if !self.objects.contains_key(&object) {
                self.set_host(&object, None);
            }
            return;
        }
        let fallback = self.fallback_secret();
        let tls = self.secrets.contains_key(&fallback).then(|| HostTls {
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
        if self.hosts.get(&object).map(|state| &state.host) != Some(&host) {
            self.set_host(&object, Some(host));
        }
    }

    pub(super) fn set_host(&mut self, object: &ObjectRef, host: Option<Arc<Host>>) {
        match &host {
            Some(host) if self.has_to_wait(object, host) => return,
            Some(_) => {}
            None => self.stop_waiting(object),
        }
        if let Some(old) = self.hosts.get(object).map(|state| state.host.clone()) {
            self.unfile_host(object, &old);
        }
        match host {
            Some(host) => {
                self.file_host(object, &host);
                self.hosts
                    .entry(object.clone())
                    .and_modify(|state| state.host = host.clone())
                    .or_insert_with(|| HostState {
                        host: host.clone(),
                        tls: None,
                        routes: BTreeMap::new(),
                        problems: Vec::new(),
                    });
            }
            None => {
                self.set_trust(object, None);
                if let Some(state) = self.hosts.remove(object) {
                    // it may come back before anything is linked, and then look as if it had never had routes
                    self.dirty.route(object, Difference::Match);
                    for attached in state.routes.values() {
                        self.detach(&attached.key, object);
                    }
                }
            }
        }
        self.dirty.hosts.insert(object.clone());
    }

    fn file_host(&mut self, object: &ObjectRef, host: &Host) {
        self.hosts_by_name.insert(&host.hostname, object.clone());
        for secret in host.tls.iter().flat_map(secrets) {
            self.secret_users.add(secret, object);
            self.dirty.secrets.insert(secret.clone());
        }
        if let Some(name) = host.tls.as_ref().and_then(context_name) {
            self.context_users.add(&name.name, object);
        }
        if let Some(selector) = &host.mapping_selector {
            let count = self.selectors.entry(selector.clone()).or_default();
            *count += 1;
            if *count == 1 {
                self.dirty.mappings.extend(self.hostless.iter().cloned());
            }
        }
    }

    fn unfile_host(&mut self, object: &ObjectRef, host: &Host) {
        self.hosts_by_name.remove(&host.hostname, object);
        for secret in host.tls.iter().flat_map(secrets) {
            self.secret_users.remove(secret, object);
            self.dirty.secrets.insert(secret.clone());
        }
        if let Some(name) = host.tls.as_ref().and_then(context_name) {
            self.context_users.remove(&name.name, object);
        }
        if let Some(selector) = &host.mapping_selector
            && let Some(count) = self.selectors.get_mut(selector)
        {
            *count -= 1;
            if *count == 0 {
                self.selectors.remove(selector);
                self.dirty.mappings.extend(self.hostless.iter().cloned());
            }
        }
    }

    fn detach(&mut self, key: &Arc<GroupKey>, host: &ObjectRef) {
        if let Some(group) = self.groups.get_mut(key) {
            group.hosts.remove(host);
            self.dirty.reports.extend(group.members.iter().cloned());
        }
    }

    pub(super) fn link_hosts(&mut self) {
        for object in mem::take(&mut self.dirty.hosts) {
            self.dirty.reports.insert(object.clone());
            self.dirty.sockets.extend(self.sockets.keys().copied());
            let Some(state) = self.hosts.get(&object) else {
                continue;
            };
            let host = state.host.clone();
            let (tls, problems) = self.link_tls(&object, &host);
            let routes = self.attachments(&host);
            let Some(state) = self.hosts.get_mut(&object) else {
                continue;
            };
            state.tls = tls;
            state.problems = problems;
            let old = mem::replace(&mut state.routes, routes.clone());
            let differs = |one: &BTreeMap<RouteOrder, _>,
                           other: &BTreeMap<RouteOrder, AttachedGroup>| {
                one.keys()
                    .filter(|order| !other.contains_key(order))
                    .cloned()
                    .collect::<Vec<_>>()
            };
            let (gone, new) = (differs(&old, &routes), differs(&routes, &old));
            for order in &gone {
                self.detach(&old[order].key, &object);
            }
            for order in &new {
                if let Some(group) = self.groups.get_mut(&routes[order].key) {
                    group.hosts.insert(object.clone());
                    self.dirty.reports.extend(group.members.iter().cloned());
                }
            }
            if !gone.is_empty() || !new.is_empty() {
                self.dirty.route(&object, Difference::Match);
            }
        }
    }

    /// The groups that this Host takes.
    fn attachments(&self, host: &Host) -> BTreeMap<RouteOrder, AttachedGroup> {
        let everywhere = self.settings.loose_label_selectors && host.mapping_selector.is_some();
        let candidates: Box<dyn Iterator<Item = &Arc<GroupKey>>> = if everywhere {
            Box::new(self.groups.keys())
        } else {
            let named = self.groups_by_name.compatible(&host.hostname);
            Box::new(named.chain(&self.nameless_groups))
        };
        candidates
            .filter_map(|key| {
                let group = self.groups.get(key)?;
                self.takes(host, key, group)
                    .then(|| (group.order.clone(), group.attached(key)))
            })
            .collect()
    }

    /// Whether a Host takes a group: by host name, by label, or by both when the Host selects and the group names.
    pub(super) fn takes(&self, host: &Host, key: &GroupKey, group: &Group) -> bool {
        let loose = self.settings.loose_label_selectors;
        let named = match &key.host {
            HostMatch::Unset => None,
            HostMatch::Regex(_) => Some(true),
            HostMatch::Glob(glob) => Some(glob::compatible(glob, &host.hostname)),
        };
        let selected = host.mapping_selector.as_ref().map(|selector| {
            let members = group
                .members
                .iter()
                .filter_map(|member| self.mapping(member));
            selector.matches(
                &LabelSet::union(members.map(|mapping| &mapping.labels)),
                loose,
            )
        });
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
    ) -> (Option<Result<ServerTls, NoTls>>, Vec<Problem>) {
        let Some(tls) = &host.tls else {
            self.set_trust(object, None);
            return (None, Vec::new());
        };
        let mut problems = Vec::new();
        let found = self.server_tls(object, host, tls, &mut problems);
        if found.is_err() {
            self.set_trust(object, None);
        }
        let found = found.map_err(|problem| {
            problems.extend(problem.map(|problem| Problem {
                message: format!(
                    "{}; TLS is not served until that is mended",
                    problem.message
                ),
                ..problem
            }));
            NoTls
        });
        (Some(found), problems)
    }

    /// # Errors
    /// What is wrong; nothing if the reconciler has said it.
    fn server_tls(
        &mut self,
        object: &ObjectRef,
        host: &Host,
        tls: &HostTls,
        problems: &mut Vec<Problem>,
    ) -> Result<ServerTls, Option<Problem>> {
        if tls.terms == HostTerms::Refused {
            return Err(None); // its reconciler has said why
        }
        let certificate = self.certificate("spec.tlsSecret", &tls.secret)?;
        let (name, is_asked_for) = match &tls.terms {
            HostTerms::Own(settings) => {
                return Ok(self.own_terms(object, tls, settings, certificate)?);
            }
            HostTerms::Context(name) => (name, true),
            HostTerms::Implicit(name) => (name, false),
            HostTerms::Refused => return Err(None),
        };
        let invalid = |reason: String| {
            let message = format!("TLSContext {:?} cannot be used: {reason}", name.name);
            Problem::unresolved(Reason::INVALID_TLS_CONTEXT, "spec.tlsContext", message)
        };
        let state = if is_asked_for {
            self.context(name)
        } else {
            self.own_context(name)
        };
        let Some(state) = state else {
            if !is_asked_for {
                return Ok(self.own_terms(object, tls, &TlsSettings::default(), certificate)?);
            }
            let message = format!("there is no TLSContext {:?}", name.name);
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
                "TLSContext {:?} names Secret {other}, and tlsSecret another",
                name.name
            );
            return Err(Some(Problem::unresolved(
                Reason::SECRET_CONFLICT,
                "spec.tlsContext",
                message,
            )));
        }
        let hosts = &state.context.hosts;
        if !hosts.is_empty()
            && !hosts
                .iter()
                .any(|listed| *listed == host.hostname || listed == &object.name)
        {
            let message = format!(
                "TLSContext {:?} is for {} and not for {:?}; it is used all the same",
                name.name,
                hosts.join(", "),
                host.hostname
            );
            problems.push(Problem::ignored(
                Reason::NOT_IN_HOSTS,
                "spec.tlsContext",
                message,
            ));
        }
        let mut found = state.server(Some(certificate)).map_err(invalid)?;
        // authorities that come with the certificate are for a context that names none
        let root = self.root(&tls.secret).filter(|_| found.trusted.is_none());
        let own = self.set_trust(object, root);
        found.trusted = found.trusted.or(own);
        if found.require_client_certificate && found.trusted.is_none() {
            return Err(Some(invalid(UNCHECKED.to_owned())));
        }
        Ok(found)
    }

    /// The authorities that come with a certificate.
    fn root(&self, secret: &Name) -> Option<SecretContent> {
        let root = self.secrets.get(secret)?.root.clone()?;
        Some(SecretContent::Validation {
            trusted: root,
            revoked: None,
        })
    }

    fn own_terms(
        &mut self,
        object: &ObjectRef,
        tls: &HostTls,
        settings: &TlsSettings,
        certificate: Arc<str>,
    ) -> Result<ServerTls, Problem> {
        let root = self
            .secrets
            .get(&tls.secret)
            .and_then(|secret| secret.root.clone());
        let trusted = self.link_trust(object, "spec.tls.", settings, root.as_ref())?;
        if settings.require_client_certificate && trusted.is_none() {
            let message = "without ca_secret no client certificate can be checked".to_owned();
            return Err(Problem::unresolved(
                Reason::INVALID,
                "spec.tls.cert_required",
                message,
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
}

/// The Secrets that a Host refers to.
pub(super) fn secrets(tls: &HostTls) -> impl Iterator<Item = &Name> {
    let settings = match &tls.terms {
        HostTerms::Own(settings) => Some(settings),
        HostTerms::Context(_) | HostTerms::Implicit(_) | HostTerms::Refused => None,
    };
    let more = settings.map(|settings| [&settings.trusted, &settings.revoked]);
    [&tls.secret]
        .into_iter()
        .chain(more.into_iter().flatten().flatten())
}

/// The TLSContext that a Host refers to, or would use if there were one.
fn context_name(tls: &HostTls) -> Option<&Name> {
    match &tls.terms {
        HostTerms::Context(name) | HostTerms::Implicit(name) => Some(name),
        HostTerms::Own(_) | HostTerms::Refused => None,
    }
}

impl Group {
    /// The group as a Host sees it.
    pub(super) fn attached(&self, key: &Arc<GroupKey>) -> AttachedGroup {
        AttachedGroup {
            key: key.clone(),
            routes: self.routes.clone(),
        }
    }
}
