//! A real Envoy on a real ADS stream, and its answers.

use std::{fs, time::Duration};

use anyhow::Result;
use nuncio_xds::{
    ads::{Metrics, Server, Settings},
    bootstrap::{Bootstrap, MAX_CONNECTIONS, Target},
    cache::{self, Update, Writer},
    fleet::{Fleet, Protocol},
};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

use super::{
    finding::{Finding, What},
    pipeline::Resources,
};
use crate::{control_plane::page, process::Process, wait::until, workspace::tool};

/// Longest wait for an answer of Envoy.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses that no batch uses.
const ADMIN: &str = "127.0.0.9:29001";
const XDS: &str = "127.0.0.9:0";

/// An Envoy with a control plane.
pub(super) struct Gateway {
    writer: Writer,
    fleet: Fleet,
    told: Resources,
    server: JoinHandle<()>,
    envoy: Process,
    _folder: tempfile::TempDir,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Gateway {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(XDS).await?;
        let xds = listener.local_addr()?;
        let (mut writer, cache) = cache::channel();
        let fleet = Fleet::new();
        let settings = Settings {
            removal_grace: Duration::ZERO,
            ..Settings::default()
        };
        let metrics = Metrics::new(&mut Registry::default());
        let server = Server::new(cache, fleet.clone(), settings, metrics);
        let server = tokio::spawn(async move {
            let _ = server.serve(listener, std::future::pending()).await;
        });
        let bootstrap = Bootstrap {
            node_id: "fuzz".to_owned(),
            cluster: "fuzz".to_owned(),
            ambassador_id: None,
            zone: None,
            xds: Target::Tcp {
                host: xds.ip().to_string(),
                port: xds.port(),
            },
            admin: ADMIN.parse()?,
            ready: None,
            protocol: Protocol::Delta,
            tls: None,
            max_heap_bytes: None,
            max_connections: MAX_CONNECTIONS,
            statsd: None,
        };
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("bootstrap.json");
        fs::write(&path, bootstrap.to_json().to_string())?;
        let path = path.display().to_string();
        let arguments = [
            "-c",
            &path,
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--drain-time-s",
            "1",
            "--log-level",
            "error",
        ];
        let envoy = Process::start("envoy-fuzz", &tool("envoy")?, arguments, &[])?;
        writer.apply(Update::default());
        until("Envoy", || async { page(ADMIN, "/ready").await.map(drop) }).await?;
        Ok(Self {
            writer,
            fleet,
            told: Resources::new(),
            server,
            envoy,
            _folder: folder,
        })
    }

    /// Sends Envoy exactly these resources, and waits for its answers.
    pub(super) async fn show(&mut self, resources: &Resources) -> Result<Vec<Finding>> {
        let removals = self.told.keys().filter(|key| !resources.contains_key(*key));
        let update = Update {
            upserts: resources.values().cloned().collect(),
            removals: removals.map(|(kind, name)| (*kind, name.clone())).collect(),
            ..Update::default()
        };
        self.told.clone_from(resources);
        let seq = self.writer.apply(update);
        let settled = timeout(PATIENCE, self.settled(seq)).await;
        if !self.envoy.is_running() {
            let log = fs::read_to_string(&self.envoy.log).unwrap_or_default();
            let lines: Vec<&str> = log
                .lines()
                .filter(|line| line.contains("critical"))
                .collect();
            let message = lines[lines.len().saturating_sub(8)..].join("\n");
            *self = Self::start().await?;
            return Ok(vec![Finding::new(What::Died, "", message)]);
        }
        let mut findings = self.rejected();
        if findings.is_empty() && !matches!(settled, Ok(Ok(()))) {
            let waiting = self
                .waiting()
                .await
                .unwrap_or_else(|error| format!("{error:#}"));
            findings.push(Finding::new(What::Silent, "", waiting));
        }
        Ok(findings)
    }

    /// Waits until Envoy has answered everything and has no listener that is warming.
    async fn settled(&self, seq: u64) -> Result<()> {
        loop {
            self.acknowledged(seq).await?;
            // new listeners request route tables
            let waits = page(ADMIN, "/stats?filter=total_listeners_warming").await?;
            self.acknowledged(seq).await?;
            if waits.trim().ends_with(" 0") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn acknowledged(&self, seq: u64) -> Result<()> {
        let mut changes = self.fleet.subscribe_acknowledged();
        while !self
            .fleet
            .state()
            .envoys
            .iter()
            .any(|envoy| envoy.acked >= seq)
        {
            changes.changed().await?;
        }
        Ok(())
    }

    fn rejected(&self) -> Vec<Finding> {
        let rejections = self.fleet.rejections().into_iter();
        rejections
            .filter(|rejection| !rejection.message.contains("cannot bind"))
            .map(|rejection| {
                // a name may be anything: it is not part of the reason
                let message = rejection.message.replace(&*rejection.name, "NAME");
                Finding::new(What::Rejected, &rejection.kind.to_string(), message)
            })
            .collect()
    }

    async fn waiting(&self) -> Result<String> {
        let stats = page(ADMIN, "/stats?filter=warming").await?;
        let waiting: Vec<&str> = stats.lines().filter(|line| !line.ends_with(" 0")).collect();
        Ok(format!(
            "{} {:?}",
            waiting.join(", "),
            self.fleet.state().envoys
        ))
    }
}
