//! Writes statuses, one at a time, with server-side apply: fields that others own stay as they are.

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::sleep_until;
use tracing::{debug, warn};

use super::{
    Book, Manager,
    observed::Observed,
    queue::{Next, Outcome, Write},
};
use crate::{api::api_resource, metrics::Metrics};

/// Writes the statuses that differ, until the task is dropped.
pub async fn write(book: Book, client: Client, metrics: Metrics, manager: Manager) {
    loop {
        let next = book.next();
        metrics
            .status_pending
            .set(i64::try_from(book.pending()).unwrap_or(i64::MAX));
        metrics
            .status_yielded
            .set(i64::try_from(book.yielded()).unwrap_or(i64::MAX));
        match next {
            Next::Write(write) => {
                let outcome = patch(&client, &write, &metrics, &manager).await;
                book.done(&write, outcome);
            }
            Next::Continue => tokio::task::yield_now().await,
            Next::Wait(until) => {
                let sleep = async {
                    match until {
                        Some(until) => sleep_until(until.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = sleep => {}
                    () = book.inner.changed.notified() => {}
                }
            }
        }
    }
}

async fn patch(client: &Client, write: &Write, metrics: &Metrics, manager: &Manager) -> Outcome {
    let object = &write.object;
    let resource = api_resource(object.kind);
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &object.namespace, &resource);
    let patch = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": &*object.name, "namespace": &*object.namespace},
        "status": write.status,
    });
    let parameters = PatchParams::apply(manager.name()).force();
    let (result, outcome) = match api
        .patch_status(&object.name, &parameters, &Patch::Apply(&patch))
        .await
    {
        Ok(written) => {
            debug!(%object, "status written");
            let observed = Observed::of(object.kind, &written.data)
                .beside(written.metadata.managed_fields.as_deref(), manager);
            ("ok", Outcome::Written(observed))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => ("gone", Outcome::Gone),
        Err(kube::Error::Api(status)) if status.code == 409 => ("conflict", Outcome::Failed),
        Err(error) => {
            warn!(%object, %error, "status write failed; retrying");
            ("error", Outcome::Failed)
        }
    };
    metrics.count_status_write(result);
    outcome
}
