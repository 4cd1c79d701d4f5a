//! The resources of the Kubernetes API that kinds stand for, and the versions in which they are read and written.
//!
//! That is our own version, and another one only while the cluster does not serve ours, or cannot convert to it what it has stored,
//! as with the definitions of Emissary-ingress whose webhook is gone. Objects are then converted here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use kube::{Client, api::ApiResource};
use nuncio_core::object::Kind;

/// The API resource of a kind, in our version.
#[must_use]
pub fn api_resource(kind: Kind) -> ApiResource {
    api_resource_in(kind, kind.version())
}

/// The API resource of a kind, in this version.
fn api_resource_in(kind: Kind, version: &str) -> ApiResource {
    let group = kind.group();
    ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        },
        kind: kind.name().to_owned(),
        plural: kind.plural().to_owned(),
    }
}

/// The version in which each kind is read and written. Cheap to clone: clones share their content.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    /// Kinds that are in another version than ours.
    others: Arc<Mutex<BTreeMap<Kind, &'static str>>>,
}

impl Versions {
    /// The API resource of a kind, in its version.
    #[must_use]
    pub fn resource(&self, kind: Kind) -> ApiResource {
        api_resource_in(kind, self.of(kind))
    }

    /// The version of a kind.
    #[must_use]
    pub fn of(&self, kind: Kind) -> &'static str {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.get(&kind).copied().unwrap_or(kind.version())
    }

    /// Chooses the version of a kind.
    pub(crate) fn choose(&self, kind: Kind, version: &'static str) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.insert(kind, version);
    }

    /// The next version of a kind that the cluster serves: the newest of those that are older than the current one, or else the
    /// newest of all. None if the current one is the only one, or if the cluster does not say.
    pub(crate) async fn next(&self, kind: Kind, client: &Client) -> Option<&'static str> {
        let names: Vec<&'static str> = kind.info().versions.iter().map(|of| of.name).collect();
        let current = names.iter().position(|name| *name == self.of(kind))?;
        let (older, newer) = names.split_at(current);
        let newer = newer.iter().skip(1);
        for version in older.iter().rev().chain(newer.rev()) {
            let group_version = &api_resource_in(kind, version).api_version;
            let list = client.list_api_group_resources(group_version).await;
            let is_served = list.is_ok_and(|list| {
                let mut resources = list.resources.iter();
                resources.any(|found| found.name == kind.plural())
            });
            if is_served {
                return Some(version);
            }
        }
        None
    }
}
