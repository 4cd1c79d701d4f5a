//! The status of a Pod, from the states of its containers.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    jiff::Timestamp,
};
use serde_json::{Value, json};

use super::{
    container::{Ended, State},
    network::NODE,
};

/// When each condition of a Pod has become what it is.
#[derive(Default)]
pub(super) struct Conditions(BTreeMap<&'static str, (bool, String)>);

impl Conditions {
    fn list(&mut self, conditions: &[(&'static str, bool)]) -> Vec<Value> {
        let list = conditions.iter().map(|(name, is_true)| {
            let now = || (*is_true, time(Timestamp::now()));
            let known = self.0.entry(name).or_insert_with(now);
            if known.0 != *is_true {
                *known = now();
            }
            let status = if *is_true { "True" } else { "False" };
            json!({"type": name, "status": status, "lastTransitionTime": known.1})
        });
        list.collect()
    }
}

/// What a Pod is, for its status.
pub(super) struct Summary<'a> {
    pub(super) pod: &'a Pod,
    pub(super) address: String,
    pub(super) started: Timestamp,
    /// Init containers first.
    pub(super) containers: Vec<(&'a Container, State)>,
    /// How many of them are init containers.
    pub(super) init: usize,
}

impl Summary<'_> {
    /// The status, as a strategic merge patch.
    pub(super) fn patch(&self, conditions: &mut Conditions) -> Value {
        let (init, main) = self.containers.split_at(self.init);
        let is_initialized = init.iter().all(|(_, state)| succeeded(state));
        let phase = self.phase(main, is_initialized);
        let is_ready = phase == "Running" && main.iter().all(|(_, state)| state.is_ready);
        let conditions = conditions.list(&[
            ("PodScheduled", true),
            ("PodReadyToStartContainers", true),
            ("Initialized", is_initialized),
            ("ContainersReady", is_ready),
            ("Ready", is_ready),
        ]);
        let statuses = |containers: &[(&Container, State)]| -> Vec<Value> {
            let statuses = containers.iter();
            statuses
                .map(|(container, state)| status(container, state))
                .collect()
        };
        json!({"status": {
            "phase": phase,
            "hostIP": NODE.to_string(), "hostIPs": [{"ip": NODE.to_string()}],
            "podIP": self.address, "podIPs": [{"ip": self.address}],
            "startTime": time(self.started),
            "conditions": conditions,
            "initContainerStatuses": statuses(init),
            "containerStatuses": statuses(main),
        }})
    }

    fn phase(&self, main: &[(&Container, State)], is_initialized: bool) -> &'static str {
        let spec = self.pod.spec.as_ref();
        let policy = spec.and_then(|spec| spec.restart_policy.as_deref());
        let is_over = main.iter().all(|(_, state)| state.is_over);
        if is_over && (policy != Some("Always") || self.is_deleted()) {
            let has_succeeded = main.iter().all(|(_, state)| succeeded(state));
            return if has_succeeded { "Succeeded" } else { "Failed" };
        }
        let has_run = |state: &State| state.running_since.is_some() || state.last.is_some();
        if is_initialized && main.iter().all(|(_, state)| has_run(state)) {
            "Running"
        } else {
            "Pending"
        }
    }

    fn is_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }
}

fn succeeded(state: &State) -> bool {
    let exit = state.last.as_ref().map(|last| last.exit.code);
    state.is_over && exit == Some(0)
}

fn status(container: &Container, state: &State) -> Value {
    let image = container.image.clone().unwrap_or_default();
    let (now, last) = match (&state.running_since, &state.waiting, &state.last) {
        (Some(since), _, last) => (
            json!({"running": {"startedAt": time(*since)}}),
            last.as_ref().map(terminated),
        ),
        (None, Some((reason, message)), last) if !state.is_over => (
            json!({"waiting": {"reason": reason, "message": message}}),
            last.as_ref().map(terminated),
        ),
        (None, _, Some(last)) => (terminated(last), None),
        (None, _, None) => (json!({"waiting": {"reason": "ContainerCreating"}}), None),
    };
    json!({
        "name": container.name, "image": image, "imageID": image,
        "containerID": format!("process://{}", container.name),
        "ready": state.is_ready, "started": state.is_started,
        "restartCount": state.restarts, "state": now, "lastState": last.unwrap_or_else(|| json!({})),
    })
}

fn terminated(ended: &Ended) -> Value {
    let code = ended.exit.code;
    json!({"terminated": {
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
        "message": ended.message,
        "startedAt": time(ended.started), "finishedAt": time(ended.finished),
    }})
}

/// A time as the API has it: in whole seconds.
fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
