//! The bootstrap configuration of an Envoy.
//!
//! Without a configuration Envoy waits for the control plane and is not ready; if it loses the control plane later, it keeps
//! its configuration. The bootstrap has only what cannot change while Envoy runs; all else is sent by ADS.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf};

use serde_json::{Value, json};

use crate::{fleet::Protocol, socket::Address};

mod scopes;
mod statsd;
mod tls;

pub use self::statsd::{Statsd, StatsdFormat};
pub use self::tls::{SdsFiles, Tls, TlsFiles};

/// Settings of a bootstrap.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// `node.id`, unique in the fleet, such as the pod name.
    pub node_id: String,
    /// `node.cluster`, the name of the fleet.
    pub cluster: String,
    /// `ambassador_id` in the metadata of the node: which objects this Envoy serves; `None`: those of the control plane.
    pub ambassador_id: Option<String>,
    /// Zone that Envoy runs in (`node.locality`): endpoints that are meant for it are preferred; `None`: unknown.
    pub zone: Option<String>,
    /// Address of the control plane.
    pub xds: Target,
    /// Address of Envoy's admin interface. It has no authentication, so use a Unix socket, which cannot be an upstream.
    pub admin: Address,
    /// Address of `/ready` and `/stats/prometheus`, which are served once Envoy has a configuration; `None`: not served.
    pub ready: Option<SocketAddr>,
    /// Variant of the xDS protocol.
    pub protocol: Protocol,
    /// Certificates for mutual TLS with the control plane; `None`: cleartext.
    pub tls: Option<Tls>,
    /// Heap limit in bytes; `None`: no limit.
    pub max_heap_bytes: Option<u64>,
    /// Maximum number of connections from clients, on all listeners together. Further ones are closed at once, except those
    /// to the admin interface and to `ready`. See [`MAX_CONNECTIONS`].
    pub max_connections: NonZeroU32,
    /// Where statistics are sent; `None`: nowhere.
    pub statsd: Option<Statsd>,
}

/// The limit of connections that Envoy's documentation recommends at the edge.
///
/// The limit is for the process: what a flood uses up, memory and file descriptors, is not divided among listeners. Envoy
/// limits single listeners by runtime keys with their names, which a bootstrap does not know, or by a network filter in
/// each filter chain, which every update of a listener would send for every Host. Neither keeps a flood on one port from
/// using up what all ports share, unless the limits of all ports together are below the limit of the process.
pub const MAX_CONNECTIONS: NonZeroU32 = NonZeroU32::new(50_000).expect("it is not zero");

/// Address of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// On TCP.
    Tcp {
        /// Host name or IP address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl From<Address> for Target {
    fn from(address: Address) -> Self {
        match address {
            Address::Tcp(address) => Self::Tcp {
                host: address.ip().to_string(),
                port: address.port(),
            },
            Address::Unix(path) => Self::Unix(path),
        }
    }
}

/// Error of parsing a [`Target`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid address {0:?}: use HOST:PORT or unix:PATH")]
pub struct InvalidTarget(String);

impl std::str::FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget(text.to_owned());
        if let Ok(Address::Unix(path)) = text.parse() {
            return Ok(Self::Unix(path));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let host = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        let port: u16 = port.parse().map_err(|_source| invalid())?;
        if host.is_empty() || port == 0 {
            return Err(invalid());
        }
        Ok(Self::Tcp {
            host: host.to_owned(),
            port,
        })
    }
}

const XDS_CLUSTER: &str = "xds_cluster";
const ADMIN_CLUSTER: &str = "admin";
/// The cluster that this Envoy belongs to, without which Envoy does not look at zones.
const LOCAL_CLUSTER: &str = "local";

impl Bootstrap {
    /// The bootstrap as JSON, which is also YAML.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let source =
            json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
        let mut clusters = vec![self.xds_cluster()];
        let mut listeners = vec![scopes::listener()];
        if let Some(zone) = &self.zone {
            let mut cluster = static_cluster(LOCAL_CLUSTER, &self.admin);
            cluster["load_assignment"]["endpoints"][0]["locality"] = json!({"zone": zone});
            clusters.push(cluster);
        }
        if let Some(ready) = self.ready {
            clusters.push(static_cluster(ADMIN_CLUSTER, &self.admin));
            listeners.push(ready_listener(&ready.into()));
        }
        let mut bootstrap = json!({
            "node": self.node(),
            "admin": {"address": address(&self.admin), "ignore_global_conn_limit": true},
            "deferred_stat_options": {"enable_deferred_creation_stats": true},
            "cluster_manager": {"enable_deferred_cluster_creation": true},
            "stats_config": {"use_all_default_tags": true},
            "layered_runtime": {"layers": [
                {"name": "static", "static_layer": {"re2.max_program_size.error_level": u32::MAX}},
                {"name": "admin", "admin_layer": {}}
            ]},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": match self.protocol {
                        Protocol::Delta => "DELTA_GRPC",
                        Protocol::Sotw => "GRPC",
                    },
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {
                        "cluster_name": XDS_CLUSTER,
                        "max_receive_message_length": 256 << 20,
                        "retry_policy": {"retry_back_off": {"base_interval": "0.2s", "max_interval": "5s"}}
                    }}]
                },
                "cds_config": source,
                "lds_config": source
            },
            "static_resources": {"clusters": clusters, "listeners": listeners},
            "overload_manager": self.overload_manager()
        });
        if self.zone.is_some() {
            bootstrap["cluster_manager"]["local_cluster_name"] = json!(LOCAL_CLUSTER);
        }
        if let Some(statsd) = &self.statsd {
            statsd.add_to(&mut bootstrap);
        }
        bootstrap
    }

    fn node(&self) -> Value {
        let mut node = json!({"id": self.node_id, "cluster": self.cluster});
        if let Some(id) = &self.ambassador_id {
            node["metadata"] = json!({"ambassador_id": id});
        }
        if let Some(zone) = &self.zone {
            node["locality"] = json!({"zone": zone});
        }
        node
    }

    fn xds_cluster(&self) -> Value {
        let address = match &self.xds {
            Target::Tcp { host, port } => {
                json!({"socket_address": {"address": host, "port_value": port}})
            }
            Target::Unix(path) => json!({"pipe": {"path": path}}),
        };
        // while Envoy's main thread applies 10,000 clusters, it reads no response to a ping: with a shorter keepalive timeout it
        // would close the stream meanwhile, and start again
        let mut cluster = json!({
            "name": XDS_CLUSTER,
            "connect_timeout": "2s",
            "lb_policy": "LEAST_REQUEST",
            "load_assignment": {"cluster_name": XDS_CLUSTER, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {
                    "connection_keepalive": {"interval": "15s", "timeout": "15s"}
                }}
            }}
        });
        let Target::Tcp { host, .. } = &self.xds else {
            cluster["type"] = json!("STATIC");
            return cluster;
        };
        // each address is a replica; a name that does not resolve yet is looked up again soon
        cluster["cluster_type"] = json!({
            "name": "envoy.clusters.dns",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
                "dns_refresh_rate": "5s",
                "dns_failure_refresh_rate": {"base_interval": "0.5s", "max_interval": "5s"}
            }
        });
        // of several replicas one that refuses connections is left out for a while, unless all do
        cluster["outlier_detection"] = json!({
            "consecutive_5xx": 1,
            "base_ejection_time": "5s",
            "max_ejection_time": "15s",
            "max_ejection_percent": 100
        });
        cluster["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 1}});
        if let Some(tls) = &self.tls {
            cluster["transport_socket"] = json!({
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": host,
                    "common_tls_context": tls.common_tls_context(host)
                }
            });
        }
        cluster
    }

    /// Always limits connections: without a limit, Envoy aborts when it runs out of file descriptors.
    fn overload_manager(&self) -> Value {
        let mut monitors = vec![json!({
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                "max_active_downstream_connections": self.max_connections
            }
        })];
        let mut actions = Vec::new();
        if let Some(bytes) = self.max_heap_bytes {
            monitors.push(json!({
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": bytes
                }
            }));
            for (action, value) in [
                ("shrink_heap", 0.90),
                ("disable_http_keepalive", 0.95),
                ("stop_accepting_requests", 0.98),
            ] {
                actions.push(json!({
                    "name": format!("envoy.overload_actions.{action}"),
                    "triggers": [{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": value}}]
                }));
            }
        }
        json!({"refresh_interval": "0.25s", "resource_monitors": monitors, "actions": actions})
    }
}

/// A Unix socket of Envoy is for its user only.
fn address(address: &Address) -> Value {
    match address {
        Address::Tcp(socket) => {
            json!({"socket_address": {"address": socket.ip().to_string(), "port_value": socket.port()}})
        }
        Address::Unix(path) if path.as_os_str().as_encoded_bytes().starts_with(b"@") => {
            json!({"pipe": {"path": path}})
        }
        Address::Unix(path) => json!({"pipe": {"path": path, "mode": 0o600}}),
    }
}

/// A cluster of one endpoint, which need not exist when Envoy connects.
fn static_cluster(name: &str, endpoint: &Address) -> Value {
    let address = match endpoint {
        Address::Tcp(_) => address(endpoint),
        Address::Unix(path) => json!({"pipe": {"path": path}}),
    };
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]}
    })
}

/// The listener of `/ready` and `/stats/prometheus`, and of nothing else of the admin interface. Envoy's workers start once
/// it has a configuration, so it does not respond earlier.
fn ready_listener(socket: &Address) -> Value {
    json!({
        "name": "ready",
        "address": address(socket),
        "ignore_global_conn_limit": true,
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "ready",
                "route_config": {"name": "ready", "virtual_hosts": [{"name": "ready", "domains": ["*"], "routes": [
                    {"match": {"path": "/stats/prometheus", "headers": [{"name": ":method", "string_match": {"exact": "GET"}}]}, "route": {"cluster": ADMIN_CLUSTER}}
                ]}]},
                "http_filters": [
                    {"name": "envoy.filters.http.health_check", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck",
                        "pass_through_mode": false,
                        "headers": [{"name": ":path", "string_match": {"exact": "/ready"}}]
                    }},
                    {"name": "envoy.filters.http.router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                    }}
                ]
            }
        }]}]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_a_host_and_a_port_or_a_path() {
        let target = |text: &str| text.parse::<Target>();
        let tcp = |host: &str| Target::Tcp {
            host: host.to_owned(),
            port: 8003,
        };
        assert_eq!(target("nuncio:8003"), Ok(tcp("nuncio")));
        assert_eq!(target("[::1]:8003"), Ok(tcp("::1")));
        assert_eq!(target("unix:/xds"), Ok(Target::Unix("/xds".into())));
        for text in [
            "",
            "nuncio",
            ":8003",
            "nuncio:0",
            "nuncio:x",
            "nuncio:99999",
        ] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}
