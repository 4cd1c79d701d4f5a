//! What a replica remembers of objects that contain text for others to load: the parts of Secrets, and the script of a
//! Module, as they were when they were usable last. A rotation that goes wrong (a key of another certificate, a truncated
//! file, an encrypted key, an entry that is missing) must not close TLS for a name that was served a moment ago, so the content
//! of a Secret that has become unusable reaches the Store together with the usable one that it replaces. The same holds for a
//! script with a syntax error. Nothing is opened by that: whom clients must trust, and whom not, stays as it was.
//!
//! Deleting the object, or the last reference to it where Secrets are read on demand, is how TLS is closed on purpose, and
//! forgets it. A Secret that is created again between two looks of its source counts as edited. Every source sends its
//! changes through here: the API, files and Istio's directory.
//!
//! The memory is outside of the Store, whose results depend on its present input only. A replica that never saw a usable
//! part has nothing to remember. A Module that is created where a list had none replaces a Module without a script.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    sync::Arc,
};

use crate::{
    change::{Change, Origin, Reconciled, Source},
    object::{Kind, ObjectRef},
    reconcile::{Fragment, Module, Part, Secret, served},
};

/// Kinds of which something is remembered.
const KINDS: [Kind; 2] = [Kind::Module, Kind::Secret];

/// The Secrets and Modules of each source, with their usable parts or the last of these.
#[derive(Clone, Debug, Default)]
pub struct LastUsable {
    objects: BTreeMap<(Origin, Kind), Objects>,
    /// Sources of which there was a list of Modules.
    listed: BTreeSet<Source>,
}

type Objects = BTreeMap<ObjectRef, Fragment>;

impl LastUsable {
    /// The same change, with what is remembered of the objects in it. It is remembered in turn.
    #[must_use]
    pub fn complete(&mut self, change: Change) -> Change {
        match change {
            Change::Apply(source, mut found) => {
                let kind = found.object.kind;
                if KINDS.contains(&kind) {
                    let is_listed = self.listed.contains(&source);
                    let objects = self.objects.entry((Origin::of(source), kind)).or_default();
                    complete(objects, &mut found, is_listed);
                }
                Change::Apply(source, found)
            }
            Change::Delete(source, object) => {
                if let Some(objects) = self.objects.get_mut(&(Origin::of(source), object.kind)) {
                    objects.remove(&object);
                }
                Change::Delete(source, object)
            }
            Change::Replace(source, kind, mut all) => {
                if KINDS.contains(&kind) {
                    let is_listed = self.listed.contains(&source);
                    self.replace(Origin::of(source), kind, &mut all, is_listed);
                }
                if kind == Kind::Module {
                    self.listed.insert(source);
                }
                Change::Replace(source, kind, all)
            }
            Change::OldestEnvoy(_) | Change::Consul(..) => change,
            Change::ReplaceOwned(source, mut owned) => {
                let origin = Origin::owned(source, owned.owner.clone());
                for kind in KINDS {
                    self.replace(origin.clone(), kind, &mut owned.objects, false);
                }
                Change::ReplaceOwned(source, owned)
            }
        }
    }

    /// Completes all objects of a kind of an origin. Others that it had are gone.
    fn replace(&mut self, origin: Origin, kind: Kind, all: &mut [Reconciled], is_listed: bool) {
        let key = (origin, kind);
        let mut objects = self.objects.remove(&key).unwrap_or_default();
        let mut present = Objects::new();
        for found in all.iter_mut().filter(|found| found.object.kind == kind) {
            complete(&mut objects, found, is_listed);
        }
        for found in all.iter() {
            present.extend(objects.remove_entry(&found.object));
        }
        if !present.is_empty() {
            self.objects.insert(key, present);
        }
    }
}

/// Adds what is remembered to an object, and remembers it.
fn complete(objects: &mut Objects, found: &mut Reconciled, is_listed: bool) {
    let before = objects.remove(&found.object);
    let older = found.older.iter_mut().map(|older| &mut older.fragment);
    for fragment in iter::once(&mut found.fragment).chain(older) {
        match (fragment.as_mut(), &before) {
            (Some(Fragment::Secret(secret)), Some(Fragment::Secret(before))) => {
                complete_secret(secret, before);
            }
            (Some(Fragment::Module(module)), Some(Fragment::Module(before))) => {
                complete_module(module, &before.script);
            }
            (Some(Fragment::Module(module)), None) if is_listed => {
                complete_module(module, &Ok(None));
            }
            _ => {}
        }
    }
    if let Some(fragment @ (Fragment::Secret(_) | Fragment::Module(_))) = &found.fragment {
        objects.insert(found.object.clone(), fragment.clone());
    }
}

fn complete_secret(secret: &mut Arc<Secret>, before: &Secret) {
    let kept = Secret {
        certificate: kept(&secret.certificate, &before.certificate),
        trusted: kept(&secret.trusted, &before.trusted),
        revoked: kept(&secret.revoked, &before.revoked),
        token: kept(&secret.token, &before.token),
    };
    if kept != **secret {
        *secret = kept.into();
    }
}

fn complete_module(module: &mut Arc<Module>, before: &Part<Option<String>>) {
    if module.script.is_err() {
        let script = kept(&module.script, before);
        Arc::make_mut(module).script = script;
    }
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

    fn module(script: &Value) -> Reconciled {
        let metadata = json!({"metadata": {"name": "ambassador", "namespace": "default"}});
        let mut value = metadata;
        value["spec"] = json!({"config": {"lua_scripts": script}});
        reconcile(Kind::Module, value, &Settings::default())
    }

    /// What is served of a script; `None`: nobody knows.
    fn script(change: Change) -> Option<Option<String>> {
        let found = match change {
            Change::Apply(_, found) => *found,
            Change::Replace(_, _, mut all) => all.remove(0),
            other => panic!("{other:?}"),
        };
        match found.fragment {
            Some(Fragment::Module(module)) => served(&module.script).cloned(),
            other => panic!("{other:?}"),
        }
    }

    fn edit(memory: &mut LastUsable, value: &Value) -> Option<Option<String>> {
        script(memory.complete(Change::Apply(Source::Api, module(value).into())))
    }

    fn list(memory: &mut LastUsable, all: Vec<Reconciled>) -> Change {
        memory.complete(Change::Replace(Source::Api, Kind::Module, all))
    }

    #[test]
    fn the_script_before_one_that_does_not_load_is_remembered() {
        let mut memory = LastUsable::default();
        for broken in [json!("x ="), json!(5), json!(["-- a"])] {
            assert_eq!(edit(&mut memory, &json!("-- a")), Some(Some("-- a".into())));
            for _ in 0..2 {
                let kept = Some(Some("-- a".to_owned()));
                assert_eq!(edit(&mut memory, &broken), kept, "{broken}");
            }
            assert_eq!(edit(&mut memory, &Value::Null), Some(None));
            assert_eq!(edit(&mut memory, &broken), Some(None), "{broken}");
        }
    }

    #[test]
    fn a_first_script_that_does_not_load_is_as_no_script_if_there_was_a_list_before() {
        let broken = json!("x =");
        let mut memory = LastUsable::default();
        let first = list(&mut memory, vec![module(&broken)]);
        assert_eq!(script(first), None, "it may replace a good one");
        assert_eq!(edit(&mut memory, &broken), None);
        let _ = list(&mut memory, Vec::new());
        assert_eq!(edit(&mut memory, &broken), Some(None));
        let again = list(&mut memory, vec![module(&broken)]);
        assert_eq!(script(again), Some(None));
        assert_eq!(edit(&mut LastUsable::default(), &broken), None);
    }
}
