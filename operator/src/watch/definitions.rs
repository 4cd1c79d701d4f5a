//! Which kinds of the API are installed: the names of all CustomResourceDefinitions, so that a kind is watched as soon as
//! it is installed. Only their metadata is read.
//!
//! Without permission for this watch nothing is lost but time: absent kinds are requested again now and then.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, api::PartialObjectMeta, runtime::watcher::Event};
use tokio::sync::watch;
use tracing::{debug, info};

use super::{
    Context,
    events::{self, Events},
    outage::{Cause, Outage, Reaction},
};
use nuncio_core::object::Kind;

/// Names of the definitions, such as `mappings.getambassador.io`.
pub type Definitions = Arc<BTreeSet<String>>;

/// Pause between attempts without permission.
const FORBIDDEN: std::time::Duration = std::time::Duration::from_secs(60);

/// Name of the definition of a kind.
pub(crate) fn name(kind: Kind) -> String {
    format!("{}.{}", kind.plural(), kind.group())
}

/// Keeps the names up to date until the task is dropped.
pub async fn watch(context: Context, names: watch::Sender<Definitions>) {
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(context.client.clone());
    let mut events = Events::new(api, events::config());
    let mut outage = Outage::default();
    let mut listing = BTreeSet::new();
    loop {
        let event = match events.next().await {
            Ok(event) => event,
            Err(error) => {
                let cause = Cause::of(&error);
                match outage.fail(cause, Instant::now()) {
                    Reaction::Settled => {
                        info!(%error, "cannot watch CustomResourceDefinitions; kinds installed later are found within a minute");
                    }
                    Reaction::Log => {
                        debug!(%error, "watch of CustomResourceDefinitions failed; retrying");
                    }
                    Reaction::Retry => {}
                }
                if outage.logged() == Some(cause) && cause != Cause::Other {
                    events.pause(FORBIDDEN);
                }
                continue;
            }
        };
        if !matches!(event, Event::Init) {
            outage.recover();
        }
        let name = |object: PartialObjectMeta<CustomResourceDefinition>| {
            object.metadata.name.unwrap_or_default()
        };
        match event {
            Event::Init => listing.clear(),
            Event::InitApply(object) => {
                listing.insert(name(object));
            }
            Event::InitDone => {
                names.send_replace(Arc::new(std::mem::take(&mut listing)));
            }
            // also an event that adds no name: a definition is served some time after it was created
            Event::Apply(object) => names.send_modify(|names| {
                Arc::make_mut(names).insert(name(object));
            }),
            Event::Delete(object) => names.send_modify(|names| {
                Arc::make_mut(names).remove(&name(object));
            }),
        }
    }
}
