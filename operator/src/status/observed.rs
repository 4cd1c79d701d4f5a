//! The status that an object has, as the watch saw it, reduced to what the next status depends on: a digest that shows
//! whether a write is needed, and the transition time of each condition.
//!
//! Only the fields that Nuncio owns count. What others keep in the status causes no write, and server-side apply leaves
//! it alone.

use std::hash::{Hash as _, Hasher as _};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::Value;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::manager::{Manager, Rival};
use nuncio_core::{object::Kind, report::Reason};
use nuncio_crds::kind::Status;

/// The condition types of a kind, in their order in a status. What Envoys have done is in the last one.
pub(crate) const fn condition_types(kind: Kind) -> [&'static str; 3] {
    match kind.info().status {
        Status::Knative => ["NetworkConfigured", "LoadBalancerReady", "Ready"],
        _ => ["Accepted", "ResolvedRefs", "Programmed"],
    }
}

/// The place of the condition about Envoys.
const PROGRAMMED: usize = 2;

/// The fields of a condition.
const CONDITION_FIELDS: [&str; 6] = [
    "lastTransitionTime",
    "message",
    "observedGeneration",
    "reason",
    "status",
    "type",
];

/// The status that an object has, and what else its next status depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Of the fields that Nuncio owns; equal digests need no write.
    pub(crate) digest: u64,
    /// Digest without times and without `Programmed`'s message: statuses with the same essence differ only in the
    /// number of Envoys.
    pub(crate) essence: u64,
    /// `observedGeneration` of `Programmed`.
    pub(crate) generation: i64,
    /// For each of [`condition_types`], whether it is true and since when, in seconds since the Unix epoch.
    pub(crate) transitions: [Option<(bool, i64)>; 3],
    /// Whether `Programmed` says that Envoy rejects the object.
    pub(crate) is_rejected: bool,
    /// `errorTimestamp` of a Host, in seconds since the Unix epoch.
    pub(crate) error_since: Option<i64>,
    /// Digest of its `errorReason`.
    pub(crate) error_reason: u64,
    /// Whether a Host has a `tlsSecret`.
    pub(crate) has_tls_secret: bool,
    /// Another installation that writes this status and precedes this one.
    pub(crate) rival: Option<Rival>,
}

impl Observed {
    /// Reduces an object.
    #[must_use]
    pub fn of(kind: Kind, object: &Value) -> Self {
        let status = object.get("status").unwrap_or(&Value::Null);
        Self {
            has_tls_secret: object
                .pointer("/spec/tlsSecret/name")
                .and_then(Value::as_str)
                .is_some_and(|name| !name.is_empty()),
            ..Self::of_status(kind, status)
        }
    }

    /// Reduces a status.
    pub(crate) fn of_status(kind: Kind, status: &Value) -> Self {
        let mut digests = Digests::default();
        for field in kind.info().status.fields() {
            if let Some(value) = status.get(*field) {
                digests.add(field, value, *field != "errorTimestamp");
            }
        }
        let mut observed = Self {
            error_since: second(text(status, "errorTimestamp")),
            error_reason: xxh3_64(text(status, "errorReason").as_bytes()),
            ..Self::default()
        };
        let conditions = status.get("conditions").and_then(Value::as_array);
        if kind.info().status == Status::Knative {
            observed.generation = status["observedGeneration"].as_i64().unwrap_or_default();
        }
        for (slot, name) in condition_types(kind).into_iter().enumerate() {
            let mut all = conditions.into_iter().flatten();
            let Some(condition) = all.find(|condition| text(condition, "type") == name) else {
                continue;
            };
            observed.transitions[slot] = second(text(condition, "lastTransitionTime"))
                .map(|since| (text(condition, "status") == "True", since));
            if slot == PROGRAMMED {
                observed.is_rejected = text(condition, "reason") == Reason::REJECTED.as_str();
                if let Some(generation) = condition.get("observedGeneration") {
                    observed.generation = generation.as_i64().unwrap_or_default();
                }
            }
            for field in CONDITION_FIELDS {
                if let Some(value) = condition.get(field) {
                    let is_count = slot == PROGRAMMED && field == "message";
                    digests.add(field, value, field != "lastTransitionTime" && !is_count);
                }
            }
        }
        (observed.digest, observed.essence) = digests.finish();
        observed
    }

    /// The same, with the other installation that these managers name, if any.
    #[must_use]
    pub fn beside(self, managers: Option<&[ManagedFieldsEntry]>, own: &Manager) -> Self {
        Self {
            rival: own.rival(managers),
            ..self
        }
    }

    /// Whether `Programmed` is true for this generation.
    pub(crate) fn is_programmed_at(&self, generation: i64) -> bool {
        self.generation == generation && matches!(self.transitions[2], Some((true, _)))
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn second(time: &str) -> Option<i64> {
    time.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// The digests of a status, field by field. The fields always come in the same order.
#[derive(Default)]
struct Digests {
    digest: Xxh3Default,
    essence: Xxh3Default,
}

impl Digests {
    fn add(&mut self, field: &str, value: &Value, is_essential: bool) {
        (field, value).hash(&mut self.digest);
        if is_essential {
            (field, value).hash(&mut self.essence);
        }
    }

    fn finish(&self) -> (u64, u64) {
        (self.digest.finish(), self.essence.finish())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(status: &Value) -> Value {
        json!({"metadata": {"name": "a"}, "status": status})
    }

    #[test]
    fn what_others_keep_in_the_status_does_not_count() {
        let ours =
            json!({"state": "Running", "conditions": [{"type": "Accepted", "status": "True"}]});
        let both = json!({
            "state": "Running",
            "theirs": 1,
            "conditions": [{"type": "Theirs", "status": "True"}, {"type": "Accepted", "status": "True"}],
        });
        let observed = Observed::of(Kind::Mapping, &object(&ours));
        assert_eq!(observed, Observed::of(Kind::Mapping, &object(&both)));
        let other =
            json!({"state": "Inactive", "conditions": [{"type": "Accepted", "status": "True"}]});
        assert_ne!(
            observed.digest,
            Observed::of(Kind::Mapping, &object(&other)).digest
        );
    }

    #[test]
    fn transition_times_are_read_back() {
        let status = json!({"conditions": [
            {"type": "Programmed", "status": "True", "lastTransitionTime": "1970-01-01T00:01:00Z"},
            {"type": "Accepted", "status": "False", "lastTransitionTime": "not a time"},
        ]});
        let observed = Observed::of(Kind::Listener, &object(&status));
        assert_eq!(observed.transitions, [None, None, Some((true, 60))]);
    }

    #[test]
    fn the_number_of_envoys_and_times_are_not_part_of_the_essence() {
        let status = |message: &str, reason: &str, time: &str| {
            let condition = json!({
                "type": "Programmed", "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": time,
            });
            Observed::of(
                Kind::Listener,
                &object(&json!({ "conditions": [condition] })),
            )
        };
        let two = status("2/2 Envoys", "Programmed", "1970-01-01T00:01:00Z");
        let three = status("3/3 Envoys", "Programmed", "1970-01-01T00:02:00Z");
        assert_eq!(two.essence, three.essence);
        assert_ne!(two.digest, three.digest);
        assert_ne!(
            two.essence,
            status("2/2 Envoys", "Other", "1970-01-01T00:01:00Z").essence
        );
    }

    #[test]
    fn a_status_of_any_shape_is_accepted() {
        for status in [
            json!(null),
            json!(3),
            json!("x"),
            json!([]),
            json!({"conditions": 1}),
        ] {
            assert_eq!(
                Observed::of(Kind::Host, &object(&status)).transitions,
                [None; 3]
            );
        }
        assert_eq!(
            Observed::of(Kind::Host, &json!(null)).transitions,
            [None; 3]
        );
    }

    #[test]
    fn a_host_with_a_tls_secret_differs_from_one_without() {
        let with = json!({"spec": {"tlsSecret": {"name": "cert"}}});
        let without = json!({"spec": {"tlsSecret": {}}});
        assert!(Observed::of(Kind::Host, &with).has_tls_secret);
        assert!(!Observed::of(Kind::Host, &without).has_tls_secret);
    }
}
