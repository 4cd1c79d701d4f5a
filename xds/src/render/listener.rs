//! `envoy.config.listener.v3.Listener`

use std::time::Duration;

use bytes::Bytes;

use super::{
    http_connection_manager::{with_table, with_tables_by_host, with_tables_by_server_name},
    tcp_proxy::tcp_proxy,
    wire::Writer,
};
use crate::{
    ir::{self, ChainAction, Transport},
    pb::{
        envoy::{
            config::{
                core::v3::{Address, SocketAddress, UdpSocketConfig, address, socket_address},
                listener::v3::{
                    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter,
                    QuicProtocolOptions, UdpListenerConfig, filter, listener_filter,
                },
            },
            extensions::filters::{
                listener::{proxy_protocol::v3::ProxyProtocol, tls_inspector::v3::TlsInspector},
                network::direct_response::v3::Config as DirectResponse,
            },
        },
        google::protobuf::Any,
    },
};

const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// How long a TLS handshake may take. Without a limit, connections on which none comes are kept for ever.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

mod matcher;

/// Field number in `Listener`.
const FILTER_CHAIN_MATCHER: u32 = 32;

/// A listener with its filter chains, encoded.
///
/// Where chains are for many server names, these are in a matcher instead: when a name comes or goes, Envoy then closes no
/// connection, since no chain differs. Other chains keep their conditions, which Envoy ignores beside a matcher, so that they
/// stay the same as well.
pub(super) fn listener(listener: &ir::Listener) -> Bytes {
    let encoded = Writer::default().message(&without_matcher(listener));
    if listener.shares_chains() {
        let matcher = matcher::matcher(listener);
        encoded.field(FILTER_CHAIN_MATCHER, &matcher).finish()
    } else {
        encoded.finish()
    }
}

fn without_matcher(listener: &ir::Listener) -> Listener {
    Listener {
        name: listener.key.to_string(),
        address: Some(address(listener)),
        stat_prefix: listener.stat_prefix.clone(),
        listener_filters: listener_filters(listener),
        udp_listener_config: (listener.key.transport == Transport::Udp).then(quic),
        filter_chains: listener
            .chains
            .iter()
            .map(|chain| filter_chain(listener, chain))
            .collect(),
        per_connection_buffer_limit_bytes: listener.buffer_limit_bytes.map(super::uint32),
        ..Listener::default()
    }
}

fn address(listener: &ir::Listener) -> Address {
    let protocol = match listener.key.transport {
        Transport::Tcp => socket_address::Protocol::Tcp,
        Transport::Udp => socket_address::Protocol::Udp,
    };
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            protocol: protocol.into(),
            address: listener.address.to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(
                listener.key.port.into(),
            )),
            ..SocketAddress::default()
        })),
    }
}

/// The PROXY protocol header precedes all other bytes of a connection, so its filter is first.
fn listener_filters(listener: &ir::Listener) -> Vec<ListenerFilter> {
    let mut filters = Vec::new();
    if listener.proxy_protocol {
        filters.push(listener_filter(
            "envoy.filters.listener.proxy_protocol",
            super::any(&ProxyProtocol::default()),
        ));
    }
    if listener.tls && listener.key.transport == Transport::Tcp {
        filters.push(listener_filter(
            "envoy.filters.listener.tls_inspector",
            super::any(&TlsInspector::default()),
        ));
    }
    filters
}

/// QUIC instead of plain datagrams.
fn quic() -> UdpListenerConfig {
    UdpListenerConfig {
        quic_options: Some(QuicProtocolOptions::default()),
        downstream_socket_config: Some(UdpSocketConfig {
            prefer_gro: Some(super::boolean(true)),
            ..UdpSocketConfig::default()
        }),
        ..UdpListenerConfig::default()
    }
}

fn listener_filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..ListenerFilter::default()
    }
}

fn filter_chain(listener: &ir::Listener, chain: &ir::FilterChain) -> FilterChain {
    let shares = chain.action == ChainAction::HttpByServerName;
    FilterChain {
        name: chain.name.clone(),
        filter_chain_match: (!shares).then(|| FilterChainMatch {
            server_names: chain.server_names.clone(),
            // the cleartext chain has no condition, so it also gets TLS connections with unknown server names, which it
            // rejects as invalid HTTP
            transport_protocol: if listener.key.transport == Transport::Udp {
                "quic".to_owned()
            } else if is_for_tls(chain) {
                "tls".to_owned()
            } else {
                String::new()
            },
            ..FilterChainMatch::default()
        }),
        filters: vec![filter(listener, &chain.action)],
        transport_socket: chain.tls.as_ref().map(|tls| match listener.key.transport {
            Transport::Tcp => super::tls::downstream(tls),
            Transport::Udp => super::tls::downstream_quic(tls),
        }),
        transport_socket_connect_timeout: (chain.tls.is_some()
            && listener.key.transport == Transport::Tcp)
            .then(|| super::duration(HANDSHAKE_TIMEOUT)),
        ..FilterChain::default()
    }
}

/// Whether cleartext connections never get to a chain.
fn is_for_tls(chain: &ir::FilterChain) -> bool {
    chain.tls.is_some() || matches!(chain.action, ChainAction::Close(_))
}

fn filter(listener: &ir::Listener, action: &ChainAction) -> Filter {
    let (name, config) = match action {
        ChainAction::Http(table) => (
            HTTP_CONNECTION_MANAGER,
            super::any(&with_table(listener, table)),
        ),
        ChainAction::HttpByHost(others) => (
            HTTP_CONNECTION_MANAGER,
            super::any(&with_tables_by_host(listener, others)),
        ),
        ChainAction::HttpByServerName => (
            HTTP_CONNECTION_MANAGER,
            super::any(&with_tables_by_server_name(listener)),
        ),
        ChainAction::Tcp(proxy) => (
            "envoy.filters.network.tcp_proxy",
            super::any(&tcp_proxy(listener, proxy)),
        ),
        // with an empty response the filter just closes the connection
        ChainAction::Close(_) => (
            "envoy.filters.network.direct_response",
            super::any(&DirectResponse::default()),
        ),
    };
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    }
}
