//! Hosts whose Secrets have not been read yet.
//!
//! In a cluster a Secret is read when something refers to it, which takes a moment. Until then nobody knows whether it is
//! there, so what a Host said before is served on: it would lose its TLS for that moment otherwise, and with it the
//! connections of its clients, and every Envoy would be told of two changes instead of one.

use std::sync::Arc;

use crate::store::{Store, host::secrets};
use crate::{
    change::Change,
    object::{Kind, ObjectRef},
    reconcile::{Host, Name},
};

impl Store {
    /// Whether the Host has to wait; it is filed as waiting then.
    pub(in crate::store) fn has_to_wait(&mut self, object: &ObjectRef, host: &Arc<Host>) -> bool {
        self.stop_waiting(object);
        let is_unknown =
            |name: &Name| !self.secrets.contains_key(name) && !self.missing_secrets.contains(name);
        let mut names = host.tls.iter().flat_map(secrets);
        if !self.settings.reads_secrets_on_demand || !names.any(is_unknown) {
            return false;
        }
        for secret in host.tls.iter().flat_map(secrets) {
            self.secret_users.add(secret, object);
        }
        self.waiting_hosts.insert(object.clone(), host.clone());
        true
    }

    pub(in crate::store) fn stop_waiting(&mut self, object: &ObjectRef) {
        let Some(waiting) = self.waiting_hosts.remove(object) else {
            return;
        };
        // the default Host may have stood in so far
        self.dirty.default_host = true;
        let served = self.hosts.get(object).map(|state| state.host.clone());
        let kept: Vec<&Name> = served
            .iter()
            .filter_map(|host| host.tls.as_ref())
            .flat_map(secrets)
            .collect();
        for secret in waiting.tls.iter().flat_map(secrets) {
            if !kept.contains(&secret) {
                self.secret_users.remove(secret, object);
                self.dirty.secrets.insert(secret.clone());
            }
        }
    }

    /// Notes what the source of Secrets has told, and lets go on whoever waited for that.
    pub(in crate::store) fn note_secrets(&mut self, told: &Told) {
        let waits = |user: &ObjectRef| Some((user.clone(), self.waiting_hosts.get(user)?.clone()));
        let waiting: Vec<(ObjectRef, Arc<Host>)> = match told {
            Told::Nothing => return,
            Told::All => self.waiting_hosts.clone().into_iter().collect(),
            Told::Of(name) => self.secret_users.of(name).filter_map(waits).collect(),
        };
        match told {
            Told::Nothing => {}
            Told::Of(name) => {
                // a Secret that nobody refers to any more is taken back as well, which does not mean that it is missing
                let is_wanted = self.secret_users.of(name).next().is_some();
                if is_wanted && !self.secrets.contains_key(name) {
                    self.missing_secrets.insert(name.clone());
                } else {
                    self.missing_secrets.remove(name);
                }
            }
            Told::All => {
                let wanted = self.secret_users.names();
                let missing = wanted.filter(|name| !self.secrets.contains_key(*name));
                self.missing_secrets = missing.cloned().collect();
            }
        }
        for (object, host) in waiting {
            self.set_host(&object, Some(host));
        }
    }
}

/// What a change says of Secrets.
#[derive(Debug)]
pub(in crate::store) enum Told {
    Nothing,
    /// Whether this one is there.
    Of(Name),
    /// Whether each one is there.
    All,
}

impl From<&Change> for Told {
    fn from(change: &Change) -> Self {
        let object = match change {
            Change::Apply(found) | Change::Pin(found) => &found.object,
            Change::Delete(object) | Change::Unpin(object) => object,
            Change::Replace(Kind::Secret, _) => return Self::All,
            Change::Replace(_, _) => return Self::Nothing,
        };
        if object.kind != Kind::Secret {
            return Self::Nothing;
        }
        Self::Of(Name {
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        })
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
        store.apply(Change::Replace(Kind::Secret, Vec::new()));
        store
    }

    fn apply(store: &mut Store, kind: Kind, name: &str, mut value: Value) {
        value["metadata"] = json!({"name": name, "namespace": "default"});
        let reconciled = reconcile(kind, value, &store.settings);
        store.apply(Change::Apply(Box::new(reconciled)));
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
        store.apply(Change::Delete(ObjectRef::new(kind, "default", name)));
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
        store.apply(Change::Replace(Kind::Secret, Vec::new()));
        assert_eq!(chains(&mut store), ["closed-a.example none"]);
    }
}
