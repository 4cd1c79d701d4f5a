//! What an Envoy serves, by name, so that what it lost can be told.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nuncio_e2e::control_plane::page;
use serde_json::Value;
use tokio::{task::JoinHandle, time::sleep};

/// What an Envoy serves: each entry is the sort of thing, a space, and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inventory(BTreeSet<String>);

impl Inventory {
    /// What the Envoy with this admin interface serves now.
    pub(crate) async fn of(admin: &str) -> Result<Self> {
        let dump: Value = serde_json::from_str(&page(admin, "/config_dump?include_eds").await?)?;
        let configs = dump["configs"].as_array().context("no configuration")?;
        let section = |name: &str| {
            let entries = configs.iter().filter_map(|config| config[name].as_array());
            let entries: Vec<Value> = entries.flatten().cloned().collect();
            entries
        };
        let mut found = BTreeSet::new();
        let mut add = |sort: &str, name: &Value| {
            found.insert(format!("{sort} {}", name.as_str().unwrap_or_default()))
        };
        for listener in section("dynamic_listeners") {
            add("listener", &listener["name"]);
        }
        for cluster in section("dynamic_active_clusters") {
            add("cluster", &cluster["cluster"]["name"]);
        }
        for secret in section("dynamic_active_secrets") {
            add("secret", &secret["name"]);
        }
        for assignment in section("dynamic_endpoint_configs") {
            // which of them is a matter of edits, but not whether there is one
            if !values(&assignment["endpoint_config"], "address").is_empty() {
                add("endpoint", &assignment["endpoint_config"]["cluster_name"]);
            }
        }
        for table in section("dynamic_route_configs") {
            for prefix in values(&table["route_config"], "cluster") {
                add("route", prefix);
            }
        }
        Ok(Self(found))
    }

    /// What was there before and is not now.
    pub(crate) fn missing_since(&self, before: &Self) -> BTreeSet<String> {
        before.0.difference(&self.0).cloned().collect()
    }

    /// Number of things of a sort.
    pub(crate) fn count(&self, sort: &str) -> usize {
        let is_it = |entry: &&String| entry.split(' ').next() == Some(sort);
        self.0.iter().filter(is_it).count()
    }
}

/// Looks at an Envoy again and again. It stops when dropped.
pub(crate) struct Lookout {
    missing: Arc<Mutex<BTreeSet<String>>>,
    task: JoinHandle<()>,
}

impl Lookout {
    /// Notes what was there before and is not. An Envoy that does not answer shows nothing.
    pub(crate) fn start(admin: String, before: Inventory) -> Self {
        let missing = Arc::<Mutex<BTreeSet<String>>>::default();
        let noted = missing.clone();
        let task = tokio::spawn(async move {
            loop {
                if let Ok(now) = Inventory::of(&admin).await {
                    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    noted.extend(now.missing_since(&before));
                }
                sleep(Duration::from_millis(50)).await;
            }
        });
        Self { missing, task }
    }

    /// What was missing at any time.
    pub(crate) fn missing(&self) -> BTreeSet<String> {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing.clone()
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All texts with this key, at any depth.
fn values<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, field)| {
                let is_it = name == key && field.is_string();
                is_it.then_some(field).into_iter().chain(values(field, key))
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(|item| values(item, key)).collect(),
        _ => Vec::new(),
    }
}
