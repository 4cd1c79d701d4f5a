//! A steady load that counts what is lost.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use rustls::{ClientConfig, client::Resumption};
use tokio::task::JoinHandle;

use super::{Answer, Connection, Http2Connection};

/// A steady load on one path, about two hundred requests a second.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<Count>,
    task: JoinHandle<Vec<String>>,
}

#[derive(Debug, Default)]
struct Count {
    requests: AtomicU64,
    connections: AtomicU64,
}

/// Number of requests and connections so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Number of requests.
    pub requests: u64,
    /// Number of connections, one after the other. A new one is opened when the server has closed the last.
    pub connections: u64,
}

/// A connection of a load.
trait Carrier: Send + 'static {
    /// One GET; `None` if the connection accepts no more requests.
    fn carry(
        &mut self,
        host: &str,
        path: &str,
    ) -> impl Future<Output = Result<Option<Answer>>> + Send;

    /// Whether the server has announced that it accepts no more requests.
    fn is_over(&self) -> bool;
}

impl Carrier for Connection {
    async fn carry(&mut self, host: &str, path: &str) -> Result<Option<Answer>> {
        self.get(host, path).await.map(Some)
    }

    fn is_over(&self) -> bool {
        self.is_over
    }
}

impl Carrier for Http2Connection {
    async fn carry(&mut self, host: &str, path: &str) -> Result<Option<Answer>> {
        self.get(host, path).await
    }

    fn is_over(&self) -> bool {
        self.is_over()
    }
}

impl Load {
    /// Starts it, on a connection that stays open. Every status other than 200 counts as lost.
    #[must_use]
    pub fn start(address: &str, host: &str, path: &str) -> Self {
        let address = address.to_owned();
        Self::run(host, path, true, move || {
            let address = address.clone();
            async move { Connection::open(&address).await }
        })
    }

    /// Starts it, with a new connection for each request.
    #[must_use]
    pub fn start_connections(address: &str, host: &str, path: &str) -> Self {
        let address = address.to_owned();
        Self::run(host, path, false, move || {
            let address = address.clone();
            async move { Connection::open(&address).await }
        })
    }

    /// Starts it, on a connection with TLS that stays open.
    #[must_use]
    pub fn start_tls(address: &str, host: &str, path: &str, config: ClientConfig) -> Self {
        Self::run_tls(address, host, path, true, config)
    }

    /// Starts it, on a connection with HTTP/2 that stays open.
    #[must_use]
    pub fn start_http2(address: &str, host: &str, path: &str, config: ClientConfig) -> Self {
        let (address, name) = (address.to_owned(), host.to_owned());
        Self::run(host, path, true, move || {
            let (address, name, config) = (address.clone(), name.clone(), config.clone());
            async move { Http2Connection::open(&address, &name, config).await }
        })
    }

    /// Starts it, with a new connection and a full handshake for each request.
    #[must_use]
    pub fn start_handshakes(
        address: &str,
        host: &str,
        path: &str,
        mut config: ClientConfig,
    ) -> Self {
        config.resumption = Resumption::disabled();
        Self::run_tls(address, host, path, false, config)
    }

    fn run_tls(address: &str, host: &str, path: &str, stays: bool, config: ClientConfig) -> Self {
        let (address, name, config) = (address.to_owned(), host.to_owned(), Arc::new(config));
        Self::run(host, path, stays, move || {
            let (address, name, config) = (address.clone(), name.clone(), config.clone());
            async move { Connection::open_tls(&address, &name, config).await }
        })
    }

    fn run<C: Carrier, F: Future<Output = Result<C>> + Send>(
        host: &str,
        path: &str,
        stays: bool,
        open: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(Count::default()));
        let (stopped, counted) = (stop.clone(), count.clone());
        let (host, path) = (host.to_owned(), path.to_owned());
        let task = tokio::spawn(async move {
            let mut lost = Vec::new();
            let mut connection = None;
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) && number < 10_000_000 {
                if let Err(error) = once(&mut connection, &open, &counted, &host, &path).await {
                    lost.push(format!("request {number}: {error:#}"));
                    connection = None;
                }
                number = counted.requests.fetch_add(1, Ordering::Relaxed) + 1;
                connection = connection.filter(|_| stays);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            lost
        });
        Self { stop, count, task }
    }

    /// What has been sent so far.
    #[must_use]
    pub fn sent(&self) -> Sent {
        Sent {
            requests: self.count.requests.load(Ordering::Relaxed),
            connections: self.count.connections.load(Ordering::Relaxed),
        }
    }

    /// Stops it, and returns why each lost request was lost.
    ///
    /// # Errors
    /// It panicked.
    pub async fn stop(self) -> Result<(Sent, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sent();
        Ok((sent, self.task.await?))
    }

    /// Stops it.
    ///
    /// # Errors
    /// Requests were lost, or too few were sent.
    pub async fn finish(self) -> Result<Sent> {
        let (sent, lost) = self.stop().await?;
        ensure!(
            lost.is_empty(),
            "{} of {} requests were lost: {}",
            lost.len(),
            sent.requests,
            lost[..lost.len().min(3)].join("; ")
        );
        ensure!(
            sent.requests > 20,
            "only {} requests were sent",
            sent.requests
        );
        Ok(sent)
    }
}

/// Two steady loads on one path: one on a connection that stays open, and one with new connections.
#[derive(Debug)]
pub struct Loads([Load; 2]);

impl Loads {
    /// Starts both. Every status other than 200 counts as lost.
    #[must_use]
    pub fn start(address: &str, host: &str, path: &str) -> Self {
        Self([
            Load::start(address, host, path),
            Load::start_connections(address, host, path),
        ])
    }

    /// Stops both.
    ///
    /// # Errors
    /// Requests of one were lost, or too few were sent.
    pub async fn finish(self) -> Result<()> {
        for load in self.0 {
            load.finish().await?;
        }
        Ok(())
    }
}

async fn once<C: Carrier, F: Future<Output = Result<C>>>(
    connection: &mut Option<C>,
    open: impl Fn() -> F,
    count: &Count,
    host: &str,
    path: &str,
) -> Result<()> {
    loop {
        let opened = match connection {
            Some(opened) => opened,
            None => {
                count.connections.fetch_add(1, Ordering::Relaxed);
                connection.insert(open().await?)
            }
        };
        let answer = opened.carry(host, path).await?;
        if opened.is_over() || answer.is_none() {
            *connection = None;
        }
        match answer {
            Some(answer) if answer.status == 200 => return Ok(()),
            Some(answer) => bail!("status {}", answer.status),
            None => {}
        }
    }
}
