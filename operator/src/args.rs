//! The command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use nuncio_xds::bootstrap::Target;

use crate::{render_command::Format, telemetry::LogFormat};

/// A Kubernetes-native API gateway: a control plane for Envoy that speaks the resources of Emissary-ingress.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Try it:
  nuncio demo --envoy ./envoy            a gateway with two backends, without a cluster
  nuncio render manifests/               what Envoy would be told, and what is wrong with the manifests
  nuncio serve manifests/ --envoy ./envoy
  nuncio operator                        in a cluster, or with KUBECONFIG"
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How log lines are written; which ones is up to RUST_LOG, such as `RUST_LOG=nuncio=debug`
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Configures Envoys from the resources of a cluster, and writes back what is served
    #[command(
        after_help = "The cluster is that of KUBECONFIG, or the one that this runs in. Environment: AMBASSADOR_ID, \
AMBASSADOR_NAMESPACE, AMBASSADOR_SINGLE_NAMESPACE, AMBASSADOR_LABEL_SELECTOR, AMBASSADOR_FIELD_SELECTOR, \
AMBASSADOR_ENVOY_BIND_ADDRESS, AMBASSADOR_ISTIO_SECRET_DIR, DISABLE_STRICT_LABEL_SELECTORS, POD_NAME.

Example:
  KUBECONFIG=~/.kube/config nuncio operator --context staging"
    )]
    Operator {
        /// Context of the kubeconfig
        #[arg(long)]
        context: Option<String>,
        /// Ports and certificates.
        #[command(flatten)]
        servers: Servers,
    },
    /// Configures Envoys from the manifests in a directory, and follows edits
    #[command(after_help = "Example:
  nuncio serve manifests/ --envoy ./envoy
  curl localhost:8080/")]
    Serve {
        /// Directory with *.yaml, *.yml and *.json files
        directory: PathBuf,
        /// Ports and certificates.
        #[command(flatten)]
        servers: Servers,
        /// An Envoy to run beside it.
        #[command(flatten)]
        envoy: EnvoyArguments,
    },
    /// Prints what Envoy would be told by the manifests in a directory, and a report for each object
    #[command(
        after_help = "The exit status is 1 when an object is not served as it is written, so that it can stand in CI.

Example:
  nuncio render manifests/ -o json | jq .reports"
    )]
    Render {
        /// Directory with *.yaml, *.yml and *.json files
        directory: PathBuf,
        /// How it is written
        #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
        output: Format,
    },
    /// Prints a bootstrap with which an Envoy finds the control plane
    #[command(after_help = "Example:
  nuncio bootstrap --xds nuncio.example:8003 > bootstrap.yaml
  envoy --config-path bootstrap.yaml")]
    Bootstrap(BootstrapArguments),
    /// Runs a gateway with two backends on this machine, to try things out
    #[command(after_help = "Example:
  nuncio demo --envoy ./envoy
  curl localhost:8080/hello/")]
    Demo {
        /// The Envoy to run
        #[arg(long)]
        envoy: PathBuf,
        /// Directory with manifests to use in place of those built in
        #[arg(long)]
        dir: Option<PathBuf>,
    },
    /// Becomes another program that ends with the process that has started this one
    #[command(hide = true)]
    Attached {
        /// Process id of that process
        parent: i32,
        /// What to become
        program: PathBuf,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Ports and certificates.
#[derive(Clone, Debug, Args)]
pub struct Servers {
    /// Where Envoys connect. Beyond loopback, with --xds-tls-… or --xds-insecure only
    #[arg(long, default_value = "127.0.0.1:8003")]
    pub xds_address: SocketAddr,
    /// Where health and metrics are served
    #[arg(long, default_value = "127.0.0.1:8877")]
    pub health_address: SocketAddr,
    /// Certificate chain of the server that Envoys connect to (PEM)
    #[arg(long, requires_all = ["xds_tls_key", "xds_tls_client_ca"])]
    pub xds_tls_cert: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, requires = "xds_tls_cert")]
    pub xds_tls_key: Option<PathBuf>,
    /// Certificates that those of Envoys are verified against (PEM)
    #[arg(long, requires = "xds_tls_cert")]
    pub xds_tls_client_ca: Option<PathBuf>,
    /// Serve Envoys beyond loopback without TLS: whoever can connect gets every certificate with its key
    #[arg(long)]
    pub xds_insecure: bool,
}

/// An Envoy to run.
#[derive(Clone, Debug, Args)]
pub struct EnvoyArguments {
    /// Envoy to run beside the control plane
    #[arg(long)]
    pub envoy: Option<PathBuf>,
    /// Where its admin interface listens
    #[arg(long, default_value = "127.0.0.1:8001")]
    pub envoy_admin_address: SocketAddr,
    /// Number of its worker threads [default: as many as cores]
    #[arg(long)]
    pub envoy_concurrency: Option<u32>,
    /// Seconds for which connections of what is gone are drained, and for which Envoy keeps what an update of a
    /// listener replaces: with thousands of Hosts that is much memory [default: Envoy's 600]
    #[arg(long, env = "AMBASSADOR_DRAIN_TIME", value_name = "SECONDS")]
    pub envoy_drain_time: Option<u32>,
}

/// What is different between Envoys.
#[derive(Clone, Debug, Args)]
pub struct BootstrapArguments {
    /// Where the control plane is
    #[arg(long, value_name = "HOST:PORT")]
    pub xds: Target,
    /// Name of this Envoy, unique in its fleet [default: POD_NAME, or the host name]
    #[arg(long, env = "POD_NAME", hide_env = true)]
    pub node_id: Option<String>,
    /// Name of the fleet
    #[arg(long, default_value = "nuncio")]
    pub cluster: String,
    /// Where Envoy's admin interface listens
    #[arg(long, default_value = "127.0.0.1:8001")]
    pub admin_address: SocketAddr,
    /// Where /ready and /stats/prometheus are served
    #[arg(long)]
    pub ready_address: Option<SocketAddr>,
    /// Variant of the xDS protocol
    #[arg(long, value_enum, default_value_t = ProtocolArgument::Delta)]
    pub protocol: ProtocolArgument,
    /// How it is written
    #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
    pub output: Format,
    /// Certificates that the control plane's is verified against (PEM, where Envoy runs)
    #[arg(long, requires_all = ["xds_cert", "xds_key"])]
    pub xds_ca: Option<PathBuf>,
    /// Envoy's certificate chain (PEM, where Envoy runs)
    #[arg(long, requires = "xds_ca")]
    pub xds_cert: Option<PathBuf>,
    /// Envoy's private key (PEM, where Envoy runs)
    #[arg(long, requires = "xds_ca")]
    pub xds_key: Option<PathBuf>,
    /// Bytes of memory that Envoy should stay below
    #[arg(long)]
    pub max_heap_bytes: Option<u64>,
}

/// Variant of the xDS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolArgument {
    /// Incremental
    Delta,
    /// State of the world
    Sotw,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn arguments_of_an_attached_program_are_left_to_it() {
        let line = [
            "nuncio",
            "attached",
            "7",
            "/envoy",
            "--config-path",
            "x",
            "--help",
        ];
        let Command::Attached { arguments, .. } = Arguments::parse_from(line).command else {
            panic!("another command")
        };
        assert_eq!(arguments, ["--config-path", "x", "--help"]);
    }

    #[test]
    fn tls_for_envoys_is_all_or_nothing() {
        let line = ["nuncio", "operator", "--xds-tls-cert", "a"];
        assert!(Arguments::try_parse_from(line).is_err());
        let line = ["nuncio", "operator", "--xds-tls-key", "a"];
        assert!(
            Arguments::try_parse_from(line).is_err(),
            "a key without a certificate is ignored"
        );
    }
}
