//! `--default-listeners`: an installation without a Listener gets one on 8080 and one on 8443, as objects that users can see,
//! edit and delete. They cannot be part of the manifests that install the kinds: kubectl maps every kind of its input
//! before it applies the first object.

use std::time::Duration;

use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, PostParams},
};
use nuncio_core::{object::Kind, reconcile::is_for, settings::Settings};
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
pub async fn create(client: Client, settings: Settings, mut leading: watch::Receiver<bool>) {
    let mut logged = None;
    loop {
        if leading.wait_for(|leading| *leading).await.is_err() {
            return;
        }
        match create_if_none(&client, &settings).await {
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

async fn create_if_none(client: &Client, settings: &Settings) -> Result<(), kube::Error> {
    let resource = api_resource(Kind::Listener);
    let existing: Api<DynamicObject> = match &settings.single_namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let existing = existing.list(&ListParams::default()).await?;
    if existing
        .items
        .iter()
        .any(|listener| is_for(&listener.data, &settings.ambassador_id))
    {
        return Ok(());
    }
    let namespace = &settings.ambassador_namespace;
    let api: Api<Listener> = Api::namespaced(client.clone(), namespace);
    for listener in listeners(&settings.ambassador_id) {
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

/// The usual ports, to which the Service of Envoys maps 80 and 443.
fn listeners(ambassador_id: &str) -> [Listener; 2] {
    [
        ("http", 8080, Protocol::Http),
        ("https", 8443, Protocol::Https),
    ]
    .map(|(name, port, protocol)| {
        let spec = ListenerSpec {
            ambassador_id: match ambassador_id {
                "default" => Vec::new(),
                id => vec![id.to_owned()],
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
    use nuncio_core::report::Severity;

    use super::*;

    #[test]
    fn the_listeners_are_valid_and_of_their_instance() {
        for id in ["default", "edge"] {
            let settings = Settings {
                ambassador_id: id.to_owned(),
                ..Settings::default()
            };
            for mut listener in listeners(id) {
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
