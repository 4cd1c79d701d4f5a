//! An Envoy process, and the state that its admin interface reports.

use std::{
    collections::BTreeMap,
    env, fs,
    future::Future,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nuncio_xds::{
    ResourceType,
    bootstrap::{Bootstrap, MAX_CONNECTIONS, Target},
    fleet::Protocol,
    socket::Address,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{http, server::TIMEOUT};

/// Path of Envoy.
pub(crate) fn program() -> Result<PathBuf> {
    let path = env::var_os("ENVOY").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/envoy"),
        PathBuf::from,
    );
    ensure!(
        path.is_file(),
        "{} is missing: run `make tools`, or set ENVOY",
        path.display()
    );
    Ok(path)
}

/// A free port of the loopback address.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// The bootstrap of an Envoy on loopback.
pub(crate) fn bootstrap(xds: SocketAddr, protocol: Protocol) -> Result<Bootstrap> {
    Ok(Bootstrap {
        node_id: "envoy".to_owned(),
        cluster: "test".to_owned(),
        ambassador_id: None,
        zone: None,
        xds: Target::Tcp {
            host: xds.ip().to_string(),
            port: xds.port(),
        },
        admin: free_address()?.into(),
        ready: Some(free_address()?),
        protocol,
        tls: None,
        max_heap_bytes: None,
        max_connections: MAX_CONNECTIONS,
        statsd: None,
    })
}

/// A resource in Envoy's config dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// The edition that [`crate::config`] wrote into the message.
    pub(crate) edition: String,
    /// Version, if Envoy reports it.
    pub(crate) version: Option<String>,
}

/// Envoy's resources, by type and name.
pub(crate) type Dump = BTreeMap<(ResourceType, String), Held>;

pub(crate) struct Envoy {
    process: Child,
    admin: SocketAddr,
    pub(crate) ready: SocketAddr,
    log: PathBuf,
    _folder: TempDir,
}

impl Envoy {
    /// Starts an Envoy, with a log file of this name.
    pub(crate) async fn start(name: &str, bootstrap: &Bootstrap) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("bootstrap.json");
        fs::write(&path, bootstrap.to_json().to_string())?;
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("envoy-{name}.log"));
        let mut process = Command::new(program()?)
            .arg("-c")
            .arg(&path)
            .args(["--concurrency", "1", "--disable-hot-restart"])
            .args(["--drain-time-s", "1", "--log-level", "info"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let Address::Tcp(admin) = bootstrap.admin else {
            bail!("the tests use the admin interface on TCP")
        };
        until("the admin interface responds", || async {
            http::get(admin, "/server_info").await.map(drop)
        })
        .await
        .with_context(|| format!("{:?}, see {}", process.try_wait(), log.display()))?;
        Ok(Self {
            process,
            admin,
            ready: bootstrap.ready.context("no address for readiness")?,
            log,
            _folder: folder,
        })
    }

    async fn admin(&self, path: &str) -> Result<String> {
        let (status, body) = http::get(self.admin, path)
            .await
            .with_context(|| format!("see Envoy's log {}", self.log.display()))?;
        ensure!(status == 200, "{path}: {status} {body}");
        Ok(body)
    }

    /// Value of a counter or gauge; 0 if it does not exist.
    pub(crate) async fn stat(&self, name: &str) -> Result<u64> {
        let text = self.admin(&format!("/stats?filter=^{name}$")).await?;
        match text.trim().rsplit_once(": ") {
            Some((_, value)) => Ok(value.parse()?),
            None => Ok(0),
        }
    }

    /// Waits until `/ready` answers 200.
    pub(crate) async fn becomes_ready(&self) -> Result<()> {
        until("Envoy is ready", || async {
            let (status, body) = http::get(self.ready, "/ready").await?;
            ensure!(status == 200, "{status} {body}");
            Ok(())
        })
        .await
    }

    /// Fails while any cluster or listener is warming.
    pub(crate) async fn is_warm(&self) -> Result<()> {
        for name in [
            "cluster_manager.warming_clusters",
            "listener_manager.total_listeners_warming",
        ] {
            let warming = self.stat(name).await?;
            ensure!(warming == 0, "{name} is {warming}");
        }
        Ok(())
    }

    /// Number of updates that Envoy has rejected, of all types.
    pub(crate) async fn rejected(&self) -> Result<u64> {
        let text = self.admin("/stats?filter=update_rejected").await?;
        let values = text.lines().filter_map(|line| line.rsplit_once(": "));
        values
            .map(|(_, value)| value.parse::<u64>().context("no number"))
            .sum()
    }

    /// All resources that Envoy has from ADS.
    pub(crate) async fn dump(&self) -> Result<Dump> {
        let dump: Value = serde_json::from_str(&self.admin("/config_dump?include_eds").await?)?;
        let mut held = Dump::new();
        for config in array(&dump["configs"]) {
            for entry in array(&config["dynamic_active_clusters"]) {
                let cluster = &entry["cluster"];
                let version = &entry["version_info"];
                add(
                    &mut held,
                    ResourceType::Cluster,
                    &cluster["name"],
                    &cluster["alt_stat_name"],
                    version,
                );
            }
            for entry in array(&config["dynamic_endpoint_configs"]) {
                let assignment = &entry["endpoint_config"];
                let edition = &assignment["endpoints"][0]["locality"]["sub_zone"];
                add(
                    &mut held,
                    ResourceType::Endpoints,
                    &assignment["cluster_name"],
                    edition,
                    &Value::Null,
                );
            }
            for entry in array(&config["dynamic_listeners"]) {
                let state = &entry["active_state"];
                let edition = &state["listener"]["stat_prefix"];
                add(
                    &mut held,
                    ResourceType::Listener,
                    &entry["name"],
                    edition,
                    &state["version_info"],
                );
            }
            for entry in array(&config["dynamic_route_configs"]) {
                let table = &entry["route_config"];
                let edition = &table["virtual_hosts"][0]["name"];
                add(
                    &mut held,
                    ResourceType::RouteTable,
                    &table["name"],
                    edition,
                    &entry["version_info"],
                );
            }
        }
        Ok(held)
    }

    /// Kills the process.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn add(held: &mut Dump, kind: ResourceType, name: &Value, edition: &Value, version: &Value) {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let entry = Held {
        edition: text(edition).unwrap_or_default(),
        version: text(version),
    };
    held.insert((kind, text(name).unwrap_or_default()), entry);
}

/// Retries until the attempt succeeds; on a timeout fails with the last error.
pub(crate) async fn until<T, F: Future<Output = Result<T>>>(
    what: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let end = Instant::now() + TIMEOUT;
    loop {
        match attempt().await {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > end => {
                bail!("timed out after {TIMEOUT:?} waiting until {what}: {error:#}")
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}
