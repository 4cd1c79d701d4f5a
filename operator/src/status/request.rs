//! One write of a status: the request, and what the answer says. Server-side apply leaves fields that others own as they
//! are.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use kube::{
    Client, Resource as _,
    api::{ApiResource, Patch, PatchParams},
    client::Body,
    core::{Request, Status},
};
use serde::Serialize;
use serde_json::Value;
use tracing::{debug, warn};

use super::{
    Manager,
    observed::Observed,
    queue::{Outcome, Write},
};
use crate::watch::object::Object;
use nuncio_core::object::{Kind, ObjectRef};

/// Pause after 429 without `Retry-After`.
const PAUSE: Duration = Duration::from_secs(1);

/// What server-side apply sends.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Applied<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: Metadata<'a>,
    status: &'a Value,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
}

/// Result of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Result of the write.
    pub(super) outcome: Outcome,
    /// The same, as the metric names it.
    pub(super) result: &'static str,
    /// How long the apiserver asks to wait before the next request.
    pub(super) pause: Option<Duration>,
}

impl Answer {
    const fn new(result: &'static str, outcome: Outcome) -> Self {
        Self {
            outcome,
            result,
            pause: None,
        }
    }
}

/// Writes a status.
pub(super) async fn patch(
    client: &Client,
    resource: &ApiResource,
    write: &Write,
    manager: &Manager,
) -> Answer {
    let object = &write.object;
    let sent = match sent(client, resource, write, &write.status, manager).await {
        // as with the definitions of Emissary-ingress, whose status has no conditions
        Err(error) if is_undeclared(&error) => {
            let known = known(object.kind, &write.status);
            sent(client, resource, write, &known, manager).await
        }
        sent => sent,
    };
    match sent {
        Ok(answer) => answer,
        Err(error) => {
            warn!(%object, %error, "status write failed; retrying");
            Answer::new("error", Outcome::Failed)
        }
    }
}

/// Whether the definition of the kind does not have a field of the status.
fn is_undeclared(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.message.contains("field not declared in schema"))
}

/// The fields of a status that are Emissary's. Newer definitions of Knative lack one of its fields, and have conditions.
fn known(kind: Kind, status: &Value) -> Value {
    if kind == Kind::KnativeIngress {
        let mut known = status.clone();
        if let Value::Object(fields) = &mut known {
            fields.remove("loadBalancer");
        }
        return known;
    }
    let fields = kind.info().status.fields().iter();
    let known = fields.filter_map(|field| Some(((*field).to_owned(), status.get(*field)?.clone())));
    known.collect()
}

async fn sent(
    client: &Client,
    resource: &ApiResource,
    write: &Write,
    status: &Value,
    manager: &Manager,
) -> Result<Answer, kube::Error> {
    let object = &write.object;
    let request = request(resource, object, status, manager)?;
    let response = client.send(request).await?;
    let (head, body) = response.into_parts();
    // whatever it is: a connection whose answer is not read to its end cannot be used again
    let body = body.collect_bytes().await?;
    if let Some(pause) = pause(head.status, &head.headers) {
        debug!(%object, ?pause, "the apiserver asks for fewer requests");
        return Ok(Answer {
            pause: Some(pause),
            ..Answer::new("throttled", Outcome::Throttled)
        });
    }
    match head.status {
        StatusCode::NOT_FOUND => Ok(Answer::new("gone", Outcome::Gone)),
        StatusCode::CONFLICT => Ok(Answer::new("conflict", Outcome::Failed)),
        status if status.is_success() => {
            let written: Object = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
            debug!(%object, "status written");
            let managers = written.metadata.managed_fields.as_deref();
            let observed = Observed::of(object.kind, &written.value).beside(managers, manager);
            Ok(Answer::new("ok", Outcome::Written(observed)))
        }
        status => Err(kube::Error::Api(error(status, &body).boxed())),
    }
}

fn request(
    resource: &ApiResource,
    object: &ObjectRef,
    status: &Value,
    manager: &Manager,
) -> Result<http::Request<Body>, kube::Error> {
    let applied = Applied {
        api_version: &resource.api_version,
        kind: &resource.kind,
        metadata: Metadata {
            name: &object.name,
            namespace: &object.namespace,
        },
        status,
    };
    let parameters = PatchParams::apply(manager.name()).force();
    let path = Object::url_path(resource, Some(&object.namespace));
    let request = Request::new(path).patch_subresource(
        "status",
        &object.name,
        &parameters,
        &Patch::Apply(&applied),
    );
    Ok(request.map_err(kube::Error::BuildRequest)?.map(Body::from))
}

/// How long to wait before the next request, if the answer says that there are too many.
fn pause(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let after = headers.get(RETRY_AFTER).and_then(|value| {
        let seconds = value.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    });
    match status {
        StatusCode::TOO_MANY_REQUESTS => Some(after.unwrap_or(PAUSE)),
        StatusCode::SERVICE_UNAVAILABLE => after,
        _ => None,
    }
}

/// The apiserver's error, or the beginning of an answer that is none of its own.
fn error(code: StatusCode, body: &[u8]) -> Status {
    serde_json::from_slice(body).unwrap_or_else(|_other| {
        let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
        Status::failure(&text, code.as_str())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_fields_of_emissary_are_left() {
        let status = json!({"state": "Running", "reason": "r", "conditions": []});
        let left = json!({"state": "Running", "reason": "r"});
        assert_eq!(known(Kind::Mapping, &status), left);
        assert_eq!(known(Kind::TlsContext, &status), json!({}));
        let status = json!({"loadBalancer": {}, "publicLoadBalancer": {}, "conditions": []});
        let left = json!({"publicLoadBalancer": {}, "conditions": []});
        assert_eq!(known(Kind::KnativeIngress, &status), left);
    }
}
