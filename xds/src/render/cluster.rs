//! `envoy.config.cluster.v3.Cluster`

use std::{collections::HashMap, time::Duration};

use super::endpoint::load_assignment;

mod zone;
use crate::{
    ir::{self, Balancer, Discovery, DnsFamily},
    pb::{
        envoy::{
            config::{
                cluster::v3::{
                    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
                    circuit_breakers::Thresholds,
                    cluster::{
                        ClusterDiscoveryType, CustomClusterType, DiscoveryType, EdsClusterConfig,
                        LbPolicy,
                    },
                },
                core::v3::{
                    HealthCheck, Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions,
                    RoutingPriority, TcpKeepalive, TypedExtensionConfig, health_check,
                },
            },
            extensions::{
                clusters::{
                    common::dns::v3::DnsLookupFamily,
                    dns::v3::{DnsCluster, dns_cluster::RefreshRate},
                },
                network::dns_resolver::cares::v3::CaresDnsResolverConfig,
                upstreams::http::v3::{
                    self as upstream,
                    http_protocol_options::{
                        ExplicitHttpConfig, UpstreamProtocolOptions,
                        explicit_http_config::ProtocolConfig,
                    },
                },
            },
            r#type::v3::Int64Range,
        },
        google::protobuf::{Any, UInt64Value},
    },
};

/// Seconds that a name server is given to respond to the first try, and number of tries. Until the first lookup has ended
/// Envoy warms the cluster: routes to it wait, and so does an Envoy that starts. With a name server that never responds that
/// takes up to 5 s; with c-ares' own defaults (5 s, four tries) it takes 55 s.
const DNS_QUERY_SECONDS: u64 = 1;
const DNS_TRIES: u32 = 2;
/// Interval of successful lookups, unless the TTL decides.
const DNS_REFRESH: Duration = Duration::from_secs(5);
/// First interval after a failed lookup, which grows up to [`DNS_REFRESH`].
const DNS_RETRY: Duration = Duration::from_secs(1);
/// Up to this time is added to each interval, so that lookups of many names are spread.
const DNS_JITTER: Duration = Duration::from_millis(500);

/// A cluster. With EDS its `ClusterLoadAssignment` is a resource of its own.
pub(super) fn cluster(cluster: &ir::Cluster) -> Cluster {
    let name = cluster.name.to_string();
    let mut message = Cluster {
        name: name.clone(),
        alt_stat_name: cluster.stat_name.clone(),
        connect_timeout: Some(super::duration(cluster.connect_timeout)),
        lb_policy: lb_policy(cluster.balancer).into(),
        load_balancing_policy: cluster
            .by_zone
            .then(|| zone::policy(cluster.balancer))
            .flatten(),
        transport_socket: cluster.tls.as_ref().map(super::tls::upstream),
        typed_extension_protocol_options: http_protocol_options(cluster),
        circuit_breakers: circuit_breakers(&cluster.circuit_breakers),
        upstream_connection_options: cluster.keepalive.as_ref().map(keepalive),
        health_checks: cluster.health_checks.iter().map(health_check).collect(),
        outlier_detection: cluster.outlier_detection.as_ref().map(outlier_detection),
        ..Cluster::default()
    };
    match &cluster.discovery {
        Discovery::Static { address, port } => {
            let address = super::host_address(address.to_string(), *port);
            message.cluster_discovery_type =
                Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
            message.load_assignment = Some(load_assignment(name, std::iter::once(address)));
        }
        Discovery::Empty => {
            message.cluster_discovery_type =
                Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
            message.load_assignment = Some(load_assignment(name, std::iter::empty()));
        }
        Discovery::Dns {
            host,
            port,
            family,
            logical,
            respect_ttl,
        } => {
            let address = super::host_address(host.clone(), *port);
            message.cluster_discovery_type =
                Some(ClusterDiscoveryType::ClusterType(CustomClusterType {
                    name: "envoy.cluster.dns".to_owned(),
                    typed_config: Some(dns_cluster(*family, *logical, *respect_ttl)),
                }));
            message.load_assignment = Some(load_assignment(name, std::iter::once(address)));
        }
        Discovery::Several { targets, family } => {
            let addresses = targets.iter();
            let addresses = addresses.map(|(host, port)| super::host_address(host.clone(), *port));
            message.load_assignment = Some(load_assignment(name, addresses));
            message.cluster_discovery_type = Some(if needs_dns(targets) {
                ClusterDiscoveryType::ClusterType(CustomClusterType {
                    name: "envoy.cluster.dns".to_owned(),
                    typed_config: Some(dns_cluster(*family, false, false)),
                })
            } else {
                ClusterDiscoveryType::Type(DiscoveryType::Static.into())
            });
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

/// Whether any of these hosts is a name. Addresses need no lookup, also beside names.
pub(super) fn needs_dns(targets: &[(String, u16)]) -> bool {
    targets
        .iter()
        .any(|(host, _)| host.parse::<std::net::IpAddr>().is_err())
}

fn lb_policy(balancer: Balancer) -> LbPolicy {
    match balancer {
        Balancer::RoundRobin => LbPolicy::RoundRobin,
        Balancer::LeastRequest => LbPolicy::LeastRequest,
        Balancer::RingHash => LbPolicy::RingHash,
        Balancer::Maglev => LbPolicy::Maglev,
    }
}

fn circuit_breakers(breakers: &[ir::CircuitBreaker]) -> Option<CircuitBreakers> {
    let thresholds: Vec<Thresholds> = breakers
        .iter()
        .map(|breaker| Thresholds {
            priority: if breaker.high_priority {
                RoutingPriority::High.into()
            } else {
                RoutingPriority::Default.into()
            },
            max_connections: breaker.max_connections.map(super::uint32),
            max_pending_requests: breaker.max_pending_requests.map(super::uint32),
            max_requests: breaker.max_requests.map(super::uint32),
            max_retries: breaker.max_retries.map(super::uint32),
            ..Thresholds::default()
        })
        .collect();
    (!thresholds.is_empty()).then(|| CircuitBreakers {
        thresholds,
        ..CircuitBreakers::default()
    })
}

fn keepalive(keepalive: &ir::Keepalive) -> UpstreamConnectionOptions {
    UpstreamConnectionOptions {
        tcp_keepalive: Some(TcpKeepalive {
            keepalive_probes: keepalive.probes.map(super::uint32),
            keepalive_time: keepalive.idle_seconds.map(super::uint32),
            keepalive_interval: keepalive.interval_seconds.map(super::uint32),
        }),
        ..UpstreamConnectionOptions::default()
    }
}

fn outlier_detection(detection: &ir::OutlierDetection) -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: detection.consecutive_5xx.map(super::uint32),
        consecutive_gateway_failure: detection.consecutive_gateway_failure.map(super::uint32),
        // by default Envoy counts these, but does not eject
        enforcing_consecutive_gateway_failure: detection
            .consecutive_gateway_failure
            .map(|_| super::uint32(100)),
        interval: detection.interval.map(super::duration),
        base_ejection_time: detection.base_ejection_time.map(super::duration),
        max_ejection_percent: detection.max_ejection_percent.map(super::uint32),
        ..OutlierDetection::default()
    }
}

fn health_check(check: &ir::HealthCheck) -> HealthCheck {
    use health_check::{GrpcHealthCheck, HealthChecker, HttpHealthCheck};
    HealthCheck {
        timeout: Some(super::duration(check.timeout)),
        interval: Some(super::duration(check.interval)),
        // by default Envoy checks a cluster without traffic once a minute only
        no_traffic_interval: Some(super::duration(check.interval)),
        unhealthy_threshold: Some(super::uint32(check.unhealthy_threshold)),
        healthy_threshold: Some(super::uint32(check.healthy_threshold)),
        health_checker: Some(match &check.checker {
            ir::HealthChecker::Http {
                path,
                host,
                add_headers,
                remove_headers,
                expected,
            } => HealthChecker::HttpHealthCheck(HttpHealthCheck {
                path: path.clone(),
                host: host.clone(),
                request_headers_to_add: super::header::added(add_headers),
                request_headers_to_remove: remove_headers.clone(),
                expected_statuses: expected
                    .iter()
                    .map(|(start, end)| Int64Range {
                        start: i64::from(*start),
                        end: i64::from(*end),
                    })
                    .collect(),
                ..HttpHealthCheck::default()
            }),
            ir::HealthChecker::Grpc { service, authority } => {
                HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
                    service_name: service.clone(),
                    authority: authority.clone(),
                    ..GrpcHealthCheck::default()
                })
            }
        }),
        ..HealthCheck::default()
    }
}

fn dns_cluster(family: DnsFamily, logical: bool, respect_ttl: bool) -> Any {
    let family = match family {
        DnsFamily::V4 => DnsLookupFamily::V4Only,
        DnsFamily::V6 => DnsLookupFamily::V6Only,
        DnsFamily::Auto => DnsLookupFamily::Auto,
    };
    super::any(&DnsCluster {
        dns_lookup_family: family.into(),
        all_addresses_in_single_endpoint: logical,
        respect_dns_ttl: respect_ttl,
        dns_refresh_rate: Some(super::duration(DNS_REFRESH)),
        dns_failure_refresh_rate: Some(RefreshRate {
            base_interval: Some(super::duration(DNS_RETRY)),
            max_interval: Some(super::duration(DNS_REFRESH)),
        }),
        dns_jitter: Some(super::duration(DNS_JITTER)),
        typed_dns_resolver_config: Some(dns_resolver()),
        ..DnsCluster::default()
    })
}

/// The resolver of one cluster, with bounded lookups.
fn dns_resolver() -> TypedExtensionConfig {
    TypedExtensionConfig {
        name: "envoy.network.dns_resolver.cares".to_owned(),
        typed_config: Some(super::any(&CaresDnsResolverConfig {
            query_timeout_seconds: Some(UInt64Value {
                value: DNS_QUERY_SECONDS,
            }),
            query_tries: Some(super::uint32(DNS_TRIES)),
            ..CaresDnsResolverConfig::default()
        })),
    }
}

/// At most one entry: prost encodes the entries of a map in random order.
fn http_protocol_options(cluster: &ir::Cluster) -> HashMap<String, Any> {
    let common = HttpProtocolOptions {
        idle_timeout: cluster.idle_timeout.map(super::duration),
        max_connection_duration: cluster.max_connection_lifetime.map(super::duration),
        ..HttpProtocolOptions::default()
    };
    let has_common = common != HttpProtocolOptions::default();
    if !cluster.http2 && !has_common {
        return HashMap::new();
    }
    let protocol = if cluster.http2 {
        ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default())
    } else {
        ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())
    };
    let options = upstream::HttpProtocolOptions {
        common_http_protocol_options: has_common.then_some(common),
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig {
                protocol_config: Some(protocol),
            },
        )),
        ..upstream::HttpProtocolOptions::default()
    };
    HashMap::from([(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
        super::any(&options),
    )])
}
