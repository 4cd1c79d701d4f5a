//! Which backends the environment of `kat-server` asks for.

use anyhow::{Context as _, Result, ensure};
use axum::Router;

use super::{ApiVersion, GrpcAls, GrpcAuth, GrpcEcho, GrpcRls, HealthCheck, Http, Listen, Server};
use crate::certificate::Certificate;

/// First port for clear text.
const CLEAR: u16 = 8080;
/// First port for TLS.
const TLS: u16 = 8443;

/// A pair of ports, and who answers there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// How many pairs come before it.
    pub offset: u16,
    /// The name of the backend.
    pub name: String,
}

/// The pairs of ports that `variable` asks for.
pub fn pairs(variable: impl Fn(&str) -> Option<String>) -> Vec<Pair> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let default = variable("BACKEND");
    let kind = variable("KAT_BACKEND_TYPE").unwrap_or_default();
    if kind.starts_with("grpc_") && is_known(&kind) {
        let pair = |name| Pair { offset: 0, name };
        return default.into_iter().map(pair).collect();
    }
    let count = if kind == "health_check_server" {
        1
    } else {
        u16::MAX - TLS
    };
    let mut pairs = Vec::new();
    for offset in 0..count {
        let name = |port| {
            let fallback = default.clone().filter(|_| offset == 0);
            variable(&format!("BACKEND_{port}")).or(fallback)
        };
        let (Some(clear), Some(tls)) = (name(CLEAR + offset), name(TLS + offset)) else {
            break;
        };
        if clear == tls {
            pairs.push(Pair {
                offset,
                name: clear,
            });
        } else {
            eprintln!(
                "BACKEND_{} and BACKEND_{} differ: {clear}, {tls}",
                CLEAR + offset,
                TLS + offset
            );
        }
    }
    pairs
}

/// The backend that `variable` asks for, by this name.
pub fn backend(name: &str, variable: impl Fn(&str) -> Option<String>) -> Router {
    let version = |name| ApiVersion::parse(&variable(name).unwrap_or_default());
    let code = |name, default| {
        variable(name)
            .and_then(|code| code.parse().ok())
            .unwrap_or(default)
    };
    match variable("KAT_BACKEND_TYPE").unwrap_or_default().as_str() {
        "grpc_echo" => GrpcEcho::new(name).router(),
        "grpc_auth" => GrpcAuth::new(name, version("GRPC_AUTH_PROTOCOL_VERSION")).router(),
        "grpc_rls" => GrpcRls::new(name, version("GRPC_RLS_PROTOCOL_VERSION")).router(),
        "grpc_als" => GrpcAls::default().router(),
        "health_check_server" => {
            let (healthy, unhealthy) = ("HEALTHY_STATUS_CODE", "UNHEALTHY_STATUS_CODE");
            HealthCheck::new(name, code(healthy, 200), code(unhealthy, 500)).router()
        }
        _ => {
            let extauth = variable("INCLUDE_EXTAUTH_HEADER").is_some_and(|value| !value.is_empty());
            Http::new(name).include_extauth(extauth).router()
        }
    }
}

fn is_known(kind: &str) -> bool {
    matches!(kind, "grpc_echo" | "grpc_auth" | "grpc_rls" | "grpc_als")
}

/// Starts all that the environment asks for, on all addresses, with the certificate of the working directory.
///
/// # Errors
/// No backend is configured, the certificate is missing, or a port is in use.
pub async fn start() -> Result<Vec<Server>> {
    let variable = |name: &str| std::env::var(name).ok();
    let pairs = pairs(variable);
    ensure!(
        !pairs.is_empty(),
        "no listener: set BACKEND, or BACKEND_8080 and BACKEND_8443"
    );
    let certificate = Certificate {
        chain: std::fs::read_to_string("server.crt").context("server.crt")?,
        key: std::fs::read_to_string("server.key").context("server.key")?,
    };
    let mut servers = Vec::new();
    for pair in pairs {
        let (clear, tls) = (CLEAR + pair.offset, TLS + pair.offset);
        let listen = Listen::on(everywhere(clear)).tls(everywhere(tls), certificate.clone());
        servers.push(Server::start(&listen, backend(&pair.name, variable)).await?);
        eprintln!(
            "{} listens on {clear} (clear text) and {tls} (TLS)",
            pair.name
        );
    }
    Ok(servers)
}

fn everywhere(port: u16) -> String {
    // a machine without IPv6 cannot bind [::], which would cover both
    let ipv6 = std::net::TcpListener::bind("[::]:0").is_ok();
    let address = if ipv6 { "[::]" } else { "0.0.0.0" };
    format!("{address}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(variables: &[(&str, &str)]) -> Vec<(u16, String)> {
        let find = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let pairs = pairs(find).into_iter();
        pairs.map(|pair| (pair.offset, pair.name)).collect()
    }

    #[test]
    fn one_name_is_for_the_first_pair() {
        assert_eq!(offsets(&[("BACKEND", "a")]), [(0, "a".to_owned())]);
    }

    #[test]
    fn pairs_end_at_the_first_gap_and_skip_what_differs() {
        let variables = [
            ("BACKEND", "a"),
            ("BACKEND_8081", "b"),
            ("BACKEND_8444", "c"),
            ("BACKEND_8082", "d"),
            ("BACKEND_8445", "d"),
            ("BACKEND_8084", "e"),
            ("BACKEND_8447", "e"),
        ];
        assert_eq!(
            offsets(&variables),
            [(0, "a".to_owned()), (2, "d".to_owned())]
        );
    }

    #[test]
    fn a_grpc_backend_has_one_pair_and_one_variable() {
        let named = [
            ("KAT_BACKEND_TYPE", "grpc_echo"),
            ("BACKEND_8080", "a"),
            ("BACKEND_8443", "a"),
        ];
        assert!(offsets(&named).is_empty());
        let variables = [
            named[0],
            ("BACKEND", "b"),
            ("BACKEND_8081", "c"),
            ("BACKEND_8444", "c"),
        ];
        assert_eq!(offsets(&variables), [(0, "b".to_owned())]);
    }

    #[test]
    fn an_unknown_kind_is_http() {
        let variables = [
            ("KAT_BACKEND_TYPE", "grpc_none"),
            ("BACKEND_8080", "a"),
            ("BACKEND_8443", "a"),
        ];
        assert_eq!(offsets(&variables), [(0, "a".to_owned())]);
    }

    #[test]
    fn a_health_check_server_has_one_pair() {
        let variables = [
            ("KAT_BACKEND_TYPE", "health_check_server"),
            ("BACKEND", "a"),
            ("BACKEND_8081", "b"),
            ("BACKEND_8444", "b"),
        ];
        assert_eq!(offsets(&variables), [(0, "a".to_owned())]);
    }
}
