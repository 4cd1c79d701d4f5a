//! `envoy.config.cluster.v3.Cluster`

use std::{collections::HashMap, sync::Arc};

use super::endpoint::load_assignment;
use crate::{
    ir::{self, Discovery, DnsFamily},
    pb::{
        envoy::{
            config::{
                cluster::v3::{
                    Cluster,
                    cluster::{
                        ClusterDiscoveryType, CustomClusterType, DiscoveryType, EdsClusterConfig,
                    },
                },
                core::v3::{Http2ProtocolOptions, TransportSocket, transport_socket::ConfigType},
            },
            extensions::{
                clusters::{common::dns::v3::DnsLookupFamily, dns::v3::DnsCluster},
                transport_sockets::tls::v3::{CommonTlsContext, UpstreamTlsContext},
                upstreams::http::v3::{
                    HttpProtocolOptions,
                    http_protocol_options::{
                        ExplicitHttpConfig, UpstreamProtocolOptions,
                        explicit_http_config::ProtocolConfig,
                    },
                },
            },
        },
        google::protobuf::Any,
    },
};

/// An upstream. Where addresses are asked of EDS the assignment is a resource of its own.
pub(super) fn cluster(cluster: &ir::Cluster) -> Cluster {
    let name = cluster.name.to_string();
    let mut message = Cluster {
        name: name.clone(),
        alt_stat_name: cluster.stat_name.clone(),
        connect_timeout: Some(super::duration(cluster.connect_timeout)),
        transport_socket: cluster.tls.then(upstream_tls),
        typed_extension_protocol_options: http_protocol_options(cluster),
        ..Cluster::default()
    };
    match &cluster.discovery {
        Discovery::Static { address, port } => {
            let address = super::host_address(address.to_string(), *port);
            message.cluster_discovery_type =
                Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
            message.load_assignment = Some(load_assignment(name, std::iter::once(address)));
        }
        Discovery::Dns {
            host,
            port,
            family,
            logical,
        } => {
            let address = super::host_address(host.clone(), *port);
            message.cluster_discovery_type =
                Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
                    name: "envoy.cluster.dns".to_owned(),
                    typed_config: Some(dns_cluster(*family, *logical)),
                }));
            message.load_assignment = Some(load_assignment(name, std::iter::once(address)));
        }
        Discovery::Endpoints(endpoints) => {
            message.cluster_discovery_type =
                Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()));
            message.eds_cluster_config = Some(EdsClusterConfig {
                eds_config: Some(super::ads()),
                service_name: endpoints.to_string(),
            });
        }
    }
    message
}

/// The endpoints resource that has to follow this cluster.
pub(super) fn endpoints_name(cluster: &ir::Cluster) -> Option<Arc<str>> {
    match &cluster.discovery {
        Discovery::Endpoints(name) => Some(name.clone()),
        Discovery::Static { .. } | Discovery::Dns { .. } => None,
    }
}

fn dns_cluster(family: DnsFamily, logical: bool) -> Any {
    let family = match family {
        DnsFamily::V4 => DnsLookupFamily::V4Only,
        DnsFamily::V6 => DnsLookupFamily::V6Only,
        DnsFamily::Auto => DnsLookupFamily::Auto,
    };
    super::any(&DnsCluster {
        dns_lookup_family: family.into(),
        all_addresses_in_single_endpoint: logical,
        ..DnsCluster::default()
    })
}

fn upstream_tls() -> TransportSocket {
    TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: Some(ConfigType::TypedConfig(super::any(&UpstreamTlsContext {
            common_tls_context: Some(CommonTlsContext::default()),
            ..UpstreamTlsContext::default()
        }))),
    }
}

/// One entry at most: more would be encoded in random order.
fn http_protocol_options(cluster: &ir::Cluster) -> HashMap<String, Any> {
    if !cluster.http2 {
        return HashMap::new();
    }
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(
                    Http2ProtocolOptions::default(),
                )),
            },
        )),
        ..HttpProtocolOptions::default()
    };
    HashMap::from([(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
        super::any(&options),
    )])
}
