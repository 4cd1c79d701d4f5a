//! `--default-listeners`: an installation without a Listener gets one on 8080 and one on 8443, as objects that users can see,
//! edit and delete. They cannot be part of the manifests that install the kinds: kubectl maps every kind of its input
//! before it applies the first object.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, PostParams},
};
use nuncio_core::{object::Kind, reconcile::is_for, settings::Fleets};
use nuncio_crds::v3alpha1::{
    HostBinding, Listener, ListenerSpec, NamespaceBinding, NamespaceFrom, Protocol, SecurityModel,
};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info};

use crate::api::api_resource;

/// Pause between attempts, while the kind is not installed or the apiserver does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// Creates the default Listeners when this replica becomes the leader and there is no Listener; then waits for the next
/// term, until the task is dropped.
pub async fn create(client: Client, fleets: Fleets, mut leading: watch::Receiver<bool>) {
    let mut logged = None;
    loop {
        if leading.wait_for(|leading| *leading).await.is_err() {
            return;
        }
        match create_if_none(&client, &fleets).await {
            Ok(()) => {
                if leading.wait_for(|leading| !leading).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                let text = error.to_string();
                if logged.as_ref() == Some(&text) {
                    debug!(%error, "cannot create the default Listeners; retrying");
                } else {
                    info!(%error, "cannot create the default Listeners yet; retrying");
                    logged = Some(text);
                }
                sleep(RETRY).await;
            }
        }
    }
}

async fn create_if_none(client: &Client, fleets: &Fleets) -> Result<(), kube::Error> {
    let settings = fleets.common();
    let resource = api_resource(Kind::Listener);
    let existing: Api<DynamicObject> = match &settings.single_namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let existing = existing.list(&ListParams::default()).await?;
    let has_one = |id: &str| {
        let mut listeners = existing.items.iter();
        listeners.any(|listener| is_for(&listener.data, id))
    };
    let without: Vec<&str> = fleets.ids().filter(|id| !has_one(id)).collect();
    if without.is_empty() {
        return Ok(());
    }
    let namespace = &settings.ambassador_namespace;
    let api: Api<Listener> = Api::namespaced(client.clone(), namespace);
    for listener in listeners(&without) {
        let name = listener.metadata.name.as_deref().unwrap_or_default();
        match api.create(&PostParams::default(), &listener).await {
            Ok(_) => {
                info!(
                    namespace,
                    name,
                    port = listener.spec.port,
                    "created a default Listener, because there was no Listener"
                );
            }
            // another installation has an object of this name
            Err(kube::Error::Api(status)) if status.code == 409 => {
                info!(
                    namespace,
                    name, "did not create a default Listener: the name is taken"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The usual ports, to which the Service of Envoys maps 80 and 443. Fleets without a Listener share them.
fn listeners(ambassador_ids: &[&str]) -> [Listener; 2] {
    [
        ("http", 8080, Protocol::Http),
        ("https", 8443, Protocol::Https),
    ]
    .map(|(name, port, protocol)| {
        let spec = ListenerSpec {
            ambassador_id: match ambassador_ids {
                ["default"] => Vec::new(),
                ids => ids.iter().map(|id| (*id).to_owned()).collect(),
            },
            port,
            protocol: Some(protocol),
            protocol_stack: Vec::new(),
            security_model: SecurityModel::Xfp,
            stats_prefix: None,
            l7_depth: None,
            http2_max_concurrent_streams: None,
            host_binding: HostBinding {
                namespace: Some(NamespaceBinding {
                    from: Some(NamespaceFrom::All),
                    selector: None,
                }),
                selector: None,
            },
        };
        Listener::new(name, spec)
    })
}

#[cfg(test)]
mod tests {
    use nuncio_core::{report::Severity, settings::Settings};

    use super::*;

    #[test]
    fn the_listeners_are_valid_and_of_their_instance() {
        for (ids, id) in [
            (["default"].as_slice(), "default"),
            (&["edge"], "edge"),
            (&["default", "edge"], "default"),
            (&["default", "edge"], "edge"),
        ] {
            let settings = Settings {
                ambassador_id: id.to_owned(),
                ..Settings::default()
            };
            for mut listener in listeners(ids) {
                listener.metadata.namespace = Some("nuncio-system".to_owned());
                let object = serde_json::to_value(&listener).unwrap();
                let reconciled =
                    nuncio_core::reconcile::reconcile(Kind::Listener, object, &settings);
                assert!(reconciled.fragment.is_some(), "{id}");
                assert_eq!(
                    reconciled
                        .problems
                        .iter()
                        .filter(|problem| problem.severity == Severity::Error)
                        .count(),
                    0
                );
            }
        }
    }
}
