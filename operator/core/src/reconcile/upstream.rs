//! The `service` of a Mapping: `[scheme://]host[:port]`, and what its host can mean.

use std::net::IpAddr;

use super::Name;

mod asked;
mod health_check;
mod outlier;

pub(super) use asked::{Asked, upstream};

/// A service text, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceText {
    /// Lower case, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) address: Option<IpAddr>,
    /// `http` or `https`, if it says one.
    pub(super) scheme: Option<&'static str>,
    /// Whether it says a port.
    has_port: bool,
}

impl ServiceText {
    /// `host[:port]`, as it was written.
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

/// Takes a service text apart. User, path, query and fragment are dropped, as Emissary does it. `tls` says that there is
/// another reason than the scheme to originate TLS, which changes the port that is meant when none is written.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(text: &str, tls: bool) -> Result<ServiceText, String> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text.strip_prefix("//").unwrap_or(text)),
    };
    let scheme = match scheme.as_deref() {
        None => None,
        Some("http") => Some("http"),
        Some("https") => Some("https"),
        Some(other) => {
            return Err(format!(
                "has the scheme {other:?}; only http and https can be served"
            ));
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
                return Err(format!(
                    "has the port {port:?}; a number from 1 to 65535 was expected"
                ));
            }
        },
    };
    let host = host.to_ascii_lowercase();
    if host.is_empty() {
        return Err("names no host; write it as [scheme://]host[:port]".to_owned());
    }
    let address: Option<IpAddr> = host.parse().ok();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if address.is_none()
        && (!host.bytes().all(plain)
            || host.len() > 253
            || host.starts_with('.')
            || host.contains(".."))
    {
        return Err(format!("names the host {host:?}, which is no DNS name"));
    }
    Ok(ServiceText {
        host,
        port,
        address,
        scheme,
        has_port: written.is_some_and(|port| !port.trim_start_matches('0').is_empty()),
    })
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((host, port)) = rest.split_once(']') else {
            return Err("has a bracket that is not closed".to_owned());
        };
        return match port.strip_prefix(':') {
            Some(port) => Ok((host, Some(port).filter(|port| !port.is_empty()))),
            None if port.is_empty() => Ok((host, None)),
            None => Err(format!(
                "has {port:?} after the bracket, where a port was expected"
            )),
        };
    }
    match authority.split_once(':') {
        None => Ok((authority, None)),
        Some((_, port)) if port.contains(':') => {
            Err("has several colons; write an IPv6 address in brackets, as [::1]:80".to_owned())
        }
        Some((host, port)) => Ok((host, Some(port).filter(|port| !port.is_empty()))),
    }
}

/// The host as DNS is asked for it: a bare name outside the gateway's own namespace is qualified with its namespace.
pub(super) fn qualified(host: &str, namespace: &str, ambassador_namespace: &str) -> String {
    if namespace == ambassador_namespace || host == "localhost" || host.contains(['.', ':']) {
        host.to_owned()
    } else {
        format!("{host}.{namespace}")
    }
}

/// The Service that a host can mean, and whether it can mean nothing else. `svc`, `svc.ns`, and `svc.ns.svc` with
/// or without the domain of the cluster are the forms that Kubernetes' DNS has; `a.b` can also be a name outside.
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
    fn service_texts_are_taken_apart() {
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
    fn service_texts_that_are_none_say_why() {
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
    fn names_mean_services_as_the_dns_of_kubernetes_has_them() {
        let meaning = |host| service(host, "own").map(|(name, only)| (name.to_string(), only));
        assert_eq!(meaning("a"), Some(("own/a".to_owned(), true)));
        assert_eq!(meaning("a.b"), Some(("b/a".to_owned(), false)));
        assert_eq!(
            meaning("a.b.svc.cluster.local"),
            Some(("b/a".to_owned(), true))
        );
        assert_eq!(meaning("www.example.com"), None);
        assert_eq!(meaning("localhost"), None);
    }
}
