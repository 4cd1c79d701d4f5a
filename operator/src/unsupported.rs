//! Objects of kinds of our API group that this version does not implement, such as those of an earlier Emissary-ingress:
//! each replica logs once how many there are of each kind, and the leader reports it on each object whose kind has a
//! status.
//!
//! Which kinds these are follows from discovery: what the apiserver serves in the group, without the kinds of the table.
//! They are looked at when a definition comes or goes, when this replica becomes leader, and now and then for new objects.
//! Nothing depends on the result: without a permission, it is logged and that is all.
//!
//! Only the condition `Accepted` is written, and only where nobody else has it: with server-side apply and without
//! force, so that a field of another manager stays as it is.

use std::{collections::BTreeSet, time::Duration};

use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
    discovery::{self, Scope, verbs},
};
use nuncio_crds::{GROUP, kind::KINDS};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};
use tracing::{debug, info, warn};

use crate::{status::Manager, watch::definitions::Definitions};
use nuncio_core::{
    reconcile::is_for,
    report::{ConditionType, Reason},
    settings::Fleets,
};

/// Pause between two looks.
const PERIOD: Duration = Duration::from_secs(300);
/// Pause after a definition has changed: several come together, and are served a moment later.
const GATHER: Duration = Duration::from_secs(2);
/// Objects in one answer to a list.
const PAGE_SIZE: u32 = 500;

/// A kind of the group that is not implemented.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    resource: ApiResource,
    is_namespaced: bool,
    has_status: bool,
}

/// Follows what is there until the task is dropped.
pub async fn follow(
    client: Client,
    fleets: Fleets,
    mut definitions: watch::Receiver<Definitions>,
    mut leading: watch::Receiver<bool>,
) {
    let mut kinds = Kinds {
        client,
        manager: Manager::new(&fleets),
        fleets,
        logged: BTreeSet::new(),
    };
    loop {
        sleep(GATHER).await;
        definitions.mark_unchanged();
        let is_leader = *leading.borrow_and_update();
        kinds.look(is_leader).await;
        tokio::select! {
            () = sleep(PERIOD) => {}
            Ok(()) = definitions.changed() => {}
            Ok(()) = leading.changed() => {}
        }
    }
}

struct Kinds {
    client: Client,
    fleets: Fleets,
    manager: Manager,
    /// What was logged: each once.
    logged: BTreeSet<String>,
}

impl Kinds {
    async fn look(&mut self, is_leader: bool) {
        let found = match discovery::group(&self.client, GROUP).await {
            Ok(group) => unsupported(group.recommended_resources()),
            Err(error) => {
                debug!(%error, "cannot discover unsupported kinds");
                return;
            }
        };
        for kind in found {
            let name = kind.resource.kind.clone();
            let is_written = is_leader && kind.has_status;
            if !is_written && self.logged.contains(&name) {
                continue;
            }
            match self.objects(&kind).await {
                Ok(objects) => {
                    let count = objects.len();
                    if count > 0 && self.logged.insert(name.clone()) {
                        warn!(
                            kind = name,
                            count, "kind not supported; its objects are ignored"
                        );
                    }
                    if is_written {
                        self.report(&kind, objects).await;
                    }
                }
                Err(error) => {
                    if self.logged.insert(format!("list of {name}")) {
                        info!(kind = name, %error, "cannot list objects of an unsupported kind");
                    }
                }
            }
        }
    }

    /// The objects that are for this instance.
    async fn objects(&self, kind: &Kind) -> Result<Vec<DynamicObject>, kube::Error> {
        let client = self.client.clone();
        let settings = self.fleets.common();
        let api: Api<DynamicObject> = match &settings.single_namespace {
            Some(namespace) if kind.is_namespaced => {
                Api::namespaced_with(client, namespace, &kind.resource)
            }
            _ => Api::all_with(client, &kind.resource),
        };
        let mut parameters = ListParams::default().limit(PAGE_SIZE);
        if let Some(selector) = &settings.label_selector {
            parameters = parameters.labels(selector);
        }
        if let Some(selector) = &settings.field_selector {
            parameters = parameters.fields(selector);
        }
        let mut objects = Vec::new();
        loop {
            let page = api.list(&parameters).await?;
            let is_ours =
                |object: &DynamicObject| self.fleets.ids().any(|id| is_for(&object.data, id));
            objects.extend(page.items.into_iter().filter(is_ours));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => parameters = parameters.continue_token(&token),
                None => return Ok(objects),
            }
        }
    }

    /// Writes the condition of the objects that lack it. The first failure is the last attempt for the kind.
    async fn report(&mut self, kind: &Kind, objects: Vec<DynamicObject>) {
        for object in objects {
            let managers = object.metadata.managed_fields.as_deref();
            if self.manager.rival(managers).is_some() || is_taken(&object, &self.manager) {
                continue;
            }
            let generation = object.metadata.generation.unwrap_or_default();
            if has_condition(&object.data, generation) {
                continue;
            }
            if let Err(error) = self.write(kind, &object, generation).await {
                let name = &kind.resource.kind;
                if self.logged.insert(format!("status of {name}")) {
                    info!(kind = name, %error, "cannot write status of an unsupported kind");
                }
                return;
            }
        }
    }

    async fn write(
        &self,
        kind: &Kind,
        object: &DynamicObject,
        generation: i64,
    ) -> Result<(), kube::Error> {
        let client = self.client.clone();
        let metadata = &object.metadata;
        let api: Api<DynamicObject> = match &metadata.namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind.resource),
            None => Api::all_with(client, &kind.resource),
        };
        let name = metadata.name.clone().unwrap_or_default();
        let patch = json!({
            "apiVersion": kind.resource.api_version,
            "kind": kind.resource.kind,
            "metadata": {"name": name, "namespace": metadata.namespace},
            "status": {"conditions": [{
                "type": "Accepted",
                "status": "False",
                "reason": Reason::UNSUPPORTED_KIND.as_str(),
                "message": format!("kind {} is not supported by this version of Nuncio; ignored", kind.resource.kind),
                "observedGeneration": generation,
                "lastTransitionTime": transition(&object.data),
            }]},
        });
        let parameters = PatchParams::apply(self.manager.name());
        match api
            .patch_status(&name, &parameters, &Patch::Apply(&patch))
            .await
        {
            Ok(_) => Ok(()),
            // deleted meanwhile, or of another manager
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The kinds that are not in the table and can be listed.
fn unsupported(
    resources: Vec<(ApiResource, discovery::ApiCapabilities)>,
) -> impl Iterator<Item = Kind> {
    let is_known = |resource: &ApiResource| {
        let mut known = KINDS.iter();
        known.any(|info| info.group == GROUP && info.plural == resource.plural)
    };
    resources
        .into_iter()
        .filter(move |(resource, able)| !is_known(resource) && able.supports_operation(verbs::LIST))
        .map(|(resource, able)| Kind {
            is_namespaced: able.scope == Scope::Namespaced,
            has_status: able
                .subresources
                .iter()
                .any(|(sub, _)| sub.plural == "status"),
            resource,
        })
}

/// The condition `Accepted` of an object.
fn accepted(object: &Value) -> Option<&Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == format!("{:?}", ConditionType::Accepted))
}

/// Whether the object has the condition for this generation.
fn has_condition(object: &Value, generation: i64) -> bool {
    accepted(object).is_some_and(|condition| {
        condition["reason"] == Reason::UNSUPPORTED_KIND.as_str()
            && condition["observedGeneration"] == generation
    })
}

/// Whether somebody else wrote the condition.
fn is_taken(object: &DynamicObject, own: &Manager) -> bool {
    let managers = object.metadata.managed_fields.iter().flatten();
    let mut of_status = managers.filter(|entry| entry.subresource.as_deref() == Some("status"));
    accepted(&object.data).is_some()
        && !of_status.any(|entry| entry.manager.as_deref() == Some(own.name()))
}

/// Since when the object is not accepted.
fn transition(object: &Value) -> String {
    let before = accepted(object).filter(|condition| condition["status"] == "False");
    let since = before.and_then(|condition| condition["lastTransitionTime"].as_str());
    since.map_or_else(
        || {
            let now = jiff::Timestamp::now().as_second();
            let now = jiff::Timestamp::from_second(now);
            now.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
        },
        str::to_owned,
    )
}

#[cfg(test)]
mod tests;
