//! Hosts whose Secrets have not been read yet.
//!
//! In a cluster a Secret is read once something refers to it, which takes a moment. Until then it is
//! unknown whether it exists, so the Host is served as before: otherwise it would lose its TLS, and with it the connections of its clients,
//! for that moment, and every Envoy would receive two changes instead of one.

use std::sync::Arc;

use crate::{
    change::{Change, Source},
    object::{Kind, ObjectRef},
    reconcile::{Host, Name},
    store::{Store, host::secrets},
};

impl Store {
    /// Whether the Host has to wait; if so, it is kept among those that wait.
    pub(in crate::store) fn has_to_wait(&mut self, object: &ObjectRef, host: &Arc<Host>) -> bool {
        self.stop_waiting(object);
        let mut names = host.tls.iter().flat_map(secrets);
        if !self.settings.reads_secrets_on_demand || !names.any(|name| self.secrets.is_unread(name))
        {
            return false;
        }
        for secret in host.tls.iter().flat_map(secrets) {
            self.secrets.users.add(secret, object);
        }
        self.hosts.wait(object, host);
        true
    }

    pub(in crate::store) fn stop_waiting(&mut self, object: &ObjectRef) {
        let Some(waiting) = self.hosts.stop_waiting(object) else {
            return;
        };
        // the default Host may have been served so far
        self.dirty.default_host = true;
        let served = self.hosts.get(object).map(|state| state.host.clone());
        let kept: Vec<&Name> = served
            .iter()
            .filter_map(|host| host.tls.as_ref())
            .flat_map(secrets)
            .collect();
        for secret in waiting.tls.iter().flat_map(secrets) {
            if !kept.contains(&secret) {
                self.secrets.users.remove(secret, object);
                self.dirty.secrets.insert(secret.clone());
            }
        }
    }

    /// Notes which Secrets have been read, and links the Hosts that waited for them.
    pub(in crate::store) fn settle_secrets(&mut self, settled: &Settled) {
        let waiting: Vec<(ObjectRef, Arc<Host>)> = match settled {
            Settled::Nothing => return,
            Settled::All => self.hosts.waiting().collect(),
            Settled::One(name) => {
                let users = self.secrets.users.of(name);
                users
                    .filter_map(|user| self.hosts.waiting_for(user))
                    .collect()
            }
        };
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
        for (object, host) in waiting {
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
            Change::Replace(..) | Change::ReplaceOwned(..) => return Self::Nothing,
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
}
