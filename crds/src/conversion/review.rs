//! A `ConversionReview` (`apiextensions.k8s.io/v1`): objects that the apiserver wants in another version, and the answer. Pure.
//!
//! The apiserver takes an answer as a whole: one object that cannot be converted fails the request, be it a list of all objects of
//! a kind. So hardly anything is an error: a value of a wrong type is passed on, and a definition with our schema stores no object
//! without a `spec` that is an object. The message of a failure names every object that is to blame, so that all can be repaired
//! at once.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApiVersion, Error, convert_in_place};
use crate::GROUP;

const API_VERSION: &str = "apiextensions.k8s.io/v1";
const KIND: &str = "ConversionReview";

/// Objects that a message names; of further ones it says how many there are.
const NAMED: usize = 100;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired: String,
    #[serde(default)]
    objects: Vec<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    converted_objects: Option<Vec<Value>>,
    result: Outcome<'a>,
}

#[derive(Serialize)]
#[serde(tag = "status")]
enum Outcome<'a> {
    Success,
    Failure { message: &'a str },
}

/// What became of a review.
#[derive(Debug)]
pub struct Reviewed {
    /// The body of the answer.
    pub body: Vec<u8>,
    /// How many objects were asked for.
    pub objects: usize,
    /// Why not all of them could be converted.
    pub failure: Option<String>,
}

/// The answer to a review.
///
/// # Errors
/// The body is no review, so that there is no request to answer.
pub fn review(body: &[u8]) -> Result<Reviewed, Error> {
    let invalid = |message: String| Error { path: "", message };
    let question: Question = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("not a {KIND} of {API_VERSION}: {error}")))?;
    if (question.api_version.as_str(), question.kind.as_str()) != (API_VERSION, KIND) {
        let (version, kind) = (question.api_version, question.kind);
        return Err(invalid(format!(
            "must be a {KIND} of {API_VERSION}, not a {kind} of {version}"
        )));
    }
    let Some(request) = question.request else {
        return Err(Error {
            path: "request",
            message: "is missing".to_owned(),
        });
    };
    let mut objects = request.objects;
    let count = objects.len();
    let failure = convert_all(&mut objects, &request.desired).err();
    let answer = Answer {
        api_version: API_VERSION,
        kind: KIND,
        response: Response {
            uid: request.uid,
            converted_objects: failure.is_none().then_some(objects),
            result: match &failure {
                None => Outcome::Success,
                Some(message) => Outcome::Failure { message },
            },
        },
    };
    let body = serde_json::to_vec(&answer).map_err(|error| invalid(error.to_string()))?;
    Ok(Reviewed {
        body,
        objects: count,
        failure,
    })
}

/// Converts all objects. If one cannot be converted, the message names those that cannot, and why.
fn convert_all(objects: &mut [Value], desired: &str) -> Result<(), String> {
    let Some(version) = ApiVersion::parse(desired) else {
        return Err(format!(
            "desiredAPIVersion: must be a version of {GROUP}, not {desired:?}"
        ));
    };
    let total = objects.len();
    let mut failed = 0;
    let mut named = Vec::new();
    for (index, object) in objects.iter_mut().enumerate() {
        if let Err(error) = convert_in_place(object, version) {
            failed += 1;
            if failed <= NAMED {
                named.push(format!("{}: {error}", name(object, index)));
            }
        }
    }
    if failed == 0 {
        return Ok(());
    }
    if failed > NAMED {
        named.push(format!("and {} more", failed - NAMED));
    }
    let named = named.join("; ");
    Err(format!(
        "{failed} of {total} objects cannot be converted to {version}: {named}"
    ))
}

/// How people call an object: `Mapping default/quote`; by its place in the review if it does not say.
fn name(object: &Value, index: usize) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let Some(name) = text("/metadata/name") else {
        return format!("objects[{index}]");
    };
    let kind = text("/kind").unwrap_or("object");
    match text("/metadata/namespace") {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn question(desired: &str, objects: &Value) -> Vec<u8> {
        json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "request": {"uid": "u", "desiredAPIVersion": desired, "objects": objects},
        })
        .to_string()
        .into_bytes()
    }

    fn answer(desired: &str, objects: &Value) -> Value {
        let reviewed = review(&question(desired, objects)).unwrap();
        let answer: Value = serde_json::from_slice(&reviewed.body).unwrap();
        let message = answer["response"]["result"]["message"].as_str();
        assert_eq!(reviewed.failure.as_deref(), message);
        assert_eq!(reviewed.objects, objects.as_array().unwrap().len());
        answer
    }

    fn mapping(name: &str, spec: &Value) -> Value {
        json!({
            "apiVersion": "getambassador.io/v2",
            "kind": "Mapping",
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": spec,
            "status": {"state": "Running"},
        })
    }

    #[test]
    fn all_objects_are_converted_in_their_order() {
        let objects = json!([
            mapping("b", &json!({"prefix": "/b/", "host": "b"})),
            mapping("a", &json!({"prefix": "/a/", "tls": true, "service": "s"})),
        ]);
        let mut expected = objects.clone();
        for object in expected.as_array_mut().unwrap() {
            *object = super::super::convert(object.take(), ApiVersion::V3Alpha1).unwrap();
        }
        assert_eq!(
            answer("getambassador.io/v3alpha1", &objects),
            json!({
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "ConversionReview",
                "response": {"uid": "u", "convertedObjects": expected, "result": {"status": "Success"}},
            })
        );
        assert_eq!(expected[0]["spec"]["hostname"], "b");
        assert_eq!(expected[1]["status"], json!({"state": "Running"}));
        assert_eq!(expected[1]["metadata"], objects[1]["metadata"]);
    }

    #[test]
    fn a_failure_names_each_object_and_field() {
        let mut other = mapping("c", &json!({}));
        other["kind"] = "Filter".into();
        let objects = json!([
            mapping("a", &json!({})),
            mapping("b", &json!("text")),
            other,
            {"apiVersion": "v1"},
        ]);
        assert_eq!(
            answer("getambassador.io/v3alpha1", &objects)["response"],
            json!({
                "uid": "u",
                "result": {
                    "status": "Failure",
                    "message": "3 of 4 objects cannot be converted to getambassador.io/v3alpha1: \
                        Mapping default/b: spec: must be an object; \
                        Filter default/c: kind: getambassador.io/v2 has no kind \"Filter\"; \
                        objects[3]: apiVersion: must be a version of getambassador.io, not \"v1\"",
                },
            })
        );
    }

    #[test]
    fn a_message_about_very_many_objects_is_not_very_long() {
        let objects: Value = (0..250)
            .map(|n| mapping(&n.to_string(), &json!(1)))
            .collect();
        let answer = answer("getambassador.io/v3alpha1", &objects);
        let message = answer["response"]["result"]["message"].as_str().unwrap();
        assert!(message.starts_with("250 of 250 objects"), "{message}");
        assert!(message.contains("default/99: spec"), "{message}");
        assert!(message.ends_with("; and 150 more"), "{message}");
    }

    #[test]
    fn a_version_that_is_none_of_the_group_is_a_failure() {
        let answer = answer("getambassador.io/v4", &json!([]));
        assert_eq!(
            answer["response"]["result"]["message"],
            "desiredAPIVersion: must be a version of getambassador.io, not \"getambassador.io/v4\""
        );
    }

    #[test]
    fn what_is_no_review_has_no_answer() {
        let error = |body: &str| review(body.as_bytes()).unwrap_err().to_string();
        assert!(error("{").starts_with("not a ConversionReview of apiextensions.k8s.io/v1: "));
        assert_eq!(
            error(r#"{"apiVersion": "v1", "kind": "Pod"}"#),
            "must be a ConversionReview of apiextensions.k8s.io/v1, not a Pod of v1"
        );
        let without = json!({"apiVersion": API_VERSION, "kind": KIND});
        assert_eq!(error(&without.to_string()), "request: is missing");
        let deep = "[".repeat(100_000);
        assert!(error(&deep).contains("not a ConversionReview"));
    }

    proptest! {
        /// No input is the end of the process.
        #[test]
        fn any_bytes_are_answered_or_refused(body: Vec<u8>, at in any::<prop::sample::Index>(), byte: u8) {
            let _ = review(&body);
            let objects = json!([mapping("a", &json!({"headers": {"a": true}, "labels": {"d": [{"g": ["x"]}]}}))]);
            let mut body = question("getambassador.io/v3alpha1", &objects);
            let at = at.index(body.len());
            body[at] = byte;
            let _ = review(&body);
        }
    }
}
