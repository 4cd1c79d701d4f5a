//! Copies of the objects of the apiserver that follow every change.

use std::{fmt::Debug, pin::pin, sync::Arc};

use anyhow::Result;
use futures::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet};

/// The kinds that a node follows.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) pods: Followed<Pod>,
    pub(super) services: Followed<Service>,
    pub(super) slices: Followed<EndpointSlice>,
    pub(super) secrets: Followed<Secret>,
    pub(super) config_maps: Followed<ConfigMap>,
}

impl Cluster {
    /// Follows them, and returns once all of them are listed.
    pub(super) async fn follow(client: Client, tasks: &mut JoinSet<()>) -> Result<Self> {
        Ok(Self {
            pods: Followed::start(&client, tasks).await?,
            services: Followed::start(&client, tasks).await?,
            slices: Followed::start(&client, tasks).await?,
            secrets: Followed::start(&client, tasks).await?,
            config_maps: Followed::start(&client, tasks).await?,
            client,
        })
    }
}

/// The objects of one kind.
pub(super) struct Followed<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    changes: watch::Receiver<u64>,
}

impl<K> Followed<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    async fn start(client: &Client, tasks: &mut JoinSet<()>) -> Result<Self> {
        let (store, writer) = reflector::store();
        let (sender, changes) = watch::channel(0);
        let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .reflect(writer);
        tasks.spawn(async move {
            let mut events = pin!(events);
            while let Some(event) = events.next().await {
                if event.is_ok() {
                    sender.send_modify(|number| *number += 1);
                }
            }
        });
        store.wait_until_ready().await?;
        Ok(Self { store, changes })
    }

    /// All objects.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    /// One object.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }

    /// Changes from now on, and one for what there is already.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.changes.clone();
        changes.mark_changed();
        changes
    }
}
