//! Addresses of this host: the control plane's own ports must not be upstreams.
//!
//! Envoy may share a network namespace with the control plane. What listens there without authentication trusts loopback, so
//! a Mapping that leads there would give its author what only the host may have.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use nuncio_ir::Discovery;

/// Whether requests would go to a port of the control plane on this host.
pub(super) fn leads_home(discovery: &Discovery, own_ports: &BTreeSet<u16>) -> bool {
    match discovery {
        Discovery::Static { address, port } => own_ports.contains(port) && is_own_address(*address),
        Discovery::Dns { host, port, .. } => own_ports.contains(port) && is_own_name(host),
        // put together from others that have been checked
        Discovery::Several { .. } | Discovery::Endpoints(_) | Discovery::Empty => false,
    }
}

/// Whether an address is a port of the control plane on this host.
pub(in crate::store) fn is_own(address: &SocketAddr, own_ports: &BTreeSet<u16>) -> bool {
    own_ports.contains(&address.port()) && is_own_address(address.ip())
}

/// Whether an address is this host: loopback, or unspecified, which Linux takes for loopback, in IPv4, IPv6 and their
/// mixed forms.
pub(super) fn is_own_address(address: IpAddr) -> bool {
    let is_own_v4 = |address: std::net::Ipv4Addr| address.is_loopback() || address.octets()[0] == 0;
    match address {
        IpAddr::V4(address) => is_own_v4(address),
        IpAddr::V6(address) => {
            let mapped = address.to_ipv4_mapped().or_else(|| address.to_ipv4());
            address.is_loopback() || address.is_unspecified() || mapped.is_some_and(is_own_v4)
        }
    }
}

/// Whether a name is this host (RFC 6761, 6.3, and the names of /etc/hosts), or an address in a form of its own.
fn is_own_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let is_name = [
        "localhost",
        "localhost.localdomain",
        "ip6-localhost",
        "ip6-loopback",
    ]
    .contains(&name.as_str())
        || name.ends_with(".localhost");
    // resolvers take 127.1, 0x7f.1 and 2130706433 for addresses; no name has a last label that begins with a digit
    let last = name.rsplit('.').next().unwrap_or_default();
    is_name || last.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_known_in_any_spelling() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "::1",
            "::",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
        ] {
            assert!(is_own_address(address.parse().unwrap()), "{address}");
        }
        for address in ["10.0.0.1", "128.0.0.1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(!is_own_address(address.parse().unwrap()), "{address}");
        }
        for name in [
            "localhost",
            "LocalHost.",
            "a.localhost",
            "ip6-localhost",
            "127.1",
            "0x7f.1",
            "2130706433",
        ] {
            assert!(is_own_name(name), "{name}");
        }
        for name in ["localhost.example", "notlocalhost", "a.b", "1.example"] {
            assert!(!is_own_name(name), "{name}");
        }
    }
}
