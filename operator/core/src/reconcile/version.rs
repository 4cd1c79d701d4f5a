//! Objects in another version than the one that reconcilers read, as files have them, and clusters without a conversion
//! webhook. They are converted first; problems are about the fields that the user has written.

use nuncio_crds::{
    GROUP,
    conversion::{self, ApiVersion},
};
use serde_json::Value;

use super::{Found, ignored, not_served};
use crate::{
    object::Kind,
    report::{Problem, Reason},
};

/// How an object became one of the version that reconcilers read.
pub(super) enum Conversion {
    /// It was one.
    None,
    /// It was converted, without what these problems are about.
    Done(Vec<Problem>),
    /// It could not be converted.
    Failed(Problem),
}

impl Conversion {
    /// Converts an object, if it has to be converted.
    pub(super) fn of(kind: Kind, object: &mut Value) -> Self {
        if kind.group() != GROUP {
            return Self::None;
        }
        let version = object.get("apiVersion").and_then(Value::as_str);
        let Some(version) = version.and_then(ApiVersion::parse) else {
            return Self::None;
        };
        if version.name() == kind.version() {
            return Self::None;
        }
        let lost = conversion::lost(object).into_iter().map(|path| {
            let fact = "a condition must be a string, or true for any value";
            ignored(path, fact)
        });
        let lost = lost.collect();
        match conversion::convert_in_place(object, ApiVersion::V3Alpha1) {
            Ok(()) => Self::Done(lost),
            Err(error) => {
                let fact = format!("cannot be converted from {version}: {}", error.message);
                Self::Failed(Problem {
                    reason: Reason::INVALID,
                    ..not_served(kind, error.path, fact)
                })
            }
        }
    }

    /// What is found in the object, with the problems of the conversion.
    pub(super) fn reported(&self, kind: Kind, read: impl FnOnce() -> Found) -> Found {
        match self {
            Self::None => read(),
            Self::Done(lost) => {
                let (fragment, mut problems) = read();
                for problem in &mut problems {
                    problem.path = conversion::old_path(kind.name(), &problem.path);
                }
                problems.extend(lost.iter().cloned());
                (fragment, problems)
            }
            Self::Failed(problem) => (None, vec![problem.clone()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{change::Reconciled, reconcile::reconcile, settings::Settings};

    fn mapping(version: &str, spec: &Value) -> Reconciled {
        let object = json!({
            "apiVersion": format!("getambassador.io/{version}"),
            "kind": "Mapping",
            "metadata": {"name": "a", "namespace": "default"},
            "spec": spec,
        });
        reconcile(Kind::Mapping, object, &Settings::default())
    }

    fn reported(found: &Reconciled) -> Vec<(&str, &str)> {
        let problems = found.problems.iter();
        problems
            .map(|found| (found.path.as_str(), found.message.as_str()))
            .collect()
    }

    #[test]
    fn each_version_is_read() {
        let old = json!({"prefix": "/", "service": "a", "host": "b", "tls": true, "ambassador_id": "default"});
        let new = json!({"prefix": "/", "service": "https://a", "hostname": "b"});
        let expected = mapping("v3alpha1", &new);
        assert!(expected.fragment.is_some());
        assert_eq!(mapping("v2", &old), expected);
        assert_eq!(mapping("v1", &old), expected);
    }

    #[test]
    fn problems_have_the_names_of_the_version() {
        let old = json!({"prefix": "/", "service": "a", "v3health_checks": [{"health_check": 5}]});
        let found = mapping("v2", &old);
        assert_eq!(
            reported(&found)[0].0,
            "spec.v3health_checks[0].health_check"
        );
        let found = mapping("v2", &json!({"prefix": "/", "service": "a", "host": 5}));
        assert_eq!(reported(&found)[0].0, "spec.host");
    }

    #[test]
    fn what_cannot_be_converted_is_reported() {
        let old = json!({"prefix": "/", "service": "a", "headers": {"x": false, "y": true}});
        let found = mapping("v2", &old);
        assert!(found.fragment.is_some());
        let message = "a condition must be a string, or true for any value; ignored";
        assert_eq!(reported(&found), [("spec.headers.x", message)]);
        let found = mapping("v2", &json!("text"));
        assert_eq!(found.fragment, None);
        assert_eq!(
            reported(&found),
            [(
                "spec",
                "cannot be converted from getambassador.io/v2: must be an object; this Mapping is not served"
            )]
        );
    }
}
