//! Services: relays in user space from their addresses to their endpoints, and the addresses of load balancers.
//!
//! As with kube-proxy, a connection goes to a ready endpoint, or to one that still serves while it terminates if there is
//! no other; it stays there until either side closes it; and changes of endpoints take effect after a delay.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::sleep,
};

use super::{Shared, command::run as command};

/// How long changes of endpoints take. kube-proxy collects changes for up to a second.
const DELAY: Duration = Duration::from_secs(1);

/// Addresses of load balancers: `10.244.250.NUMBER`.
const BALANCERS: [u8; 3] = [10, 244, 250];

/// Endpoints of one port of a Service, and whose turn it is.
#[derive(Default)]
struct Port {
    endpoints: RwLock<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

/// Carries Services. Ends never.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut services = shared.cluster.services.changes();
    let mut slices = shared.cluster.slices.changes();
    let mut relays: BTreeMap<SocketAddr, (Arc<Port>, AbortHandle)> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut balancers = BTreeMap::new();
    loop {
        tokio::select! {
            _ = services.changed() => {}
            _ = slices.changed() => {}
        }
        sleep(DELAY).await;
        services.mark_unchanged();
        slices.mark_unchanged();
        let wanted = wanted(&shared);
        relays.retain(|address, (_, task)| {
            let stays = wanted.contains_key(address);
            if !stays {
                task.abort();
            }
            stays
        });
        for (address, endpoints) in wanted {
            let port = match relays.entry(address) {
                Entry::Occupied(known) => known.get().0.clone(),
                Entry::Vacant(free) => {
                    let Ok(listener) = TcpListener::bind(address).await else {
                        // in use; tried again with the next change
                        continue;
                    };
                    let port = Arc::new(Port::default());
                    let task = tasks.spawn(relay(listener, port.clone()));
                    free.insert((port.clone(), task));
                    port
                }
            };
            *port
                .endpoints
                .write()
                .unwrap_or_else(PoisonError::into_inner) = endpoints;
        }
        for service in shared.cluster.services.all() {
            // a failure is repeated with the next change
            let _ = balance(&shared, &service, &mut balancers).await;
        }
    }
}

/// The endpoints of each address of a Service.
fn wanted(shared: &Shared) -> BTreeMap<SocketAddr, Vec<SocketAddr>> {
    let slices = shared.cluster.slices.all();
    let mut wanted = BTreeMap::new();
    for service in shared.cluster.services.all() {
        let spec = service.spec.clone().unwrap_or_default();
        let own = addresses(&service);
        for port in spec.ports.iter().flatten() {
            if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
                continue;
            }
            let endpoints = endpoints(&service, port.name.as_deref().unwrap_or_default(), &slices);
            for address in &own {
                let port = u16::try_from(port.port).unwrap_or_default();
                wanted.insert(SocketAddr::from((*address, port)), endpoints.clone());
            }
        }
    }
    wanted
}

/// The addresses of a Service: that in the cluster, and those of its load balancer.
fn addresses(service: &Service) -> Vec<Ipv4Addr> {
    let cluster = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.clone());
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let balancers = status.and_then(|balancer| balancer.ingress.as_ref());
    let balancers = balancers
        .into_iter()
        .flatten()
        .filter_map(|ingress| ingress.ip.clone());
    cluster
        .into_iter()
        .chain(balancers)
        .filter_map(|address| address.parse().ok())
        .collect()
}

/// The endpoints that get connections.
fn endpoints(service: &Service, port: &str, slices: &[Arc<EndpointSlice>]) -> Vec<SocketAddr> {
    let (mut ready, mut serving) = (BTreeSet::new(), BTreeSet::new());
    let (name, namespace) = (service.name_any(), service.namespace());
    for slice in slices {
        let owner = slice.labels().get("kubernetes.io/service-name");
        if owner != Some(&name) || slice.namespace() != namespace {
            continue;
        }
        let mut ports = slice.ports.iter().flatten();
        let number = ports
            .find(|known| known.name.as_deref().unwrap_or_default() == port)
            .and_then(|port| u16::try_from(port.port?).ok());
        let Some(number) = number else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let addresses = endpoint
                .addresses
                .iter()
                .filter_map(|address| address.parse().ok());
            let addresses = addresses.map(|address| SocketAddr::new(address, number));
            if conditions.ready != Some(false) {
                ready.extend(addresses);
            } else if conditions.serving == Some(true) {
                serving.extend(addresses);
            }
        }
    }
    let chosen = if ready.is_empty() { serving } else { ready };
    chosen.into_iter().collect()
}

async fn relay(listener: TcpListener, port: Arc<Port>) {
    let mut connections = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let Some(endpoint) = port.next() else {
            continue;
        };
        connections.spawn(async move {
            let Ok(mut far) = TcpStream::connect(endpoint).await else {
                return;
            };
            let _ = near.set_nodelay(true);
            let _ = far.set_nodelay(true);
            let _ = copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

impl Port {
    /// The endpoint whose turn it is.
    fn next(&self) -> Option<SocketAddr> {
        let endpoints = self
            .endpoints
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        endpoints.get(turn % endpoints.len().max(1)).copied()
    }
}

/// Gives a Service of type LoadBalancer an address.
async fn balance(
    shared: &Shared,
    service: &Service,
    balancers: &mut BTreeMap<String, Ipv4Addr>,
) -> Result<()> {
    let spec = service.spec.as_ref();
    let is_balanced = spec.and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    let Some(uid) = service.uid().filter(|_| is_balanced) else {
        return Ok(());
    };
    if balancers.contains_key(&uid) {
        return Ok(());
    }
    let [a, b, c] = BALANCERS;
    let address = Ipv4Addr::new(a, b, c, u8::try_from(balancers.len() + 1)?);
    let local = format!("{address}/32");
    // there already if the status could not be written
    let _ = command("ip", &["addr", "add", &local, "dev", "lo"], "").await;
    let namespace = service.namespace().unwrap_or_default();
    let services: Api<Service> = Api::namespaced(shared.cluster.client.clone(), &namespace);
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address.to_string()}]}}});
    services
        .patch_status(
            &service.name_any(),
            &PatchParams::default(),
            &Patch::Merge(status),
        )
        .await?;
    balancers.insert(uid, address);
    Ok(())
}
