//! What a replica remembers of Secrets: their parts as they were when they were usable last. A rotation that goes wrong
//! (a key of another certificate, a truncated file, an encrypted key, an entry that is missing) must not close TLS for a
//! name that was served a moment ago, so the content of a Secret that has become unusable reaches the Store together with
//! the usable one that it replaces. Nothing is opened by that: whom clients must trust, and whom not, stays as it was.
//!
//! Deleting the Secret, or the last reference to it where Secrets are read on demand, is how TLS is closed on purpose, and
//! forgets it. A Secret that is created again between two looks of its source counts as edited. Every source sends its
//! changes through here: the API, files and Istio's directory.
//!
//! The memory is outside of the Store, whose results depend on its present input only. A replica that never saw a usable
//! part has nothing to remember.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    change::{Change, Origin, Reconciled},
    object::{Kind, ObjectRef},
    reconcile::{Fragment, Part, Secret, served},
};

/// The Secrets of each source, with their usable parts or the last of these.
#[derive(Clone, Debug, Default)]
pub struct LastUsable {
    secrets: BTreeMap<Origin, BTreeMap<ObjectRef, Arc<Secret>>>,
}

impl LastUsable {
    /// The same change, with what is remembered of the Secrets in it. It is remembered in turn.
    #[must_use]
    pub fn complete(&mut self, change: Change) -> Change {
        match change {
            Change::Apply(source, mut found) => {
                let secrets = self.secrets.entry(Origin::of(source)).or_default();
                complete(secrets, &mut found);
                Change::Apply(source, found)
            }
            Change::Delete(source, object) => {
                if let Some(secrets) = self.secrets.get_mut(&Origin::of(source)) {
                    secrets.remove(&object);
                }
                Change::Delete(source, object)
            }
            Change::Replace(source, Kind::Secret, mut all) => {
                self.replace(Origin::of(source), &mut all);
                Change::Replace(source, Kind::Secret, all)
            }
            Change::Replace(..) => change,
            Change::ReplaceOwned(source, owner, mut all) => {
                let origin = Origin {
                    source,
                    owner: Some(owner.clone()),
                };
                self.replace(origin, &mut all);
                Change::ReplaceOwned(source, owner, all)
            }
        }
    }

    /// Completes all Secrets of an origin. Others that it had are gone.
    fn replace(&mut self, origin: Origin, all: &mut [Reconciled]) {
        let mut secrets = self.secrets.remove(&origin).unwrap_or_default();
        for found in all.iter_mut() {
            complete(&mut secrets, found);
        }
        let mut present: BTreeMap<ObjectRef, Arc<Secret>> = BTreeMap::new();
        for found in all.iter() {
            present.extend(secrets.remove_entry(&found.object));
        }
        if !present.is_empty() {
            self.secrets.insert(origin, present);
        }
    }
}

/// Adds what is remembered to a Secret, and remembers it.
fn complete(secrets: &mut BTreeMap<ObjectRef, Arc<Secret>>, found: &mut Reconciled) {
    if found.object.kind != Kind::Secret {
        return;
    }
    let Some(Fragment::Secret(secret)) = &mut found.fragment else {
        secrets.remove(&found.object);
        return;
    };
    if let Some(before) = secrets.get(&found.object) {
        let kept = Secret {
            certificate: kept(&secret.certificate, &before.certificate),
            trusted: kept(&secret.trusted, &before.trusted),
            revoked: kept(&secret.revoked, &before.revoked),
        };
        if kept != **secret {
            *secret = kept.into();
        }
    }
    secrets.insert(found.object.clone(), secret.clone());
}

/// A part that is usable, or that remembers the last one that was.
fn kept<T: Clone>(part: &Part<T>, before: &Part<T>) -> Part<T> {
    let mut part = part.clone();
    if let Err(unusable) = &mut part
        && unusable.last.is_none()
    {
        unusable.last = served(before).cloned();
    }
    part
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{change::Source, reconcile::reconcile, settings::Settings};

    const CHAIN: &str = include_str!("../tests/testdata/waiting/certificate.pem");
    const KEY: &str = include_str!("../tests/testdata/waiting/key.pem");

    fn secret(name: &str, data: &Value) -> Reconciled {
        let value = json!({"metadata": {"name": name, "namespace": "default"}, "stringData": data});
        reconcile(Kind::Secret, value, &Settings::default())
    }

    fn usable() -> Value {
        json!({"tls.crt": CHAIN, "tls.key": KEY})
    }

    fn apply(memory: &mut LastUsable, source: Source, data: &Value) -> Arc<Secret> {
        let change = Change::Apply(source, secret("a", data).into());
        match memory.complete(change) {
            Change::Apply(_, found) => content(*found),
            other => panic!("{other:?}"),
        }
    }

    fn content(found: Reconciled) -> Arc<Secret> {
        match found.fragment {
            Some(Fragment::Secret(secret)) => secret,
            other => panic!("{other:?}"),
        }
    }

    fn is_served(secret: &Secret) -> (bool, bool) {
        (
            secret.certificate.is_err(),
            served(&secret.certificate).is_some(),
        )
    }

    /// Unusable, and the last one is served.
    const KEPT: (bool, bool) = (true, true);
    /// Unusable, and nothing is served.
    const CLOSED: (bool, bool) = (true, false);

    #[test]
    fn whatever_makes_a_certificate_unusable_the_last_one_is_remembered() {
        let other = include_str!("../tests/testdata/waiting/other_key.pem");
        let encrypted = KEY.replace(" PRIVATE", " ENCRYPTED PRIVATE");
        for broken in [
            json!({"tls.crt": CHAIN, "tls.key": other}),
            json!({"tls.crt": CHAIN, "tls.key": encrypted}),
            json!({"tls.crt": "garbage", "tls.key": KEY}),
            json!({"tls.crt": CHAIN}),
            json!({"tls.crt": CHAIN, "tls.key": KEY, "root-cert.pem": "garbage"}),
            json!({}),
            json!("not even a map"),
        ] {
            let mut memory = LastUsable::default();
            let secret = apply(&mut memory, Source::Api, &broken);
            assert_eq!(is_served(&secret), CLOSED, "never usable: {broken}");
            apply(&mut memory, Source::Api, &usable());
            for _ in 0..2 {
                let secret = apply(&mut memory, Source::Api, &broken);
                assert_eq!(is_served(&secret), KEPT, "{broken}");
            }
            let repaired = apply(&mut memory, Source::Api, &usable());
            assert!(repaired.certificate.is_ok());
        }
    }

    #[test]
    fn a_type_that_is_not_for_certificates_makes_it_unusable() {
        let mut memory = LastUsable::default();
        apply(&mut memory, Source::Api, &usable());
        let value = json!({"metadata": {"name": "a", "namespace": "default"}, "type": "other", "stringData": usable()});
        let found = reconcile(Kind::Secret, value, &Settings::default());
        match memory.complete(Change::Apply(Source::Api, found.into())) {
            Change::Apply(_, found) => assert_eq!(is_served(&content(*found)), KEPT),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_authorities_and_lists_of_a_secret_are_remembered_each() {
        let mut memory = LastUsable::default();
        apply(&mut memory, Source::Api, &json!({"ca.crt": CHAIN}));
        let broken = apply(&mut memory, Source::Api, &json!({"ca.crt": "garbage"}));
        assert!(broken.trusted.is_err());
        assert_eq!(served(&broken.trusted).map(|text| &**text), Some(CHAIN));
        assert_eq!(served(&broken.revoked), None, "there never was one");
        assert_eq!(is_served(&broken), CLOSED);
    }

    #[test]
    fn a_certificate_is_remembered_with_the_authorities_beside_it() {
        let mut memory = LastUsable::default();
        let mut data = usable();
        data["root-cert.pem"] = json!(CHAIN);
        apply(&mut memory, Source::Api, &data);
        let broken = apply(&mut memory, Source::Api, &json!({}));
        let certificate = served(&broken.certificate).unwrap();
        assert_eq!(certificate.root.as_deref(), Some(CHAIN));
    }

    #[test]
    fn what_is_deleted_is_forgotten() {
        let mut memory = LastUsable::default();
        let object = ObjectRef::new(Kind::Secret, "default", "a");
        let gone = [
            Change::Delete(Source::Api, object),
            Change::Replace(Source::Api, Kind::Secret, vec![secret("b", &usable())]),
        ];
        for change in gone {
            apply(&mut memory, Source::Api, &usable());
            let _ = memory.complete(change);
            let broken = apply(&mut memory, Source::Api, &json!({}));
            assert_eq!(is_served(&broken), CLOSED);
        }
    }

    #[test]
    fn a_list_that_has_the_secret_forgets_nothing() {
        let mut memory = LastUsable::default();
        apply(&mut memory, Source::Api, &usable());
        let list = Change::Replace(Source::Api, Kind::Secret, vec![secret("a", &json!({}))]);
        match memory.complete(list) {
            Change::Replace(_, _, mut all) => assert_eq!(is_served(&content(all.remove(0))), KEPT),
            other => panic!("{other:?}"),
        }
        let other_kind = Change::Replace(Source::Api, Kind::Host, Vec::new());
        let _ = memory.complete(other_kind);
        let broken = apply(&mut memory, Source::Api, &json!({}));
        assert_eq!(is_served(&broken), KEPT);
    }

    #[test]
    fn each_source_has_a_memory_of_its_own() {
        let mut memory = LastUsable::default();
        apply(&mut memory, Source::Istio, &usable());
        let broken = apply(&mut memory, Source::Api, &json!({}));
        assert_eq!(is_served(&broken), CLOSED);
        let broken = apply(&mut memory, Source::Istio, &json!({}));
        assert_eq!(is_served(&broken), KEPT);
    }
}
