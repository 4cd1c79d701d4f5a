//! The DNS of the cluster: the addresses of Services and of endpoints of headless Services, over UDP.
//!
//! A server of its own and not hickory, because all that resolvers ask for here is A and AAAA of names in one zone: this
//! costs fewer lines than the configuration of a server, and no dependencies.

use std::{net::Ipv4Addr, sync::Arc};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt as _, api::PostParams};
use serde_json::json;
use tokio::{net::UdpSocket, task::JoinSet};

use super::Shared;

/// Address of the Service `kube-system/kube-dns`.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

const ZONE: &str = ".svc.cluster.local";
const HEADER: usize = 12;
const A: u16 = 1;
/// How long answers may be kept, in seconds. CoreDNS has 30 for Services; less shows what clients do sooner.
const LIFETIME: u32 = 5;

/// Starts to answer.
pub(super) async fn start(shared: Arc<Shared>, tasks: &mut JoinSet<()>) -> Result<()> {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": ADDRESS.to_string(), "ports": [{"name": "dns", "protocol": "UDP", "port": 53}]},
    });
    let client = shared.cluster.client.clone();
    let services: Api<Service> = Api::namespaced(client, "kube-system");
    let parameters = PostParams::default();
    services
        .create(&parameters, &serde_json::from_value(service)?)
        .await
        .context("cannot create the Service kube-dns")?;
    let socket = UdpSocket::bind((ADDRESS, 53)).await?;
    tasks.spawn(async move {
        let mut message = [0; 1500];
        loop {
            // an error is that of an earlier answer whose client is gone
            let Ok((length, client)) = socket.recv_from(&mut message).await else {
                continue;
            };
            if let Some(answer) = answer(&message[..length], |name| find(&shared, name)) {
                let _ = socket.send_to(&answer, client).await;
            }
        }
    });
    Ok(())
}

/// The answer to a question: `find` has the addresses of a name, or none if there is no such name.
fn answer(message: &[u8], find: impl Fn(&str) -> Option<Vec<Ipv4Addr>>) -> Option<Vec<u8>> {
    let header = message.get(..HEADER)?;
    let (name, end) = name(message)?;
    let question = message.get(HEADER..end + 4)?;
    let kind = u16::from_be_bytes([message[end], message[end + 1]]);
    let found = find(&name.to_ascii_lowercase());
    let code = if found.is_some() { 0 } else { 3 };
    let addresses = found.filter(|_| kind == A).unwrap_or_default();
    let recursion = header[2] & 1;
    let count = u16::try_from(addresses.len()).ok()?;
    // an authoritative answer
    let mut answer = vec![header[0], header[1], 0x84 | recursion, 0x80 | code, 0, 1];
    answer.extend(count.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(question);
    for address in addresses {
        // the name of the question, A, IN
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(LIFETIME.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

/// The name of the first question, and where it ends.
fn name(message: &[u8]) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            1..64 => labels.push(std::str::from_utf8(message.get(at..at + length)?).ok()?),
            // a question has nothing to point to
            _ => return None,
        }
        at += length;
    }
    message.get(at..at + 4)?;
    Some((labels.join("."), at))
}

/// The addresses of a Service by its name in the zone.
fn find(shared: &Shared, name: &str) -> Option<Vec<Ipv4Addr>> {
    let (service, namespace) = name.strip_suffix(ZONE)?.split_once('.')?;
    let found = shared.cluster.services.get(namespace, service)?;
    let address = found.spec.as_ref()?.cluster_ip.clone()?;
    if address != "None" {
        return Some(vec![address.parse().ok()?]);
    }
    let mut addresses: Vec<Ipv4Addr> = shared
        .cluster
        .slices
        .all()
        .iter()
        .filter(|slice| slice.namespace().as_deref() == Some(namespace))
        .filter(|slice| {
            let owner = slice.labels().get("kubernetes.io/service-name");
            owner.is_some_and(|owner| owner == service)
        })
        .flat_map(|slice| slice.endpoints.clone().unwrap_or_default())
        .filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready) != Some(false)
        })
        .flat_map(|endpoint| endpoint.addresses)
        .filter_map(|address| address.parse().ok())
        .collect();
    addresses.sort();
    addresses.dedup();
    Some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        for label in name.split('.') {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        // an option of EDNS, which is not answered
        message.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
        message
    }

    fn ask(name: &str, kind: u16) -> (u8, u8, Vec<u8>) {
        let message = question(name, kind);
        let found = answer(&message, |name| {
            let address = Ipv4Addr::new(10, 96, 1, 2);
            (name == "a.b.svc.cluster.local").then(|| vec![address])
        })
        .unwrap();
        assert_eq!(found[..2], [7, 8]);
        (found[3] & 15, found[7], found[found.len() - 4..].to_vec())
    }

    #[test]
    fn a_name_has_its_address() {
        assert_eq!(ask("A.b.svc.cluster.local", A), (0, 1, vec![10, 96, 1, 2]));
    }

    #[test]
    fn a_name_without_addresses_of_a_type_exists() {
        let (code, count, _) = ask("a.b.svc.cluster.local", 28);
        assert_eq!((code, count), (0, 0));
    }

    #[test]
    fn an_unknown_name_does_not_exist() {
        let (code, count, _) = ask("x.b.svc.cluster.local", A);
        assert_eq!((code, count), (3, 0));
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        for length in 0..30 {
            let cut = &question("a.b.svc.cluster.local", A)[..length];
            assert_eq!(answer(cut, |_| None), None, "{length}");
        }
    }
}
