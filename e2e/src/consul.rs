//! A real Consul agent: one server that is its own cluster, on a loopback address of its own, with data that survives its
//! end.

use std::{fs, net::Ipv4Addr};

use anyhow::{Result, ensure};
use http::Request;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{process::Process, wait::until, workspace::tool};

/// An agent, and how tests talk to it.
#[derive(Debug)]
pub struct Consul {
    name: String,
    folder: tempfile::TempDir,
    token: String,
    /// Where its API is, without TLS.
    pub http: String,
    /// Where its API is with TLS, if it has a certificate.
    pub https: String,
    /// The process.
    pub process: Process,
}

impl Consul {
    /// Starts an agent of a datacenter on this address, with more configuration, and waits until it has a leader. `token`
    /// is sent with the requests of tests.
    ///
    /// # Errors
    /// It cannot be started, or does not become ready.
    pub async fn start(
        datacenter: &str,
        address: Ipv4Addr,
        more: Value,
        token: &str,
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut configuration = json!({
            "server": true,
            "bootstrap": true,
            "datacenter": datacenter,
            "node_name": format!("node-{datacenter}"),
            "bind_addr": address,
            "client_addr": address,
            "data_dir": folder.path().join("data"),
            "ports": {"https": 8501, "grpc": -1, "grpc_tls": -1, "dns": -1},
            "connect": {"enabled": false},
            "performance": {"raft_multiplier": 1},
            "disable_update_check": true,
            "log_level": "warn",
        });
        if let (Some(configuration), Value::Object(more)) = (configuration.as_object_mut(), more) {
            configuration.extend(more);
        }
        let file = folder.path().join("agent.json");
        fs::write(&file, configuration.to_string())?;
        let name = format!("consul-{datacenter}");
        let mut consul = Self {
            process: run(&name, &folder)?,
            name,
            folder,
            token: token.to_owned(),
            http: format!("{address}:8500"),
            https: format!("{address}:8501"),
        };
        consul.ready().await?;
        Ok(consul)
    }

    /// Starts it again with its data.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill();
        self.process = run(&self.name, &self.folder)?;
        self.ready().await
    }

    /// Stops it for a while: connections stay open, and nothing is answered.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Ends [`Consul::pause`].
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    async fn ready(&mut self) -> Result<()> {
        until("a leader of Consul", || async {
            let (status, leader) = self.request("GET", "/v1/status/leader", "").await?;
            ensure!(status == 200 && leader.len() > 4, "{status} {leader}");
            // the catalog accepts writes
            let node = json!({"Node": "ready", "Address": "127.0.0.1"}).to_string();
            let (status, text) = self.request("PUT", "/v1/catalog/register", &node).await?;
            ensure!(status == 200, "{status} {text}");
            Ok(())
        })
        .await
    }

    /// Sends a request to its API; the status and the body.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn request(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let stream = TcpStream::connect(&self.http).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.http)
            .header("x-consul-token", &self.token)
            .body(body.to_owned())?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        connection.abort();
        Ok((
            head.status.as_u16(),
            String::from_utf8_lossy(&body).into_owned(),
        ))
    }

    async fn put(&self, path: &str, body: &Value) -> Result<()> {
        let (status, text) = self.request("PUT", path, &body.to_string()).await?;
        ensure!(status == 200, "{path}: {status} {text}");
        Ok(())
    }

    /// Registers an instance of a service, which passes its health check or does not. The catalog keeps it when the agent
    /// ends.
    ///
    /// # Errors
    /// The agent does not accept it.
    pub async fn register(&self, service: &str, address: &str, passes: bool) -> Result<()> {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "80"));
        let id = format!("{service}-{address}");
        let status = if passes { "passing" } else { "critical" };
        let body = json!({
            "Node": "elsewhere",
            "Address": "192.0.2.1",
            "Service": {"ID": id, "Service": service, "Address": host, "Port": port.parse::<u16>()?},
            "Check": {"CheckID": format!("{id}-check"), "ServiceID": id, "Status": status},
        });
        self.put("/v1/catalog/register", &body).await
    }

    /// Removes an instance.
    ///
    /// # Errors
    /// The agent does not accept it.
    pub async fn deregister(&self, service: &str, address: &str) -> Result<()> {
        let body = json!({"Node": "elsewhere", "ServiceID": format!("{service}-{address}")});
        self.put("/v1/catalog/deregister", &body).await
    }
}

fn run(name: &str, folder: &tempfile::TempDir) -> Result<Process> {
    let file = folder.path().join("agent.json").display().to_string();
    Process::start(
        name,
        &tool("consul")?,
        ["agent", "-config-file", &file],
        &[],
    )
}
