//! For `nuncio operator`: which definitions have objects that nobody converts. The apiserver serves them with the fields of the
//! version in which they are stored, under the name of another one, so that no reader can tell.

use std::{collections::BTreeSet, time::Duration};

use kube::{Api, Client, api::ListParams};
use nuncio_crds::{GROUP, KINDS};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info, warn};

use super::definition::Definition;
use crate::{health::Progress, metrics::Metrics, watch::definitions::Definitions};

/// Changes that come together are looked at together.
const GATHER: Duration = Duration::from_secs(5);
/// Subject of the warning.
const SUBJECT: &str = "stored API versions";

/// Looks at our definitions at the start and with each change of a definition, until the task is dropped.
pub async fn follow(
    client: Client,
    mut definitions: watch::Receiver<Definitions>,
    progress: Progress,
    metrics: Metrics,
) {
    let api: Api<Definition> = Api::all(client);
    let mut known = BTreeSet::new();
    while definitions.changed().await.is_ok() {
        sleep(GATHER).await;
        let names = definitions.borrow_and_update().clone();
        let own = KINDS.iter().filter(|kind| kind.group == GROUP);
        let own = own.map(|kind| format!("{}.{GROUP}", kind.plural));
        let mut found = BTreeSet::new();
        for name in own.filter(|name| names.contains(name)) {
            // RBAC permits to list definitions, not to get them
            let one = ListParams::default().fields(&format!("metadata.name={name}"));
            match api.list(&one).await {
                Ok(list) => found.extend(list.items.iter().filter_map(describe)),
                Err(error) => debug!(%name, %error, "cannot read a CustomResourceDefinition"),
            }
        }
        metrics.unconverted_definitions(found.len());
        if found == known {
            continue;
        }
        if found.is_empty() {
            info!("objects of all stored API versions are converted");
            progress.settle(SUBJECT);
        } else {
            let text: Vec<&str> = found.iter().map(String::as_str).collect();
            let text = text.join(", ");
            warn!(
                definitions = %text,
                "objects are stored in an older API version, but conversion strategy is None: they are read with the fields of that \
                 version; set strategy Webhook and run nuncio apiext"
            );
            let warning = format!("{SUBJECT}: conversion strategy is None: {text}");
            progress.warn(SUBJECT, warning);
        }
        known = found;
    }
}

/// The definition and the versions of its objects, if nobody converts them.
fn describe(definition: &Definition) -> Option<String> {
    let stored = definition.unconverted();
    (!stored.is_empty()).then(|| format!("{} ({})", definition.name(), stored.join(", ")))
}
