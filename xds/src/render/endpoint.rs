//! `envoy.config.endpoint.v3.ClusterLoadAssignment`

use std::{collections::BTreeMap, net::SocketAddr};

use crate::{
    ir,
    pb::envoy::config::{
        core::v3::{Address, Locality},
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
            lb_endpoint::HostIdentifier,
        },
    },
};

/// The endpoints of an upstream: in a locality for each zone, or all in one.
pub(super) fn cluster_load_assignment(endpoints: &ir::Endpoints) -> ClusterLoadAssignment {
    let mut zones: BTreeMap<&str, Vec<SocketAddr>> = BTreeMap::new();
    for address in &endpoints.addresses {
        let zone = endpoints.zones.get(address).map_or("", AsRef::as_ref);
        zones.entry(zone).or_default().push(*address);
    }
    let localities = zones.into_iter().map(|(zone, addresses)| {
        let addresses = addresses.into_iter().map(super::socket_address);
        LocalityLbEndpoints {
            locality: (!zone.is_empty()).then(|| Locality {
                zone: zone.to_owned(),
                ..Locality::default()
            }),
            lb_endpoints: lb_endpoints(addresses),
            ..LocalityLbEndpoints::default()
        }
    });
    ClusterLoadAssignment {
        cluster_name: endpoints.name.to_string(),
        endpoints: localities.collect(),
        ..ClusterLoadAssignment::default()
    }
}

/// An assignment of these addresses, which can be empty.
pub(super) fn load_assignment(
    cluster_name: String,
    addresses: impl Iterator<Item = Address>,
) -> ClusterLoadAssignment {
    let lb_endpoints = lb_endpoints(addresses);
    let endpoints = if lb_endpoints.is_empty() {
        Vec::new()
    } else {
        vec![LocalityLbEndpoints {
            lb_endpoints,
            ..LocalityLbEndpoints::default()
        }]
    };
    ClusterLoadAssignment {
        cluster_name,
        endpoints,
        ..ClusterLoadAssignment::default()
    }
}

fn lb_endpoints(addresses: impl Iterator<Item = Address>) -> Vec<LbEndpoint> {
    addresses
        .map(|address| LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(address),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        })
        .collect()
}
