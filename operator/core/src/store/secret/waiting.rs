//! Hosts and TLSContexts whose Secrets have not been read yet.
//!
//! In a cluster a Secret is read once something refers to it, which takes a moment. Until then it is unknown whether it
//! exists, so the object is served as before: otherwise a Host would lose its TLS, and with it the connections of its
//! clients, for that moment, and every Envoy would receive two changes instead of one.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    change::{Change, Source},
    object::{Kind, ObjectRef},
    reconcile::{Host, Name, TlsContext},
    store::{Store, host, tls_context},
};

/// Objects as they will be once their Secrets have been read.
#[derive(Debug)]
pub(in crate::store) struct Waiting<T> {
    objects: BTreeMap<ObjectRef, Arc<T>>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
        }
    }
}

impl<T> Waiting<T> {
    /// Whether nothing waits.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether this object waits.
    pub(in crate::store) fn contains(&self, object: &ObjectRef) -> bool {
        self.objects.contains_key(object)
    }

    /// Objects that wait, with what they will be.
    fn iter(&self) -> impl Iterator<Item = (ObjectRef, Arc<T>)> {
        let objects = self.objects.iter();
        objects.map(|(object, value)| (object.clone(), value.clone()))
    }

    /// An object that waits, with what it will be.
    fn get(&self, object: &ObjectRef) -> Option<(ObjectRef, Arc<T>)> {
        Some((object.clone(), self.objects.get(object)?.clone()))
    }
}

impl Store {
    /// Whether the Host has to wait for Secrets, or for a TLSContext that waits; if so, it is kept among those that wait.
    pub(in crate::store) fn host_has_to_wait(
        &mut self,
        object: &ObjectRef,
        host: &Arc<Host>,
    ) -> bool {
        self.stop_waiting_host(object);
        let tls = host.tls.iter();
        let context = host.tls.as_ref().and_then(host::context_name);
        let is_pending = context.is_some_and(|name| self.tls_contexts.is_pending(name));
        if !self.are_unread(tls.clone().flat_map(host::secrets)) && !is_pending {
            return false;
        }
        for secret in tls.flat_map(host::secrets) {
            self.use_secret(secret, object);
        }
        let waiting = &mut self.hosts.waiting.objects;
        waiting.insert(object.clone(), host.clone());
        true
    }

    pub(in crate::store) fn stop_waiting_host(&mut self, object: &ObjectRef) {
        let Some(waiting) = self.hosts.waiting.objects.remove(object) else {
            return;
        };
        // the default Host may have been served so far
        self.dirty.default_host = true;
        let served = self.hosts.get(object).map(|state| state.host.clone());
        let served = served.iter().filter_map(|host| host.tls.as_ref());
        let kept: Vec<&Name> = served.flat_map(host::secrets).collect();
        self.stop_using(object, waiting.tls.iter().flat_map(host::secrets), &kept);
    }

    /// Whether the TLSContext has to wait for Secrets; if so, it is kept among those that wait.
    pub(in crate::store) fn context_has_to_wait(
        &mut self,
        object: &ObjectRef,
        context: &Arc<TlsContext>,
    ) -> bool {
        self.stop_waiting_context(object);
        if !self.are_unread(tls_context::secrets(context)) {
            return false;
        }
        for secret in tls_context::secrets(context) {
            self.use_secret(secret, object);
        }
        let waiting = &mut self.tls_contexts.waiting.objects;
        waiting.insert(object.clone(), context.clone());
        true
    }

    pub(in crate::store) fn stop_waiting_context(&mut self, object: &ObjectRef) {
        let Some(waiting) = self.tls_contexts.waiting.objects.remove(object) else {
            return;
        };
        let served = self
            .tls_contexts
            .get(object)
            .map(|state| state.context.clone());
        let kept: Vec<&Name> = served
            .iter()
            .flat_map(|context| tls_context::secrets(context))
            .collect();
        self.stop_using(object, tls_context::secrets(&waiting), &kept);
        self.dirty.tls_contexts.insert(object.clone());
    }

    fn are_unread<'a>(&self, mut secrets: impl Iterator<Item = &'a Name>) -> bool {
        self.settings.reads_secrets_on_demand && secrets.any(|name| self.secrets.is_unread(name))
    }

    /// Removes a user of Secrets, except of those that are kept.
    fn stop_using<'a>(
        &mut self,
        object: &ObjectRef,
        secrets: impl Iterator<Item = &'a Name>,
        kept: &[&Name],
    ) {
        for secret in secrets.filter(|secret| !kept.contains(secret)) {
            self.stop_using_secret(secret, object);
        }
    }

    /// Notes which Secrets have been read, and sets the objects that waited for them.
    pub(in crate::store) fn settle_secrets(&mut self, settled: &Settled) {
        let (contexts, hosts): (Vec<_>, Vec<_>) = match settled {
            Settled::Nothing => return,
            Settled::All => (
                self.tls_contexts.waiting.iter().collect(),
                self.hosts.waiting.iter().collect(),
            ),
            Settled::One(name) => {
                let users = || self.secrets.users.of(name);
                (
                    users()
                        .filter_map(|user| self.tls_contexts.waiting.get(user))
                        .collect(),
                    users()
                        .filter_map(|user| self.hosts.waiting.get(user))
                        .collect(),
                )
            }
        };
        self.note_missing(settled);
        self.settle_consul_resolvers(settled);
        for (object, _) in contexts {
            self.update_tls_context(&object);
        }
        for (object, host) in hosts {
            self.set_host(&object, Some(host));
        }
    }

    /// Links ConsulResolvers again that may have waited.
    fn settle_consul_resolvers(&mut self, settled: &Settled) {
        let users = &self.secrets.users;
        let users: Vec<&ObjectRef> = match settled {
            Settled::Nothing => return,
            Settled::One(name) => users.of(name).collect(),
            Settled::All => users.keys().flat_map(|name| users.of(name)).collect(),
        };
        for user in users {
            if user.kind == Kind::ConsulResolver {
                self.dirty.link_again(user);
            }
        }
    }

    fn note_missing(&mut self, settled: &Settled) {
        let secrets = &mut self.secrets;
        match settled {
            Settled::Nothing => {}
            Settled::One(name) => {
                // the source also drops a Secret without references, which does not mean that it is missing
                if secrets.users.has(name) && !secrets.by_name.contains_key(name) {
                    secrets.missing.insert(name.clone());
                } else {
                    secrets.missing.remove(name);
                }
            }
            Settled::All => {
                let wanted = secrets.users.keys();
                let missing = wanted.filter(|name| !secrets.by_name.contains_key(*name));
                secrets.missing = missing.cloned().collect();
            }
        }
    }

    /// Sets the Hosts that waited for this TLSContext.
    pub(in crate::store) fn settle_context(&mut self, context: &ObjectRef) {
        let waits = |host: &ObjectRef| {
            let (object, host) = self.hosts.waiting.get(host)?;
            let name = host.tls.as_ref().and_then(host::context_name)?;
            (name.name == context.name).then_some((object, host))
        };
        let hosts = self.hosts.waiting.objects.keys();
        let hosts: Vec<_> = hosts.filter_map(waits).collect();
        for (object, host) in hosts {
            self.set_host(&object, Some(host));
        }
    }
}

/// The Secrets of which a change says whether they exist.
#[derive(Debug)]
pub(in crate::store) enum Settled {
    Nothing,
    One(Name),
    All,
}

impl From<&Change> for Settled {
    fn from(change: &Change) -> Self {
        let object = match change {
            Change::Apply(_, found) => &found.object,
            Change::Delete(_, object) => object,
            Change::Replace(Source::Api, Kind::Secret, _) => return Self::All,
            Change::Replace(..)
            | Change::ReplaceOwned(..)
            | Change::OldestEnvoy(_)
            | Change::Consul(..) => {
                return Self::Nothing;
            }
        };
        if object.kind != Kind::Secret {
            return Self::Nothing;
        }
        Self::One(Name::of(object))
    }
}

#[cfg(test)]
mod tests {
    use nuncio_ir::ListenerKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::{reconcile::reconcile, settings::Settings};

    const CHAIN: &str = include_str!("../../../tests/testdata/waiting/certificate.pem");
    const KEY: &str = include_str!("../../../tests/testdata/waiting/key.pem");

    fn store() -> Store {
        let settings = Settings {
            reads_secrets_on_demand: true,
            ..Settings::default()
        };
        let mut store = Store::new(settings);
        let spec = json!({"port": 8443, "protocol": "HTTPS", "securityModel": "SECURE", "hostBinding": {"namespace": {"from": "ALL"}}});
        apply(&mut store, Kind::Listener, "https", json!({"spec": spec}));
        // without any Host the default one would be there
        let spec = json!({"hostname": "plain.example"});
        apply(&mut store, Kind::Host, "plain", json!({"spec": spec}));
        store.apply(Change::Replace(Source::Api, Kind::Secret, Vec::new()));
        store
    }

    fn apply(store: &mut Store, kind: Kind, name: &str, mut value: Value) {
        value["metadata"] = json!({"name": name, "namespace": "default"});
        let reconciled = reconcile(kind, value, &store.settings);
        store.apply(Change::Apply(Source::Api, Box::new(reconciled)));
    }

    fn host(store: &mut Store, secret: &str) {
        let spec = json!({"hostname": "a.example", "tlsSecret": {"name": secret}});
        apply(store, Kind::Host, "a", json!({"spec": spec}));
    }

    fn secret(store: &mut Store, name: &str) {
        let data = json!({"tls.crt": CHAIN, "tls.key": KEY});
        apply(store, Kind::Secret, name, json!({"stringData": data}));
    }

    fn delete(store: &mut Store, kind: Kind, name: &str) {
        store.apply(Change::Delete(
            Source::Api,
            ObjectRef::new(kind, "default", name),
        ));
    }

    /// The chains of the listener, each with the Secret of its certificate.
    fn chains(store: &mut Store) -> Vec<String> {
        store.link();
        let key = ListenerKey {
            port: 8443,
            transport: nuncio_ir::Transport::Tcp,
            address: None,
        };
        let listener = store.ir().listeners.get(&key);
        let chains = listener.into_iter().flat_map(|listener| &listener.chains);
        chains
            .map(|chain| {
                let secret = chain.tls.as_ref().map(|tls| &*tls.secret);
                format!("{} {}", chain.name, secret.unwrap_or("none"))
            })
            .collect()
    }

    fn wanted(store: &Store) -> Vec<String> {
        let wanted = store.wanted_secrets();
        wanted
            .into_iter()
            .map(|secret| secret.name.to_string())
            .collect()
    }

    #[test]
    fn a_host_is_served_when_its_secret_has_been_read() {
        let mut store = store();
        host(&mut store, "one");
        assert!(chains(&mut store).is_empty());
        assert_eq!(wanted(&store), ["one"]);
        secret(&mut store, "one");
        assert_eq!(chains(&mut store), ["tls-a.example default/one"]);
    }

    #[test]
    fn a_name_is_closed_when_its_secret_is_known_to_be_missing() {
        let mut store = store();
        host(&mut store, "one");
        delete(&mut store, Kind::Secret, "one");
        assert_eq!(chains(&mut store), ["closed-a.example none"]);
        secret(&mut store, "one");
        assert_eq!(chains(&mut store), ["tls-a.example default/one"]);
        delete(&mut store, Kind::Secret, "one");
        assert_eq!(chains(&mut store), ["closed-a.example none"]);
    }

    #[test]
    fn the_old_certificate_is_shown_until_the_new_one_has_been_read() {
        let mut store = store();
        host(&mut store, "one");
        secret(&mut store, "one");
        host(&mut store, "two");
        assert_eq!(chains(&mut store), ["tls-a.example default/one"]);
        assert_eq!(wanted(&store), ["one", "two"]);
        secret(&mut store, "two");
        assert_eq!(chains(&mut store), ["tls-a.example default/two"]);
        assert_eq!(wanted(&store), ["two"]);
    }

    #[test]
    fn who_stops_waiting_wants_nothing_any_more() {
        let mut store = store();
        host(&mut store, "one");
        secret(&mut store, "one");
        host(&mut store, "two");
        host(&mut store, "three");
        assert_eq!(wanted(&store), ["one", "three"]);
        host(&mut store, "one");
        assert_eq!(wanted(&store), ["one"]);
        host(&mut store, "two");
        delete(&mut store, Kind::Host, "a");
        assert!(wanted(&store).is_empty());
        assert!(chains(&mut store).is_empty());
    }

    #[test]
    fn all_are_known_after_a_complete_list() {
        let mut store = store();
        host(&mut store, "one");
        store.apply(Change::Replace(Source::Api, Kind::Secret, Vec::new()));
        assert_eq!(chains(&mut store), ["closed-a.example none"]);
    }

    fn context(store: &mut Store, secret: &str) {
        let spec = json!({"secret": secret});
        apply(store, Kind::TlsContext, "context", json!({"spec": spec}));
    }

    fn host_with_context(store: &mut Store) {
        let spec = json!({"hostname": "a.example", "tlsSecret": {"name": "one"}, "tlsContext": {"name": "context"}});
        apply(store, Kind::Host, "a", json!({"spec": spec}));
    }

    #[test]
    fn a_host_is_served_as_before_while_its_new_tls_context_waits() {
        let mut store = store();
        host(&mut store, "one");
        secret(&mut store, "one");
        let served = ["tls-a.example default/one"];
        assert_eq!(chains(&mut store), served);
        let spec = json!({"ca_secret": "ca"});
        apply(
            &mut store,
            Kind::TlsContext,
            "context",
            json!({"spec": spec}),
        );
        host_with_context(&mut store);
        assert_eq!(chains(&mut store), served);
        assert_eq!(wanted(&store), ["ca", "one"]);
        delete(&mut store, Kind::Secret, "ca");
        assert_eq!(chains(&mut store), ["closed-a.example none"]);
        secret(&mut store, "ca");
        assert_eq!(chains(&mut store), served);
    }

    #[test]
    fn a_host_waits_for_the_tls_context_that_waits() {
        let mut store = store();
        secret(&mut store, "one");
        context(&mut store, "one");
        host_with_context(&mut store);
        assert_eq!(chains(&mut store), ["tls-a.example default/one"]);
        delete(&mut store, Kind::TlsContext, "context");
        assert_eq!(chains(&mut store), ["closed-a.example none"]);
        context(&mut store, "other");
        delete(&mut store, Kind::TlsContext, "context");
        assert_eq!(wanted(&store), ["one"]);
    }

    #[test]
    fn an_upstream_is_as_before_while_its_tls_context_waits() {
        let mut store = store();
        let mapping = |store: &mut Store, tls: Value| {
            let spec = json!({"prefix": "/", "hostname": "*", "service": "up.example", "tls": tls});
            apply(store, Kind::Mapping, "m", json!({"spec": spec}));
            store.link();
            let clusters = store.ir().clusters.values();
            let tls = |cluster: &nuncio_ir::Cluster| {
                let tls = cluster.tls.as_ref();
                tls.map(|tls| tls.certificate.as_deref().unwrap_or("none").to_owned())
            };
            clusters.map(|cluster| tls(cluster)).collect::<Vec<_>>()
        };
        assert_eq!(mapping(&mut store, json!(null)), [None]);
        context(&mut store, "one");
        assert_eq!(mapping(&mut store, json!("context")), [None]);
        secret(&mut store, "one");
        assert_eq!(
            mapping(&mut store, json!("context")),
            [Some("default/one".to_owned())]
        );
    }
}
