//! The answer to `/v1/health/service/NAME`: the instances of a service, and their addresses.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use serde::Deserialize;
use tokio::{net::lookup_host, time::timeout};

/// How long DNS may take for all names of an answer.
const RESOLUTION: Duration = Duration::from_secs(3);
/// Names that are resolved at a time.
const PARALLEL: usize = 8;
/// Names of one service that are resolved; further ones are ignored.
const MAX_NAMES: usize = 256;

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "Node")]
    node: Node,
    #[serde(rename = "Service")]
    service: Service,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "Address")]
    address: Option<String>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "Address")]
    address: Option<String>,
    #[serde(rename = "Port")]
    port: Option<i64>,
}

/// The instances of a service: host and port, the host being an IP address or a name. Those without a usable port are left
/// out.
pub(super) fn instances(body: &[u8]) -> Result<BTreeSet<(String, u16)>, serde_json::Error> {
    let entries: Vec<Entry> = serde_json::from_slice(body)?;
    let instances = entries.into_iter().filter_map(|entry| {
        let own = entry.service.address.filter(|host| !host.is_empty());
        let host = own.or(entry.node.address)?;
        let port = u16::try_from(entry.service.port?).ok()?;
        (!host.is_empty() && port != 0).then_some((host, port))
    });
    Ok(instances.collect())
}

/// Addresses of host names, as DNS answered last.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, Vec<IpAddr>>);

impl Names {
    /// The addresses of these instances as far as they are known, sorted.
    pub(super) fn addresses(&self, instances: &BTreeSet<(String, u16)>) -> Vec<SocketAddr> {
        let addresses: BTreeSet<SocketAddr> = instances
            .iter()
            .flat_map(|(host, port)| {
                let found = match host.parse::<IpAddr>() {
                    Ok(address) => vec![address],
                    Err(_) => self.0.get(host).cloned().unwrap_or_default(),
                };
                found
                    .into_iter()
                    .map(|address| SocketAddr::new(address, *port))
            })
            .collect();
        addresses.into_iter().collect()
    }

    /// Asks DNS about the names of these instances; whether there are any. A name without an answer keeps its addresses.
    pub(super) async fn resolve(&mut self, instances: &BTreeSet<(String, u16)>) -> bool {
        let hosts = instances.iter().map(|(host, _)| host);
        let names = hosts.filter(|host| host.parse::<IpAddr>().is_err());
        let names: BTreeSet<String> = names.take(MAX_NAMES).cloned().collect();
        self.0.retain(|name, _| names.contains(name));
        if names.is_empty() {
            return false;
        }
        let lookups = names.into_iter().map(|name| async move {
            let answer = lookup_host((name.as_str(), 0)).await.ok()?;
            let mut addresses: Vec<IpAddr> = answer.map(|address| address.ip()).collect();
            addresses.sort_unstable();
            addresses.dedup();
            (!addresses.is_empty()).then_some((name, addresses))
        });
        let mut answers = stream::iter(lookups).buffer_unordered(PARALLEL);
        let all = async {
            while let Some(answer) = answers.next().await {
                self.0.extend(answer);
            }
        };
        // what came in time is used
        let _ = timeout(RESOLUTION, all).await;
        true
    }
}
