//! What Envoys get before the cluster has been listed: the configuration of a directory (`AMBASSADOR_CONFIG_DIR`). The first
//! snapshot of the cluster replaces it wholly.

use std::collections::BTreeSet;

use nuncio_core::{change::Change, settings::Settings, store::Store};
use nuncio_xds::{Unit, cache::Update, render};

/// The resources that these objects are made into; `None` if there is nothing to serve.
pub(super) fn resources(
    changes: Vec<Change>,
    settings: &Settings,
) -> Option<(Update, BTreeSet<Unit>)> {
    let has_any = changes.iter().any(|change| match change {
        Change::Replace(_, _, all) => all.iter().any(|found| found.fragment.is_some()),
        _other => false,
    });
    if !has_any {
        return None;
    }
    // Services and Secrets are not known yet
    let settings = Settings {
        in_cluster: false,
        reads_secrets_on_demand: false,
        queries_consul: false,
        ..settings.clone()
    };
    let mut store = Store::new(settings);
    for change in changes {
        store.apply(change);
    }
    store.link();
    let units: BTreeSet<Unit> = store.ir().units().collect();
    let upserts = units.iter().filter_map(|unit| render(unit, store.ir()));
    let update = Update {
        upserts: upserts.collect(),
        ..Update::default()
    };
    Some((update, units))
}
