//! The command line.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
};

use anyhow::ensure;
use clap::{Args, Parser, Subcommand, ValueEnum};
use nuncio_core::reconcile::Name;
use nuncio_xds::{
    ads::EnvoyVersion,
    bootstrap::{MAX_CONNECTIONS, Target},
    socket::Address,
};

use crate::{
    apiext::{ApiextArguments, HELP as APIEXT_HELP},
    envoy_command::arguments::{EnvoyPod, HELP as ENVOY_HELP},
    identity::EnvoyAccount,
    migrate_storage::{HELP as MIGRATE_STORAGE_HELP, MigrateStorageArguments},
    render_command::Format,
    telemetry::LogFormat,
};

/// Port of the certificate server.
const CERTIFICATE_PORT: u16 = 8004;

/// Kubernetes-native API gateway: a control plane for Envoy that serves Emissary-ingress resources
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    after_help = "Examples:
  nuncio demo --envoy ./envoy              Try a gateway with two backends on this machine
  nuncio render manifests/                 Check manifests and print the configuration for Envoy
  nuncio serve manifests/ --envoy ./envoy  Serve manifests without a cluster
  nuncio operator                          Serve a cluster

RUST_LOG sets what is logged [default: info], such as RUST_LOG=nuncio=debug."
)]
pub struct Arguments {
    /// What to run.
    #[command(subcommand)]
    pub command: Command,
    /// Format of log lines, on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t = LogFormat::Text,
        help_heading = "Logging"
    )]
    pub log_format: LogFormat,
}

/// What to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Configure Envoys from the resources of a cluster and write back their status
    #[command(
        after_help = "The cluster is that of the kubeconfig, or the one that the process runs in.

Environment:
  KUBECONFIG                      Path of the kubeconfig
  POD_NAME                        Identity in leader election [default: host name and process ID]
  AMBASSADOR_ID                   Serve the objects with this ambassador_id; with several, separated by commas, each to the
                                  Envoys that name it [default: default]
  AMBASSADOR_NAMESPACE            Namespace of the gateway; its Leases are there [default: default]
  AMBASSADOR_SINGLE_NAMESPACE     Watch AMBASSADOR_NAMESPACE only, if set to any value
  AMBASSADOR_LABEL_SELECTOR       Watch the objects that match this label selector only
  AMBASSADOR_FIELD_SELECTOR       Watch the getambassador.io objects that match this field selector only
  AMBASSADOR_KNATIVE_SUPPORT      If true, serve the Ingresses of Knative, too
  AMBASSADOR_ENVOY_BIND_ADDRESS   IP address that Envoy's listeners bind to [default: 0.0.0.0]
  AMBASSADOR_ISTIO_SECRET_DIR     Directory of Istio's key.pem and cert-chain.pem, read as Secret istio-certs
  AMBASSADOR_CONFIG_DIR           Directory of *.yaml files with flat documents, served until the cluster has been listed
                                  [default: ambassador-config in AMBASSADOR_CONFIG_BASE_DIR]
  AMBASSADOR_CONFIG_BASE_DIR      Directory of others [default: /ambassador]
  DISABLE_STRICT_LABEL_SELECTORS  If true, a selector matches when one of its labels does

Examples:
  nuncio operator --context staging
  nuncio operator --xds-address 0.0.0.0:8003 --envoy-service-account gateway/envoy
  nuncio operator --xds-address 0.0.0.0:8003 --xds-tls-cert tls.crt --xds-tls-key tls.key --xds-tls-client-ca ca.crt \\
    --xds-client-name spiffe://cluster.local/ns/gateway/sa/envoy
  AMBASSADOR_ID=red,blue nuncio operator --xds-address 0.0.0.0:8003 \\
    --envoy-service-account red/envoy=red --envoy-service-account blue/envoy=blue"
    )]
    Operator {
        /// The cluster and what is read beside it.
        #[command(flatten)]
        options: OperatorOptions,
        /// Addresses and certificates.
        #[command(flatten)]
        servers: Servers,
        /// Which pods may be Envoys.
        #[command(flatten)]
        identity: IdentityArguments,
    },
    /// Configure Envoys from the manifests in a directory and follow edits
    #[command(
        after_help = "Problems of objects are logged. The directory may also hold Services, EndpointSlices, Secrets and Namespaces.

Environment (see `nuncio operator --help`):
  AMBASSADOR_ID, AMBASSADOR_NAMESPACE, AMBASSADOR_SINGLE_NAMESPACE, AMBASSADOR_ENVOY_BIND_ADDRESS,
  AMBASSADOR_ISTIO_SECRET_DIR, DISABLE_STRICT_LABEL_SELECTORS

Example:
  nuncio serve manifests/ --envoy ./envoy
  curl localhost:8080/"
    )]
    Serve {
        /// Directory of *.yaml, *.yml and *.json files
        directory: PathBuf,
        /// Addresses and certificates.
        #[command(flatten)]
        servers: Servers,
        /// An Envoy to run as a child process.
        #[command(flatten)]
        envoy: EnvoyArguments,
    },
    /// Print the Envoy configuration of the manifests in a directory, and a report for each object
    #[command(after_help = "Exit status:
  0  every object is served as written
  1  an object has a problem, or the directory cannot be read

Examples:
  nuncio render manifests/ --output json | jq .reports
  nuncio render manifests/ >/dev/null || echo 'manifests have problems'")]
    Render {
        /// Directory of *.yaml, *.yml and *.json files
        directory: PathBuf,
        /// Output format
        #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
        output: Format,
    },
    /// Run an Envoy with a certificate of its own, as the process of an Envoy pod
    #[command(after_help = ENVOY_HELP)]
    Envoy(EnvoyPod),
    /// Print a bootstrap configuration for an Envoy that connects to the control plane
    #[command(after_help = "Example:
  nuncio bootstrap --xds nuncio.example:8003 > bootstrap.yaml
  envoy --config-path bootstrap.yaml")]
    Bootstrap(BootstrapArguments),
    /// Run a gateway with two backends on this machine
    #[command(
        after_help = "The gateway listens on port 8080 of the loopback interface.

Example:
  nuncio demo --envoy ./envoy
  curl localhost:8080/hello/"
    )]
    Demo {
        /// Path of the Envoy program
        #[arg(long, value_name = "FILE")]
        envoy: PathBuf,
        /// Directory of manifests to serve instead of the built-in ones
        #[arg(long, value_name = "DIRECTORY")]
        dir: Option<PathBuf>,
    },
    /// Run a backend that answers each request with its name and the request, to try a gateway
    #[command(after_help = "Example:
  nuncio echo --name hello --address 127.0.0.1:9001")]
    Echo {
        /// Name of the backend in its answers
        #[arg(long, value_name = "NAME", default_value = "echo")]
        name: String,
        /// Address to listen on
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9001")]
        address: SocketAddr,
    },
    /// Run the webhook that converts objects between API versions for the apiserver
    #[command(after_help = APIEXT_HELP)]
    Apiext(ApiextArguments),
    /// Store objects again in the storage version of their definitions, so that older API versions can be removed
    #[command(after_help = MIGRATE_STORAGE_HELP)]
    MigrateStorage(MigrateStorageArguments),
    /// Run a program that exits with its parent (internal)
    #[command(hide = true)]
    Attached {
        /// Process ID of the parent
        parent: i32,
        /// Path of the program
        program: PathBuf,
        /// Arguments of the program
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// The cluster that is served, and what is read beside it.
#[derive(Clone, Debug, Args)]
pub struct OperatorOptions {
    /// Context of the kubeconfig [default: its current context]
    #[arg(long)]
    pub context: Option<String>,
    /// If there is no Listener, create http on port 8080 and https on port 8443 in AMBASSADOR_NAMESPACE
    #[arg(long)]
    pub default_listeners: bool,
    /// Service whose addresses, and for Knative whose name, the status of Ingresses shows [default: the one with the label
    /// app.kubernetes.io/component: ambassador-service in AMBASSADOR_NAMESPACE]
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = service_name)]
    pub ingress_service: Option<Name>,
    /// Serve the Ingresses of Knative, too; the same as AMBASSADOR_KNATIVE_SUPPORT=true
    #[arg(long)]
    pub knative: bool,
    /// Serve rules of Knative with visibility ClusterLocal only by Hosts whose mappingSelector.matchLabels has
    /// networking.knative.dev/visibility: cluster-local [default: all Hosts serve them, as in Emissary]
    #[arg(long)]
    pub knative_local_hosts: bool,
    /// Directory of *.yaml files with manifests that come before those of the cluster, if it exists
    #[arg(
        long,
        value_name = "DIRECTORY",
        default_value = "/ambassador/init-config"
    )]
    pub init_config: PathBuf,
}

/// Addresses and certificates of the servers.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Servers")]
pub struct Servers {
    /// Address of the xDS server for Envoys, or unix:PATH. Beyond loopback `nuncio operator` signs certificates for Envoys
    /// itself, unless --xds-tls-cert or --xds-insecure is set; `nuncio serve` needs one of them [default: 127.0.0.1:8003; with
    /// --envoy a private Unix socket]
    #[arg(long, value_name = "IP:PORT")]
    pub xds_address: Option<Address>,
    /// Address of the server for health checks and metrics
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8877")]
    pub health_address: SocketAddr,
    /// Certificate chain of the xDS server (PEM file); needs --xds-tls-key and --xds-tls-client-ca
    #[arg(long, value_name = "FILE", requires_all = ["xds_tls_key", "xds_tls_client_ca"])]
    pub xds_tls_cert: Option<PathBuf>,
    /// Private key of the xDS server (PEM file)
    #[arg(long, value_name = "FILE", requires = "xds_tls_cert")]
    pub xds_tls_key: Option<PathBuf>,
    /// Certificate authorities that verify the client certificates of Envoys (PEM file)
    #[arg(long, value_name = "FILE", requires = "xds_tls_cert")]
    pub xds_tls_client_ca: Option<PathBuf>,
    /// URI or DNS name that a client certificate must have, if --xds-tls-client-ca is set; repeatable. Required beyond loopback,
    /// and with the IDs of its Envoys if AMBASSADOR_ID has several
    #[arg(long, value_name = "NAME[=ID,...]", requires = "xds_tls_client_ca")]
    pub xds_client_name: Vec<String>,
    /// Serve xDS beyond loopback without TLS; every client that connects gets all private keys
    #[arg(long)]
    pub xds_insecure: bool,
    /// Seconds, ± 20 %, after which a connection of an Envoy is closed, so that Envoys spread over replicas; they reconnect
    /// and get only what has changed. 0: no limit
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub xds_max_connection_age: u64,
    /// Oldest minor version of Envoy that counts. What any counted Envoy rejects or does not know is served to none; older
    /// Envoys are served, but are not counted in status, and what they reject or do not know has no effect
    #[arg(long, value_name = "VERSION", default_value_t = EnvoyVersion::OLDEST)]
    pub min_envoy_version: EnvoyVersion,
}

/// Which pods may be Envoys.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Identity of Envoys")]
pub struct IdentityArguments {
    /// Address of the server that signs certificates for Envoys, for pods that show their ServiceAccount token; also signs if
    /// --xds-address is on loopback [default: port 8004 of --xds-address]
    #[arg(long, value_name = "IP:PORT", conflicts_with_all = ["xds_tls_cert", "xds_insecure"])]
    pub certificate_address: Option<SocketAddr>,
    /// ServiceAccount whose pods may be Envoys; repeatable. Required, and with the IDs of its Envoys, if AMBASSADOR_ID has
    /// several [default: nuncio-envoy in AMBASSADOR_NAMESPACE]
    #[arg(
        long = "envoy-service-account",
        value_name = "NAMESPACE/NAME[=ID,...]",
        conflicts_with_all = ["xds_tls_cert", "xds_insecure"]
    )]
    pub envoy_service_accounts: Vec<EnvoyAccount>,
}

impl IdentityArguments {
    /// Address of the certificate server; `None`: there is none, because other certificates or none are used.
    ///
    /// # Errors
    /// ServiceAccounts are set, but no certificates are signed.
    pub fn address(&self, servers: &Servers) -> anyhow::Result<Option<SocketAddr>> {
        if servers.xds_tls_cert.is_some() || servers.xds_insecure {
            return Ok(None);
        }
        let beyond_loopback = match servers.xds_address() {
            Address::Tcp(address) if !address.ip().is_loopback() => {
                Some(SocketAddr::new(address.ip(), CERTIFICATE_PORT))
            }
            Address::Tcp(_) | Address::Unix(_) => None,
        };
        let address = self.certificate_address.or(beyond_loopback);
        ensure!(
            address.is_some() || self.envoy_service_accounts.is_empty(),
            "--envoy-service-account has no effect, because clients of --xds-address {} need no certificate: set \
             --certificate-address, or an --xds-address beyond loopback",
            servers.xds_address()
        );
        Ok(address)
    }
}

impl Servers {
    /// Address of the xDS server.
    #[must_use]
    pub fn xds_address(&self) -> Address {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 8003));
        self.xds_address.clone().unwrap_or(loopback.into())
    }

    /// Ports on which whoever connects needs no certificate.
    #[must_use]
    pub fn open_ports(&self) -> BTreeSet<u16> {
        let xds = self.xds_address().port();
        let mut ports = BTreeSet::from([self.health_address.port()]);
        ports.extend(xds.filter(|_| self.xds_tls_cert.is_none()));
        ports.remove(&0); // chosen later, and by nobody who could know it
        ports
    }
}

/// An Envoy to run.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Envoy")]
pub struct EnvoyArguments {
    /// Path of an Envoy program to run as a child process
    #[arg(long, value_name = "FILE")]
    pub envoy: Option<PathBuf>,
    /// Address of Envoy's admin interface, or unix:PATH; whoever connects can stop Envoy [default: a private Unix socket]
    #[arg(long, value_name = "IP:PORT")]
    pub envoy_admin_address: Option<Address>,
    /// Address of Envoy's /ready and /stats/prometheus
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8006")]
    pub envoy_ready_address: SocketAddr,
    /// Number of Envoy's worker threads [default: number of cores]
    #[arg(long, value_name = "NUMBER")]
    pub envoy_concurrency: Option<u32>,
    /// Seconds for which Envoy drains connections of a removed or replaced listener; it keeps the old listener in memory
    /// until then [default: 600]
    #[arg(long, env = "AMBASSADOR_DRAIN_TIME", value_name = "SECONDS")]
    pub envoy_drain_time: Option<u32>,
    /// Heap limit in bytes: Envoy frees memory from 90 % of it on, and rejects requests from 98 % on [default: 90 % of the
    /// memory of the container or machine]
    #[arg(long, value_name = "BYTES")]
    pub envoy_max_heap_bytes: Option<u64>,
    /// Maximum number of connections from clients, on all ports together; further ones are closed at once [default: 50000,
    /// or half of the file descriptors that Envoy may have]
    #[arg(long, env = "NUNCIO_ENVOY_MAX_CONNECTIONS", value_name = "NUMBER")]
    pub envoy_max_connections: Option<NonZeroU32>,
}

/// What differs between Envoys.
#[derive(Clone, Debug, Args)]
pub struct BootstrapArguments {
    /// Address of the control plane's xDS server, or unix:PATH
    #[arg(long, value_name = "HOST:PORT")]
    pub xds: Target,
    /// Name of this Envoy, unique among the Envoys of the control plane [default: POD_NAME, or the host name with a random
    /// suffix]
    #[arg(long, value_name = "NAME", env = "POD_NAME", hide_env = true)]
    pub node_id: Option<String>,
    /// Name of the group of Envoys that this one belongs to (node.cluster)
    #[arg(long, value_name = "NAME", default_value = "nuncio")]
    pub cluster: String,
    /// ID of the instance whose objects Envoy serves (ambassador_id in the metadata of the node)
    #[arg(long, value_name = "NAME", env = "AMBASSADOR_ID", hide_env = true)]
    pub ambassador_id: Option<String>,
    /// Address of Envoy's admin interface, unix:PATH or IP:PORT; @ at the start of a path means an abstract socket. A service
    /// of a Mapping can reach a TCP port, and stop Envoy
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "unix:@nuncio-envoy-admin"
    )]
    pub admin_address: Address,
    /// Address of a listener for /ready and /stats/prometheus [default: none]
    #[arg(long, value_name = "IP:PORT")]
    pub ready_address: Option<SocketAddr>,
    /// Variant of the xDS protocol
    #[arg(long, value_enum, default_value_t = ProtocolArgument::Delta)]
    pub protocol: ProtocolArgument,
    /// Output format
    #[arg(short, long, value_enum, default_value_t = Format::Yaml)]
    pub output: Format,
    /// Certificate authorities that verify the xDS server (path of a PEM file on Envoy's machine); needs --xds-cert and
    /// --xds-key
    #[arg(long, value_name = "FILE", requires_all = ["xds_cert", "xds_key"])]
    pub xds_ca: Option<PathBuf>,
    /// Client certificate chain of Envoy (path of a PEM file on Envoy's machine)
    #[arg(long, value_name = "FILE", requires = "xds_ca")]
    pub xds_cert: Option<PathBuf>,
    /// Private key of Envoy (path of a PEM file on Envoy's machine)
    #[arg(long, value_name = "FILE", requires = "xds_ca")]
    pub xds_key: Option<PathBuf>,
    /// Heap limit in bytes: Envoy frees memory from 90 % of it on, and rejects requests from 98 % on [default: none]
    #[arg(long, value_name = "BYTES")]
    pub max_heap_bytes: Option<u64>,
    /// Maximum number of connections from clients, on all ports together; further ones are closed at once, except to
    /// --ready-address and to the admin interface. Envoy aborts without file descriptors, so allow it at least twice as many
    #[arg(long, value_name = "NUMBER", default_value_t = MAX_CONNECTIONS)]
    pub max_connections: NonZeroU32,
}

/// Variant of the xDS protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProtocolArgument {
    /// Incremental xDS
    Delta,
    /// State of the world
    Sotw,
}

/// A Service as `NAMESPACE/NAME`.
fn service_name(text: &str) -> Result<Name, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => Ok(Name {
            namespace: namespace.into(),
            name: name.into(),
        }),
        _ => Err("must be NAMESPACE/NAME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn arguments_of_an_attached_program_are_passed_on() {
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
    fn ports_without_authentication_are_known() {
        let ports = |line: &[&str]| {
            let line = ["nuncio", "operator"].iter().chain(line);
            let Command::Operator { servers, .. } = Arguments::parse_from(line).command else {
                panic!("another command")
            };
            servers.open_ports()
        };
        assert_eq!(ports(&[]), [8003, 8877].into());
        assert_eq!(ports(&["--xds-address", "unix:/xds"]), [8877].into());
        assert_eq!(ports(&["--health-address", "[::]:0"]), [8003].into());
        let tls = [
            "--xds-tls-cert",
            "c",
            "--xds-tls-key",
            "k",
            "--xds-tls-client-ca",
            "a",
        ];
        assert_eq!(ports(&tls), [8877].into());
    }

    #[test]
    fn certificates_are_signed_beyond_loopback_unless_others_are_used() {
        let address = |line: &[&str]| {
            let line = ["nuncio", "operator"].iter().chain(line);
            let Command::Operator {
                servers, identity, ..
            } = Arguments::parse_from(line).command
            else {
                panic!("another command")
            };
            let address = identity.address(&servers)?;
            anyhow::Ok(address.map(|address| address.to_string()))
        };
        let account = ["--envoy-service-account", "gateway/envoy"];
        let error = address(&account).unwrap_err().to_string();
        assert!(
            error.contains("has no effect") && error.contains("127.0.0.1:8003"),
            "{error}"
        );
        let address = |line: &[&str]| address(line).unwrap();
        assert_eq!(address(&[]), None);
        assert_eq!(address(&["--xds-address", "unix:/xds"]), None);
        let beyond = ["--xds-address", "0.0.0.0:1"];
        assert_eq!(address(&beyond).as_deref(), Some("0.0.0.0:8004"));
        let other = ["--certificate-address", "127.0.0.1:7"];
        assert_eq!(address(&other).as_deref(), Some("127.0.0.1:7"));
        let both = [other.as_slice(), &account].concat();
        assert_eq!(address(&both).as_deref(), Some("127.0.0.1:7"));
        assert_eq!(
            address(&[beyond.as_slice(), &["--xds-insecure"]].concat()),
            None
        );
    }

    #[test]
    fn tls_for_envoys_is_all_or_nothing() {
        let line = ["nuncio", "operator", "--xds-tls-cert", "a"];
        assert!(Arguments::try_parse_from(line).is_err());
        let line = ["nuncio", "operator", "--xds-tls-key", "a"];
        assert!(
            Arguments::try_parse_from(line).is_err(),
            "a key without a certificate"
        );
    }
}
