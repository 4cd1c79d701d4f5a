//! Rendering of the gateway model to Envoy's messages: [`render`] is a pure function of one unit, used for incremental
//! updates and for builds from scratch.
//!
//! Bytes are deterministic: maps with more than one entry are encoded by hand ([`wire`]), and tests render everything
//! twice. Fields that Envoy 1.40 deprecates are not used.

use prost::{Message, Name};

use crate::{
    Resource, ResourceType, Unit,
    ir::{Ir, RouteTable},
    pb,
};

mod access_log;
mod action;
mod cluster;
mod endpoint;
mod filter;
mod header;
mod http_connection_manager;
mod listener;
mod refs;
mod route;
mod route_tree;
mod scope;
mod secret;
mod tcp_proxy;
mod tls;
mod tracing;
mod virtual_host;
mod wire;

pub(crate) use self::scope::HEADER as SCOPE_HEADER;

/// The resource of a unit; `None` if the gateway does not have it (any more).
#[must_use]
pub fn render(unit: &Unit, ir: &Ir) -> Option<Resource> {
    let kind = unit.kind();
    let name = unit.name();
    match unit {
        Unit::Cluster(key) => {
            let cluster = ir.clusters.get(key)?;
            let resource = Resource::new(kind, name, encode(&cluster::cluster(cluster)));
            Some(
                resource
                    .with_refs(refs::of_cluster(cluster))
                    .with_warming(refs::warms(cluster)),
            )
        }
        Unit::Endpoints(key) => {
            let endpoints = ir.endpoints.get(key)?;
            let body = encode(&endpoint::cluster_load_assignment(endpoints));
            Some(Resource::new(kind, name, body))
        }
        Unit::Secret(key) => {
            let secret = ir.secrets.get(key)?;
            Some(Resource::new(kind, name, encode(&secret::secret(secret))))
        }
        Unit::Filter(filter) => {
            let settings = ir.filters.get(filter)?;
            let resource = Resource::new(kind, name, encode(&filter::resource(filter, settings)));
            Some(resource.with_refs(refs::of_filter(settings)))
        }
        Unit::Listener(key) => {
            let listener = ir.listeners.get(key)?;
            let resource = Resource::new(kind, name, listener::listener(listener));
            Some(resource.with_refs(refs::of_listener(listener)))
        }
        Unit::Loading(key) => {
            let table = ir.route_tables.get(key)?;
            let body = encode(&scope::scope(unit, key));
            table.is_selected.then(|| Resource::new(kind, name, body))
        }
        Unit::Selection(key) => {
            let table = &ir.selected(key)?.key;
            let resource = Resource::new(kind, name, encode(&scope::scope(unit, table)));
            Some(resource.with_refs([(ResourceType::RouteTable, table.to_string().into())]))
        }
        Unit::RouteTable(key) => {
            let table = ir.route_tables.get(key)?;
            Some(route_table(table))
        }
    }
}

/// The resource of a route table.
pub(crate) fn route_table(table: &RouteTable) -> Resource {
    let name = table.key.to_string();
    let body = route::route_configuration(table);
    Resource::new(ResourceType::RouteTable, name, body).with_refs(refs::of_route_table(table))
}

/// All resources of the gateway.
pub fn render_all(ir: &Ir) -> impl Iterator<Item = Resource> {
    ir.units().filter_map(move |unit| render(&unit, ir))
}

fn encode(message: &impl Message) -> bytes::Bytes {
    message.encode_to_vec().into()
}

/// The message in an `Any`.
fn any<M: Message + Name>(message: &M) -> pb::google::protobuf::Any {
    pb::google::protobuf::Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

fn duration(duration: std::time::Duration) -> pb::google::protobuf::Duration {
    let duration = duration.min(crate::ir::LONGEST_TIME);
    pb::google::protobuf::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(0),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn boolean(value: bool) -> pb::google::protobuf::BoolValue {
    pb::google::protobuf::BoolValue { value }
}

fn uint32(value: u32) -> pb::google::protobuf::UInt32Value {
    pb::google::protobuf::UInt32Value { value }
}

fn percentage(percentage: u32) -> pb::envoy::r#type::v3::FractionalPercent {
    use pb::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
    FractionalPercent {
        numerator: percentage,
        denominator: DenominatorType::Hundred.into(),
    }
}

/// The ADS stream as the source of a resource, with a fetch timeout: without one, a missing route table or secret would
/// keep the whole listener warming forever.
fn ads() -> pb::envoy::config::core::v3::ConfigSource {
    use pb::envoy::config::core::v3::{
        AggregatedConfigSource, ApiVersion, ConfigSource, config_source::ConfigSourceSpecifier,
    };
    ConfigSource {
        initial_fetch_timeout: Some(duration(std::time::Duration::from_secs(5))),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

fn socket_address(socket: std::net::SocketAddr) -> pb::envoy::config::core::v3::Address {
    host_address(socket.ip().to_string(), socket.port())
}

fn host_address(host: String, port: u16) -> pb::envoy::config::core::v3::Address {
    use pb::envoy::config::core::v3::{
        Address, SocketAddress, address, socket_address::PortSpecifier,
    };
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host,
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..SocketAddress::default()
        })),
    }
}

/// The authority of requests that Envoy itself sends to a cluster: what comes first in its name. Envoy would use the whole
/// name, which is no authority if it has a slash, and servers reject such requests.
fn authority(cluster: &str) -> &str {
    cluster.split('/').next().unwrap_or(cluster)
}

/// A gRPC service of a cluster.
fn grpc_service(
    cluster: &str,
    timeout: Option<std::time::Duration>,
) -> pb::envoy::config::core::v3::GrpcService {
    use pb::envoy::config::core::v3::{
        GrpcService,
        grpc_service::{EnvoyGrpc, TargetSpecifier},
    };
    GrpcService {
        timeout: timeout.map(duration),
        target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
            cluster_name: cluster.to_owned(),
            authority: authority(cluster).to_owned(),
            ..EnvoyGrpc::default()
        })),
        ..GrpcService::default()
    }
}
