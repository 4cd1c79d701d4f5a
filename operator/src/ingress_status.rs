//! The addresses of the gateway in the status of its Ingresses, so that `kubectl get ingress` and controllers of DNS records
//! show where it is. They are those of the Service in front of the Envoys.
//!
//! The leader writes them. Without an Ingress of ours nothing is watched. The status of Knative's Ingresses shows the name of
//! the Service, with conditions, so that it is written with those of other kinds; here the Service is found.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::select_all;
use k8s_openapi::api::{core::v1::Service, networking::v1::Ingress};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::watcher::{self, Event},
};
use nuncio_core::{
    object::{Kind, ObjectRef},
    reconcile::Name,
    settings::Settings,
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{debug, info};

use crate::{
    status::{Book, Gateway, Manager},
    watch::events::{self, Events},
};

/// Label of the Service, as Emissary's has it.
const LABEL: &str = "app.kubernetes.io/component=ambassador-service";
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// The Ingresses that a fleet serves.
pub type ServedIngresses = Arc<BTreeSet<ObjectRef>>;

/// What the writer needs.
pub struct Writer {
    /// Connection to the apiserver.
    pub client: Client,
    /// Those that all fleets have in common.
    pub settings: Settings,
    /// The Service, if it is not found by its label.
    pub service: Option<Name>,
    /// The Ingresses of each fleet.
    pub served: Vec<watch::Receiver<ServedIngresses>>,
    /// Whether this replica writes.
    pub leading: watch::Receiver<bool>,
    /// The field manager.
    pub manager: Manager,
    /// Statuses that show the Service.
    pub book: Book,
}

impl Writer {
    /// Writes until the task is dropped.
    pub async fn run(mut self) {
        loop {
            let is_over = self.leading.has_changed().is_err();
            if is_over || self.leading.wait_for(|leading| *leading).await.is_err() {
                return;
            }
            if self.ingresses().is_empty() {
                let changes = self
                    .served
                    .iter_mut()
                    .map(|served| Box::pin(served.changed()));
                if select_all(changes).await.0.is_err() {
                    return;
                }
            } else {
                self.follow().await;
            }
        }
    }

    /// The Ingresses of all fleets.
    fn ingresses(&mut self) -> BTreeSet<ObjectRef> {
        let served = self.served.iter_mut();
        let all = served.flat_map(|served| {
            let served = served.borrow_and_update();
            served.iter().cloned().collect::<Vec<_>>()
        });
        all.collect()
    }

    /// Writes while this replica leads and there are Ingresses.
    async fn follow(&mut self) {
        let client = || self.client.clone();
        let (services, config) = match &self.service {
            Some(name) => (
                Api::<Service>::namespaced(client(), &name.namespace),
                events::config().fields(&format!("metadata.name={}", name.name)),
            ),
            None => (
                Api::namespaced(client(), &self.settings.ambassador_namespace),
                events::config().labels(LABEL),
            ),
        };
        let mut services = Seen::new(Events::new(services, config));
        let ingresses = match &self.settings.single_namespace {
            Some(namespace) => Api::<Ingress>::namespaced(client(), namespace),
            None => Api::all(client()),
        };
        let mut ingresses = Seen::new(Events::new(ingresses, events::config()));
        let mut retry = None;
        loop {
            let own = self.ingresses();
            if own.is_empty() || !*self.leading.borrow() {
                return;
            }
            if let Some(services) = services.complete() {
                let found = services.iter().find(|(_, addresses)| has_any(addresses));
                let found = found.or_else(|| services.first_key_value());
                let gateway = found.map(|(name, _)| Gateway::Service(name.clone()));
                self.book.set_gateway(gateway.unwrap_or(Gateway::None));
            }
            if let (Some(services), Some(ingresses)) = (services.complete(), ingresses.complete()) {
                let addresses = services.values().find(|addresses| has_any(addresses));
                if let Some(addresses) = addresses {
                    let is_written = self.write(&own, ingresses, addresses).await;
                    retry = (!is_written).then(|| Instant::now() + RETRY);
                }
            }
            let changes = self
                .served
                .iter_mut()
                .map(|served| Box::pin(served.changed()));
            tokio::select! {
                () = services.next(|service: &Service| addresses(serde_json::to_value(&service.status))) => {}
                () = ingresses.next(|ingress: &Ingress| addresses(serde_json::to_value(&ingress.status))) => {}
                changed = self.leading.changed() => if changed.is_err() {
                    return;
                },
                _ = select_all(changes) => {}
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {}
            }
        }
    }

    /// Writes the addresses where the status has others; whether all that was needed could be written.
    async fn write(
        &self,
        own: &BTreeSet<ObjectRef>,
        found: &BTreeMap<Name, Value>,
        addresses: &Value,
    ) -> bool {
        let mut is_written = true;
        let ingresses = own.iter().filter(|object| object.kind == Kind::Ingress);
        for object in ingresses {
            let differs = found
                .get(&Name::of(object))
                .is_some_and(|found| found != addresses);
            if !differs {
                continue;
            }
            let (name, namespace) = (&*object.name, &*object.namespace);
            let status = json!({
                "apiVersion": Ingress::api_version(&()),
                "kind": Ingress::kind(&()),
                "metadata": {"name": name, "namespace": namespace},
                "status": {"loadBalancer": {"ingress": addresses}},
            });
            let api: Api<Ingress> = Api::namespaced(self.client.clone(), namespace);
            let parameters = PatchParams::apply(self.manager.name()).force();
            match api
                .patch_status(name, &parameters, &Patch::Apply(status))
                .await
            {
                Ok(_) => debug!(%object, "wrote the addresses of the gateway"),
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    info!(%object, %error, "cannot write the addresses of the gateway; retrying");
                    is_written = false;
                }
            }
        }
        is_written
    }
}

/// The `loadBalancer.ingress` of a status: for each address its name or IP address and its ports, without what only Services
/// have.
fn addresses(status: serde_json::Result<Value>) -> Value {
    let mut status = status.unwrap_or_default();
    let mut found = status["loadBalancer"]["ingress"].take();
    for address in found.as_array_mut().into_iter().flatten() {
        if let Value::Object(fields) = address {
            fields.retain(|name, _| matches!(name.as_str(), "hostname" | "ip" | "ports"));
        }
    }
    found
}

fn has_any(addresses: &Value) -> bool {
    addresses.as_array().is_some_and(|all| !all.is_empty())
}

/// The addresses in the statuses of the objects of a watch.
struct Seen<K> {
    events: Events<K>,
    objects: BTreeMap<Name, Value>,
    is_complete: bool,
}

impl<K> Seen<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    fn new(events: Events<K>) -> Self {
        Self {
            events,
            objects: BTreeMap::new(),
            is_complete: false,
        }
    }

    /// The objects, when they have been listed.
    fn complete(&self) -> Option<&BTreeMap<Name, Value>> {
        self.is_complete.then_some(&self.objects)
    }

    /// Takes the next event.
    async fn next(&mut self, addresses: impl Fn(&K) -> Value) {
        let event: Result<Event<K>, watcher::Error> = self.events.next().await;
        let name = |object: &K| Name {
            namespace: object.namespace().unwrap_or_default().into(),
            name: object.name_any().into(),
        };
        match event {
            Ok(Event::Init) => {
                self.objects.clear();
                self.is_complete = false;
            }
            Ok(Event::InitDone) => self.is_complete = true,
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                self.objects.insert(name(&object), addresses(&object));
            }
            Ok(Event::Delete(object)) => {
                self.objects.remove(&name(&object));
            }
            Err(error) => debug!(%error, "cannot watch the addresses of the gateway; retrying"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_without_what_only_services_have() {
        let status = json!({"loadBalancer": {"ingress": [
            {"ip": "192.0.2.7", "ipMode": "VIP"},
            {"hostname": "a.example", "ports": [{"port": 80, "protocol": "TCP"}]}
        ]}});
        let expected = json!([
            {"ip": "192.0.2.7"},
            {"hostname": "a.example", "ports": [{"port": 80, "protocol": "TCP"}]}
        ]);
        assert_eq!(addresses(Ok(status)), expected);
        for none in [json!(null), json!({}), json!({"loadBalancer": {}})] {
            assert!(!has_any(&addresses(Ok(none))));
        }
    }
}
