//! The upstream of a Mapping or TCPMapping. Its `service` is `[scheme://]host[:port]`, whose host may name a Service.

use std::{net::IpAddr, sync::Arc};

use super::Name;

mod fields;
mod health_check;
mod outlier;

pub(super) use fields::{UpstreamFields, cluster_settings, upstream};

/// A parsed `service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceText {
    /// Lower case, without brackets.
    pub(super) host: String,
    /// The host as written.
    pub(super) written: Arc<str>,
    pub(super) port: u16,
    pub(super) address: Option<IpAddr>,
    /// `http` or `https`, if it has one.
    pub(super) scheme: Option<&'static str>,
    /// Whether it has a port.
    pub(super) has_port: bool,
}

impl ServiceText {
    /// `host[:port]`, as in the text.
    pub(super) fn authority(&self) -> String {
        let host = match self.address {
            Some(IpAddr::V6(address)) => format!("[{address}]"),
            Some(IpAddr::V4(_)) | None => self.host.clone(),
        };
        if self.has_port {
            format!("{host}:{}", self.port)
        } else {
            host
        }
    }
}

/// Parses a `service`. User, path, query and fragment are dropped, as in Emissary. With `tls`, TLS is originated
/// whatever the scheme is, so that the default port is 443.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str, tls: bool) -> Result<ServiceText, String> {
    parts(text, tls).map_err(|fact| format!("invalid service {text:?}: {fact}"))
}

fn parts(text: &str, tls: bool) -> Result<ServiceText, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text.strip_prefix("//").unwrap_or(text)),
    };
    let scheme = match scheme.as_deref() {
        None => None,
        Some("http") => Some("http"),
        Some("https") => Some("https"),
        Some(other) => {
            return Err(format!("unsupported scheme {other:?}; use http or https"));
        }
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_user, host)| host);
    let (host, port) = split_port(authority)?;
    let default_port = if tls || scheme == Some("https") {
        443
    } else {
        80
    };
    let written = port;
    let port = match port {
        None => default_port,
        Some(port) => match port.parse::<u16>() {
            Ok(0) => default_port,
            Ok(port) => port,
            Err(_) => {
                return Err(format!("port {port:?} must be a number from 1 to 65535"));
            }
        },
    };
    let as_written: Arc<str> = host.into();
    let host = host.to_ascii_lowercase();
    if host.is_empty() {
        return Err("host is missing; use [scheme://]host[:port]".to_owned());
    }
    let address: Option<IpAddr> = host.parse().ok();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if address.is_none()
        && (!host.bytes().all(plain)
            || host.len() > 253
            || host.starts_with('.')
            || host.contains(".."))
    {
        return Err(format!("{host:?} is not a DNS name"));
    }
    Ok(ServiceText {
        host,
        written: as_written,
        port,
        address,
        scheme,
        has_port: written.is_some_and(|port| !port.trim_start_matches('0').is_empty()),
    })
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else {
            return Err("unclosed bracket".to_owned());
        };
        return match port.strip_prefix(':') {
            Some(port) => Ok((host, Some(port).filter(|port| !port.is_empty()))),
            None if port.is_empty() => Ok((host, None)),
            None => Err(format!("unexpected {port:?} after the bracket")),
        };
    }
    match authority.split_once(':') {
        None => Ok((authority, None)),
        Some((_, port)) if port.contains(':') => {
            Err("has several colons; write an IPv6 address in brackets, as in [::1]:80".to_owned())
        }
        Some((host, port)) => Ok((host, Some(port).filter(|port| !port.is_empty()))),
    }
}

/// The host as DNS is queried for it: a bare name outside the gateway's own namespace is qualified with its namespace.
pub(super) fn qualified(host: &str, namespace: &str, ambassador_namespace: &str) -> String {
    if namespace == ambassador_namespace || host == "localhost" || host.contains(['.', ':']) {
        host.to_owned()
    } else {
        format!("{host}.{namespace}")
    }
}

/// The Service that a host may name, and whether it can name nothing else. The DNS of Kubernetes has the forms `svc`,
/// `svc.ns`, and `svc.ns.svc` with or without the domain of the cluster; `a.b` can also be a name outside.
pub(super) fn service(host: &str, namespace: &str) -> Option<(Name, bool)> {
    if host == "localhost" {
        return None;
    }
    let mut labels = host.trim_end_matches('.').split('.');
    let name = labels.next()?;
    let (namespace, only) = match (labels.next(), labels.next()) {
        (None, _) => (namespace, true),
        (Some(namespace), None) => (namespace, false),
        (Some(namespace), Some("svc")) => (namespace, true),
        (Some(_), Some(_)) => return None,
    };
    let name = Name {
        namespace: namespace.into(),
        name: name.into(),
    };
    Some((name, only))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_parsed() {
        for (text, host, port, tls) in [
            ("svc", "svc", 80, false),
            ("MySvc", "mysvc", 80, false),
            ("svc:8080", "svc", 8080, false),
            ("https://svc", "svc", 443, true),
            ("HTTPS://Svc:444", "svc", 444, true),
            ("http://svc", "svc", 80, false),
            ("svc/path", "svc", 80, false),
            ("svc?x=1", "svc", 80, false),
            ("user:pw@svc:81", "svc", 81, false),
            ("//svc", "svc", 80, false),
            ("svc:0", "svc", 80, false),
            ("[::1]:81", "::1", 81, false),
            ("10.1.2.3", "10.1.2.3", 80, false),
        ] {
            let parsed = parse(text, false).unwrap();
            assert_eq!(
                (
                    parsed.host.as_str(),
                    parsed.port,
                    parsed.scheme == Some("https")
                ),
                (host, port, tls),
                "{text}"
            );
        }
    }

    #[test]
    fn invalid_services_are_rejected() {
        for text in [
            "",
            "/x",
            "foo://svc",
            "svc:99999",
            "svc:http",
            "::1",
            "[::1",
            "[::1]x",
            "a b",
            "é",
            "a..b",
            "https://",
        ] {
            assert!(parse(text, false).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_services_are_those_of_the_dns_of_kubernetes() {
        let named = |host| service(host, "own").map(|(name, only)| (name.to_string(), only));
        assert_eq!(named("a"), Some(("own/a".to_owned(), true)));
        assert_eq!(named("a.b"), Some(("b/a".to_owned(), false)));
        assert_eq!(
            named("a.b.svc.cluster.local"),
            Some(("b/a".to_owned(), true))
        );
        assert_eq!(named("www.example.com"), None);
        assert_eq!(named("localhost"), None);
    }
}
