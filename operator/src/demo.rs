//! `nuncio demo`: a gateway with two backends on this machine, without a cluster.

use std::{
    io::{Write as _, stdout},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::{
    args::{EnvoyArguments, Servers},
    echo,
    run::{self, Tasks},
};
use nuncio_core::settings::Settings;
use nuncio_xds::ads::EnvoyVersion;

/// The built-in manifests.
const SAMPLES: [(&str, &str); 3] = [
    (
        "listener.yaml",
        include_str!("../../config/samples/listener.yaml"),
    ),
    ("host.yaml", include_str!("../../config/samples/host.yaml")),
    (
        "mappings.yaml",
        include_str!("../../config/samples/mappings.yaml"),
    ),
];

/// The backends that the samples send requests to.
const BACKENDS: [(&str, u16); 2] = [("hello", 9001), ("quote", 9002)];

/// Runs the demo until it is interrupted.
///
/// # Errors
/// Ports that are taken, a directory that cannot be read, an Envoy that cannot be started.
pub async fn run(
    envoy: PathBuf,
    directory: Option<PathBuf>,
    settings: Settings,
) -> anyhow::Result<()> {
    anyhow::ensure!(
        envoy.is_file(),
        "no Envoy found at {} (`make demo` installs one)",
        envoy.display()
    );
    let settings = Settings {
        bind_address: Ipv4Addr::LOCALHOST.into(),
        ..settings
    };
    let samples = tempfile::tempdir()?;
    let directory = match directory {
        Some(directory) => directory,
        None => {
            for (name, text) in SAMPLES {
                std::fs::write(samples.path().join(name), text)?;
            }
            samples.path().to_owned()
        }
    };
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut tasks = Tasks::new();
    for (name, port) in BACKENDS {
        let listener = TcpListener::bind(loopback(port))
            .await
            .with_context(|| format!("backend {name} cannot listen on port {port}"))?;
        let stop = tasks.stop.clone();
        tasks.start("backend", async move {
            echo::serve(listener, name, stop.cancelled_owned())
                .await
                .map_err(Into::into)
        });
    }
    let servers = Servers {
        xds_address: None,
        health_address: loopback(8877),
        xds_tls_cert: None,
        xds_tls_key: None,
        xds_tls_client_ca: None,
        xds_client_name: Vec::new(),
        xds_insecure: false,
        xds_max_connection_age: 0,
        min_envoy_version: EnvoyVersion::OLDEST,
    };
    let envoy = EnvoyArguments {
        envoy: Some(envoy),
        envoy_admin_address: None,
        envoy_ready_address: loopback(8006),
        envoy_concurrency: Some(2),
        envoy_drain_time: None,
        envoy_max_heap_bytes: None,
        envoy_max_connections: None,
    };
    run::serve_in(&mut tasks, &directory, &servers, &envoy, settings.into()).await?;
    stdout().write_all(introduction(&directory).as_bytes())?;
    tasks.finish().await
}

fn introduction(directory: &Path) -> String {
    format!(
        "
The gateway listens on port 8080. In another terminal, try:

  curl http://localhost:8080/hello/world       the prefix is removed: the backend receives /world
  curl http://localhost:8080/quote/            one in five requests goes to the other backend
  curl http://localhost:8080/keep/this/path    the path is kept
  curl -i http://localhost:8080/nothing        no Mapping matches: 404

Edit the manifests and try again; changes take effect at once:

  {}

Print the configuration of Envoy, and the problems of the manifests:

  nuncio render {}

Press Ctrl-C to stop.

",
        directory.display(),
        directory.display()
    )
}
