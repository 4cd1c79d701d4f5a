//! Messages that Envoy accepts, with an edition that its config dump shows, and messages that it rejects.

use std::net::SocketAddr;

use nuncio_xds::{
    Resource, ResourceType,
    pb::{
        envoy::{
            config::{
                cluster::v3::{
                    Cluster,
                    cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
                },
                core::v3::{
                    Address, AggregatedConfigSource, ApiVersion, ConfigSource, Locality,
                    SocketAddress, address, config_source::ConfigSourceSpecifier, socket_address,
                },
                endpoint::v3::{
                    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
                    lb_endpoint::HostIdentifier,
                },
                listener::v3::{Filter, FilterChain, Listener, filter},
                route::v3::{
                    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route,
                    route_action, route_match,
                },
            },
            extensions::filters::{
                http::router::v3::Router,
                network::http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds,
                    http_connection_manager::RouteSpecifier, http_filter,
                },
            },
        },
        google::protobuf::{Any, Duration},
    },
};
use prost::{Message, Name};

fn any<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{}", M::full_name()),
        value: message.encode_to_vec(),
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

/// Without a fetch timeout, so that Envoy waits forever for a resource that is not sent.
fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        initial_fetch_timeout: Some(seconds(0)),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

fn socket(address: SocketAddr) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.ip().to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(
                address.port().into(),
            )),
            ..SocketAddress::default()
        })),
    }
}

/// Name of a cluster's endpoints.
pub(crate) fn endpoints_of(cluster: &str) -> String {
    format!("endpoints of {cluster}")
}

fn eds_cluster(name: &str, edition: &str, connect_timeout: i64) -> Resource {
    let message = Cluster {
        name: name.to_owned(),
        alt_stat_name: edition.to_owned(),
        connect_timeout: Some(seconds(connect_timeout)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: endpoints_of(name),
        }),
        ..Cluster::default()
    };
    Resource::new(ResourceType::Cluster, name, message.encode_to_vec().into())
        .with_refs([(ResourceType::Endpoints, endpoints_of(name).into())])
}

/// An EDS cluster.
pub(crate) fn cluster(name: &str, edition: &str) -> Resource {
    eds_cluster(name, edition, 1)
}

/// A cluster that violates a validation rule, so that Envoy rejects the whole response.
pub(crate) fn bad_cluster(name: &str, edition: &str) -> Resource {
    eds_cluster(name, edition, 0)
}

/// Endpoints with one address.
pub(crate) fn endpoints(cluster: &str, edition: &str, address: SocketAddr) -> Resource {
    let name = endpoints_of(cluster);
    let message = ClusterLoadAssignment {
        cluster_name: name.clone(),
        endpoints: vec![LocalityLbEndpoints {
            locality: Some(Locality {
                sub_zone: edition.to_owned(),
                ..Locality::default()
            }),
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                    address: Some(socket(address)),
                    ..Endpoint::default()
                })),
                ..LbEndpoint::default()
            }],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    };
    Resource::new(
        ResourceType::Endpoints,
        name,
        message.encode_to_vec().into(),
    )
}

/// A route table that sends all requests to this cluster.
pub(crate) fn route_table(name: &str, edition: &str, cluster: &str) -> Resource {
    table(name, edition, cluster, &["*"])
}

/// A route table with a duplicate domain, which Envoy rejects only when it builds the table.
pub(crate) fn bad_route_table(name: &str, edition: &str) -> Resource {
    table(name, edition, "nothing", &["twice", "twice"])
}

fn table(name: &str, edition: &str, cluster: &str, domains: &[&str]) -> Resource {
    let message = RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![VirtualHost {
            name: edition.to_owned(),
            domains: domains.iter().map(ToString::to_string).collect(),
            routes: vec![Route {
                r#match: Some(RouteMatch {
                    path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
                    ..RouteMatch::default()
                }),
                action: Some(route::Action::Route(RouteAction {
                    cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(
                        cluster.to_owned(),
                    )),
                    ..RouteAction::default()
                })),
                ..Route::default()
            }],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    };
    let body = message.encode_to_vec().into();
    Resource::new(ResourceType::RouteTable, name, body)
        .with_refs([(ResourceType::Cluster, cluster.into())])
}

/// An HTTP listener with this route table.
pub(crate) fn listener(name: &str, edition: &str, address: SocketAddr, table: &str) -> Resource {
    let manager = HttpConnectionManager {
        stat_prefix: edition.to_owned(),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(ads()),
            route_config_name: table.to_owned(),
        })),
        http_filters: vec![HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(http_filter::ConfigType::TypedConfig(
                any(&Router::default()),
            )),
            ..HttpFilter::default()
        }],
        ..HttpConnectionManager::default()
    };
    let message = Listener {
        name: name.to_owned(),
        stat_prefix: edition.to_owned(),
        address: Some(socket(address)),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "envoy.filters.network.http_connection_manager".to_owned(),
                config_type: Some(filter::ConfigType::TypedConfig(any(&manager))),
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    };
    Resource::new(ResourceType::Listener, name, message.encode_to_vec().into())
        .with_refs([(ResourceType::RouteTable, table.into())])
}
