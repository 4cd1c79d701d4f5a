//! `envoy.config.endpoint.v3.ClusterLoadAssignment`

use crate::{
    ir,
    pb::envoy::config::{
        core::v3::Address,
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
            lb_endpoint::HostIdentifier,
        },
    },
};

/// The endpoints of an upstream, in one locality.
pub(super) fn cluster_load_assignment(endpoints: &ir::Endpoints) -> ClusterLoadAssignment {
    load_assignment(
        endpoints.name.to_string(),
        endpoints
            .addresses
            .iter()
            .copied()
            .map(super::socket_address),
    )
}

/// An assignment of these addresses, which can be empty.
pub(super) fn load_assignment(
    cluster_name: String,
    addresses: impl Iterator<Item = Address>,
) -> ClusterLoadAssignment {
    let lb_endpoints: Vec<LbEndpoint> = addresses
        .map(|address| LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(address),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        })
        .collect();
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
