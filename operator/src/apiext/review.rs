//! ConversionReviews as bytes.

use nuncio_crds::conversion::{ApiVersion, Error, convert};
use serde::Deserialize;
use serde_json::{Value, json};

/// The answer to a review.
#[derive(Debug)]
pub(super) struct Reviewed {
    /// The review with its response.
    pub(super) body: Vec<u8>,
    /// Number of objects.
    pub(super) objects: usize,
    /// Which object could not be converted, and why.
    pub(super) failure: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    #[serde(rename = "desiredAPIVersion")]
    desired_api_version: String,
    objects: Vec<Value>,
}

/// Converts the objects of a review.
pub(super) fn review(body: &[u8]) -> Result<Reviewed, Error> {
    let review: Review = serde_json::from_slice(body).map_err(|e| Error {
        path: "",
        message: e.to_string(),
    })?;
    let request = review.request;
    let objects = request.objects.len();
    let to = ApiVersion::parse(&request.desired_api_version);
    let converted: Result<Vec<Value>, String> = match to {
        None => Err(format!("unknown version {}", request.desired_api_version)),
        Some(to) => request
            .objects
            .into_iter()
            .map(|object| convert(object, to).map_err(|e| e.to_string()))
            .collect(),
    };
    let (response, failure) = match converted {
        Ok(converted) => (
            json!({"uid": request.uid, "convertedObjects": converted, "result": {"status": "Success"}}),
            None,
        ),
        Err(message) => (
            json!({"uid": request.uid, "result": {"status": "Failure", "message": message}}),
            Some(message),
        ),
    };
    let body = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response});
    Ok(Reviewed {
        body: body.to_string().into_bytes(),
        objects,
        failure,
    })
}
