//! The audit logs of apiservers, as requests.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
};

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::Request;
use crate::control_plane::{AUDIT_LOG, NAMESPACE};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(default)]
    user: User,
    object_ref: Option<Object>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

/// Reads the requests of a ServiceAccount of the operator's namespace, in the logs in a folder and the folders in it.
pub(super) fn read(folder: &Path, account: &str) -> Result<BTreeSet<Request>> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
    let mut requests = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if name.to_string_lossy().starts_with(AUDIT_LOG) {
                read_log(&mut requests, &user, &entry.path())?;
            }
        }
    }
    Ok(requests)
}

fn read_log(requests: &mut BTreeSet<Request>, user: &str, path: &Path) -> Result<()> {
    let (mut events, mut cut) = (0, 0);
    for line in BufReader::new(File::open(path)?).lines() {
        match serde_json::from_str::<Event>(&line?) {
            Ok(event) => {
                events += 1;
                requests.extend(
                    Some(event)
                        .filter(|event| event.user.username == user)
                        .and_then(request),
                );
            }
            Err(_cut) => cut += 1,
        }
    }
    // an apiserver that is killed can leave an incomplete line
    ensure!(
        cut <= 10,
        "{}: {cut} lines beside {events} are no audit events",
        path.display()
    );
    Ok(())
}

/// None for what is not a resource, such as `/version`, and for requests that were neither allowed nor forbidden.
fn request(event: Event) -> Option<Request> {
    let object = event
        .object_ref
        .filter(|object| !object.resource.is_empty())?;
    let decision = event.annotations.get("authorization.k8s.io/decision")?;
    let resource = match &*object.subresource {
        "" => object.resource,
        subresource => format!("{}/{subresource}", object.resource),
    };
    Some(Request {
        group: object.api_group,
        resource,
        verb: event.verb,
        name: object.name,
        namespace: object.namespace,
        is_allowed: decision == "allow",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(more: &str) -> Option<Request> {
        let text = format!(r#"{{"kind": "Event", "level": "Metadata", "verb": "patch", {more}}}"#);
        request(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn an_event_is_a_request_for_a_resource() {
        let object = r#""objectRef": {"resource": "hosts", "namespace": "n", "name": "a", "apiGroup": "getambassador.io",
            "apiVersion": "v3alpha1", "subresource": "status"}"#;
        let decision = |text| {
            format!(r#"{object}, "annotations": {{"authorization.k8s.io/decision": "{text}"}}"#)
        };
        let expected = |is_allowed| Request {
            group: "getambassador.io".to_owned(),
            resource: "hosts/status".to_owned(),
            verb: "patch".to_owned(),
            name: "a".to_owned(),
            namespace: "n".to_owned(),
            is_allowed,
        };
        assert_eq!(event(&decision("allow")), Some(expected(true)));
        assert_eq!(event(&decision("forbid")), Some(expected(false)));
        assert_eq!(event(object), None);
        assert_eq!(event(r#""requestURI": "/version""#), None);
    }

    #[test]
    fn a_folder_is_read_with_the_folders_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("test");
        fs::create_dir(&inner).unwrap();
        let line = r#"{"verb": "get", "user": {"username": "system:serviceaccount:nuncio-system:one"},
            "objectRef": {"resource": "pods"}, "annotations": {"authorization.k8s.io/decision": "allow"}}"#;
        let line = line.replace('\n', "");
        // the apiserver was killed, and started again
        let log = format!("{line}\n{{\"verb\": {line}\n");
        fs::write(inner.join("audit-0.log"), log).unwrap();
        fs::write(folder.path().join("nuncio.log"), "no audit log\n").unwrap();
        assert_eq!(read(folder.path(), "one").unwrap().len(), 1);
        assert!(read(folder.path(), "other").unwrap().is_empty());
        fs::write(inner.join("audit-1.log"), "no event\n".repeat(11)).unwrap();
        assert!(read(folder.path(), "one").is_err());
    }
}
