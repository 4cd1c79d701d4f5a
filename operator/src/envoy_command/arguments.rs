//! The options of `nuncio envoy`. Each is also an environment variable, so that a Deployment can be changed by a patch.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use anyhow::ensure;
use clap::Args;
use nuncio_xds::bootstrap::{Target, TlsFiles};

use crate::envoy;

/// Port of the certificate server, on the host of the xDS server.
const CERTIFICATE_PORT: u16 = 8004;

/// What `--help` ends with.
pub const HELP: &str = "\
What happens:
  start   A private key is made, and the control plane signs a certificate for this pod (--certificates, --ca, --token). Envoy
          starts with it and connects to --xds. /ready responds with 200 once Envoy has its first complete configuration;
          until then, its body is what is missing.
  run     Certificates are renewed and replaced without closing a connection. While the control plane is unavailable, Envoy
          keeps serving what it has. If Envoy exits, so does this process, with an error.
  stop    On SIGTERM /ready fails, and responses close their connections. After --drain-delay no connections are accepted any
          more. After open requests, or --drain-timeout, Envoy is stopped; a second SIGTERM stops it at once.

Set terminationGracePeriodSeconds of the pod to at least --drain-delay + --drain-timeout + 5.

HTTP paths on --listen:
  /ready    Readiness probe
  /alive    Liveness probe: fails if Envoy has not responded for a minute
  /metrics  Envoy's statistics and nuncio_envoy_* metrics; the query is passed on to Envoy, such as /metrics?usedonly

Examples:
  nuncio envoy                                                           In the Envoy pods of the kustomize directory
  nuncio envoy --xds xds.example:8003 --xds-cert tls.crt --xds-key tls.key --xds-ca ca.crt   With certificates of cert-manager
  nuncio envoy --xds 127.0.0.1:8003 --xds-insecure --envoy ./envoy       With a control plane on this machine";

/// An Envoy pod.
#[derive(Clone, Debug, Args)]
pub struct EnvoyPod {
    /// Address of the control plane's xDS server
    #[arg(
        long,
        env = "NUNCIO_XDS",
        hide_env_values = true,
        value_name = "HOST:PORT",
        default_value = "nuncio-xds:8003",
        help_heading = "Control plane"
    )]
    pub xds: Target,
    /// Address of the control plane's certificate server [default: port 8004 of the host of --xds]
    #[arg(
        long,
        env = "NUNCIO_CERTIFICATES",
        hide_env_values = true,
        value_name = "HOST:PORT",
        help_heading = "Control plane"
    )]
    pub certificates: Option<Target>,
    /// Certificate authorities that verify the control plane (PEM file); read again when it changes
    #[arg(
        long,
        env = "NUNCIO_CA",
        hide_env_values = true,
        value_name = "FILE",
        default_value = "/etc/nuncio/ca/ca.crt",
        help_heading = "Control plane"
    )]
    pub ca: PathBuf,
    /// Token of the pod's ServiceAccount for the audience nuncio-xds; read for each request
    #[arg(
        long,
        env = "NUNCIO_TOKEN",
        hide_env_values = true,
        value_name = "FILE",
        default_value = "/var/run/secrets/nuncio/token",
        help_heading = "Control plane"
    )]
    pub token: PathBuf,
    /// Client certificate chain that something else renews (PEM file), instead of one that the control plane signs; needs
    /// --xds-key and --xds-ca
    #[arg(
        long,
        env = "NUNCIO_XDS_CERT",
        hide_env_values = true,
        value_name = "FILE",
        requires_all = ["xds_key", "xds_ca"],
        help_heading = "Control plane"
    )]
    pub xds_cert: Option<PathBuf>,
    /// Private key of --xds-cert (PEM file)
    #[arg(
        long,
        env = "NUNCIO_XDS_KEY",
        hide_env_values = true,
        value_name = "FILE",
        requires = "xds_cert",
        help_heading = "Control plane"
    )]
    pub xds_key: Option<PathBuf>,
    /// Certificate authorities that verify the xDS server, with --xds-cert (PEM file)
    #[arg(
        long,
        env = "NUNCIO_XDS_CA",
        hide_env_values = true,
        value_name = "FILE",
        requires = "xds_cert",
        help_heading = "Control plane"
    )]
    pub xds_ca: Option<PathBuf>,
    /// Connect without TLS, to a control plane with --xds-insecure
    #[arg(
        long,
        env = "NUNCIO_XDS_INSECURE",
        hide_env_values = true,
        conflicts_with = "xds_cert",
        help_heading = "Control plane"
    )]
    pub xds_insecure: bool,
    /// Who this Envoy is.
    #[command(flatten)]
    pub node: NodeArguments,
    /// How Envoy runs.
    #[command(flatten)]
    pub process: ProcessArguments,
    /// How it stops.
    #[command(flatten)]
    pub drain: DrainArguments,
}

/// Who an Envoy is.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Node")]
pub struct NodeArguments {
    /// Name of the pod; with the namespace it is Envoy's node ID, NAME.NAMESPACE [default: host name]
    #[arg(long, env = "POD_NAME", hide_env_values = true, value_name = "NAME")]
    pub pod_name: Option<String>,
    /// Namespace of the pod
    #[arg(
        long,
        env = "POD_NAMESPACE",
        hide_env_values = true,
        value_name = "NAMESPACE",
        default_value = "default"
    )]
    pub pod_namespace: String,
    /// ID of the instance whose objects Envoy serves [default: that of the control plane, if it has one for this Envoy]
    #[arg(
        long,
        env = "AMBASSADOR_ID",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub ambassador_id: Option<String>,
    /// Namespace of the gateway, for the name of the fleet (node.cluster): AMBASSADOR_ID or "ambassador", a hyphen, and the
    /// namespace [default: namespace of the pod]
    #[arg(
        long,
        env = "AMBASSADOR_NAMESPACE",
        hide_env_values = true,
        value_name = "NAMESPACE"
    )]
    pub ambassador_namespace: Option<String>,
}

/// How an Envoy runs.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Envoy")]
pub struct ProcessArguments {
    /// Path of the Envoy program
    #[arg(
        long,
        env = "NUNCIO_ENVOY",
        hide_env_values = true,
        value_name = "FILE",
        default_value = "/usr/local/bin/envoy"
    )]
    pub envoy: PathBuf,
    /// Directory for Envoy's files and sockets, and for the certificate; made private to this user [default: a new one in
    /// /run/nuncio or the directory for temporary files]
    #[arg(
        long,
        env = "NUNCIO_DIRECTORY",
        hide_env_values = true,
        value_name = "DIRECTORY"
    )]
    pub directory: Option<PathBuf>,
    /// Address of /ready, /alive and /metrics [default: port 8006 of all addresses]
    #[arg(
        long,
        env = "NUNCIO_LISTEN",
        hide_env_values = true,
        value_name = "IP:PORT"
    )]
    pub listen: Option<SocketAddr>,
    /// Number of Envoy's worker threads [default: number of cores]
    #[arg(
        long,
        env = "NUNCIO_CONCURRENCY",
        hide_env_values = true,
        value_name = "NUMBER"
    )]
    pub concurrency: Option<u32>,
    /// Heap limit in bytes: Envoy frees memory from 90 % of it on, and rejects requests from 98 % on [default: 90 % of the
    /// memory of the container]
    #[arg(
        long,
        env = "NUNCIO_MAX_HEAP_BYTES",
        hide_env_values = true,
        value_name = "BYTES"
    )]
    pub max_heap_bytes: Option<u64>,
    /// Maximum number of connections from clients, on all ports together; further ones are closed at once [default: 50000,
    /// or half of the file descriptors that Envoy may have]
    #[arg(
        long,
        env = "NUNCIO_ENVOY_MAX_CONNECTIONS",
        hide_env_values = true,
        value_name = "NUMBER"
    )]
    pub max_connections: Option<NonZeroU32>,
}

/// How an Envoy stops.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Draining")]
pub struct DrainArguments {
    /// Seconds from SIGTERM until no connections are accepted any more: load balancers must notice within this time that the
    /// pod is not ready
    #[arg(
        long,
        env = "NUNCIO_DRAIN_DELAY",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value_t = 5
    )]
    pub drain_delay: u32,
    /// Seconds that requests may take after that, including websockets and TCP connections
    #[arg(
        long,
        env = "NUNCIO_DRAIN_TIMEOUT",
        hide_env_values = true,
        value_name = "SECONDS",
        default_value_t = 20
    )]
    pub drain_timeout: u32,
    /// Seconds for which Envoy drains connections of a removed or replaced listener while it runs [default: 600]
    #[arg(
        long,
        env = "AMBASSADOR_DRAIN_TIME",
        hide_env_values = true,
        value_name = "SECONDS"
    )]
    pub drain_time: Option<u32>,
}

/// Where the certificates of the connection to the control plane come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// The connection has no TLS.
    None,
    /// Something else renews these files.
    Files(TlsFiles),
    /// The control plane signs them.
    Requested {
        /// Host and port of the certificate server.
        server: (String, u16),
        /// File of its certificate authorities.
        ca: PathBuf,
        /// File of the token.
        token: PathBuf,
    },
}

impl EnvoyPod {
    /// Where certificates come from.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub(super) fn identity(&self) -> anyhow::Result<Identity> {
        let Target::Tcp { host, .. } = &self.xds else {
            ensure!(
                self.xds_cert.is_none(),
                "--xds-cert has no effect with a Unix socket"
            );
            return Ok(Identity::None);
        };
        if self.xds_insecure {
            return Ok(Identity::None);
        }
        if let (Some(certificate), Some(key), Some(ca)) =
            (&self.xds_cert, &self.xds_key, &self.xds_ca)
        {
            return Ok(Identity::Files(TlsFiles {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }));
        }
        let server = match &self.certificates {
            None => (host.clone(), CERTIFICATE_PORT),
            Some(Target::Tcp { host, port }) => (host.clone(), *port),
            Some(Target::Unix(_)) => anyhow::bail!("--certificates must be HOST:PORT"),
        };
        Ok(Identity::Requested {
            server,
            ca: self.ca.clone(),
            token: self.token.clone(),
        })
    }
}

impl NodeArguments {
    /// `node.id`: the control plane signs certificates for pods, and compares.
    pub(super) fn id(&self) -> String {
        let name = self.pod_name.clone().unwrap_or_else(envoy::hostname);
        format!("{name}.{}", self.pod_namespace)
    }

    /// `node.cluster`, as Emissary names it.
    pub(super) fn cluster(&self) -> String {
        let id = self.ambassador_id.as_deref().unwrap_or("ambassador");
        let namespace = self.ambassador_namespace.as_ref();
        format!("{id}-{}", namespace.unwrap_or(&self.pod_namespace))
    }
}

impl DrainArguments {
    pub(super) fn delay(self) -> Duration {
        Duration::from_secs(self.drain_delay.into())
    }

    pub(super) fn timeout(self) -> Duration {
        Duration::from_secs(self.drain_timeout.into())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        pod: EnvoyPod,
    }

    fn parse(line: &[&str]) -> EnvoyPod {
        Line::parse_from(["envoy"].iter().chain(line)).pod
    }

    #[test]
    fn certificates_come_from_the_host_of_the_control_plane_unless_files_are_given() {
        let requested = |host: &str, port| Identity::Requested {
            server: (host.to_owned(), port),
            ca: "/etc/nuncio/ca/ca.crt".into(),
            token: "/var/run/secrets/nuncio/token".into(),
        };
        let identity = |line: &[&str]| parse(line).identity();
        assert_eq!(identity(&[]).unwrap(), requested("nuncio-xds", 8004));
        assert_eq!(
            identity(&["--xds", "a:1", "--certificates", "[::1]:2"]).unwrap(),
            requested("::1", 2)
        );
        assert_eq!(identity(&["--xds", "unix:/x"]).unwrap(), Identity::None);
        assert_eq!(identity(&["--xds-insecure"]).unwrap(), Identity::None);
        let files = ["--xds-cert", "c", "--xds-key", "k", "--xds-ca", "a"];
        assert!(matches!(identity(&files).unwrap(), Identity::Files(_)));
        assert!(identity(&["--certificates", "unix:/x"]).is_err());
        assert!(Line::try_parse_from(["envoy", "--xds-cert", "c"]).is_err());
    }

    #[test]
    fn the_node_is_named_after_the_pod_and_the_instance() {
        let pod = ["--pod-name", "a-1", "--pod-namespace", "edge"];
        let node = parse(&pod).node;
        assert_eq!(
            (node.id(), node.cluster()),
            ("a-1.edge".into(), "ambassador-edge".into())
        );
        let other = [
            "--ambassador-id",
            "blue",
            "--ambassador-namespace",
            "nuncio-system",
        ];
        let node = parse(&[&pod[..], &other].concat()).node;
        assert_eq!(node.cluster(), "blue-nuncio-system");
    }
}
