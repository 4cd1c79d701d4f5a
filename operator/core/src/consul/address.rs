//! The address of a Consul agent: `[http://|https://]host[:port]` or `unix:///path`, with environment variables in it.

use std::{net::Ipv6Addr, path::PathBuf};

/// Port of an agent without TLS, where an address without a scheme has none.
const PORT: u16 = 8500;

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host and a port.
    Tcp {
        /// Whether it speaks TLS; `None`: the address has no scheme.
        tls: Option<bool>,
        /// Name or IP address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The path of a socket.
    Unix(PathBuf),
}

/// Parses an address whose variables have been replaced.
///
/// # Errors
/// What is wrong with it, without quoting it: it may have the values of variables.
pub fn parse(text: &str) -> Result<Address, &'static str> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text),
    };
    let (tls, default_port) = match scheme.as_deref() {
        None => (None, PORT),
        Some("http") => (Some(false), 80),
        Some("https") => (Some(true), 443),
        Some("unix") if rest.starts_with('/') => return Ok(Address::Unix(rest.into())),
        Some("unix") => return Err("the path of a socket must be absolute, as in unix:///path"),
        Some(_) => return Err("the scheme must be http, https or unix"),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("unclosed bracket")?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err("brackets must contain an IPv6 address");
            }
            match port.strip_prefix(':') {
                None if !port.is_empty() => return Err("unexpected text after the bracket"),
                port => (host, port),
            }
        }
        None => match rest.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = host.parse::<Ipv6Addr>().is_ok() || host.bytes().all(is_plain);
    if host.is_empty() || host.len() > 253 || !is_name {
        return Err("the host must be a DNS name or an IP address");
    }
    let port = match port {
        None => default_port,
        Some(port) => port
            .parse::<u16>()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("the port must be a number from 1 to 65535")?,
    };
    Ok(Address::Tcp {
        tls,
        host: host.to_owned(),
        port,
    })
}

/// Whether a text may have variables, so that what it means is not known from the text alone.
#[must_use]
pub fn has_variables(text: &str) -> bool {
    text.contains('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        for (text, tls, host, port) in [
            ("consul", None, "consul", 8500),
            ("consul:1", None, "consul", 1),
            ("10.0.0.1:8500", None, "10.0.0.1", 8500),
            ("[fd00::1]:8501", None, "fd00::1", 8501),
            ("[fd00::1]", None, "fd00::1", 8500),
            ("http://consul.example", Some(false), "consul.example", 80),
            ("HTTPS://consul.example/", Some(true), "consul.example", 443),
            ("https://[::1]:8501", Some(true), "::1", 8501),
        ] {
            let host = host.to_owned();
            assert_eq!(parse(text), Ok(Address::Tcp { tls, host, port }), "{text}");
        }
        assert_eq!(
            parse("unix:///run/consul.sock"),
            Ok(Address::Unix("/run/consul.sock".into()))
        );
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        for text in [
            "",
            ":8500",
            "a:0",
            "a:x",
            "a:99999",
            "::1",
            "[a]:1",
            "[::1",
            "[::1]1",
            "ftp://a",
            "unix://run",
            "http://a/path",
            "http://user@a",
            "a b",
            "$HOST:8500",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
