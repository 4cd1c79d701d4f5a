//! `kat-server`: backends that answer with what they received, over HTTP/1.1 and HTTP/2, with and without TLS.
//!
//! A backend is a [`Router`]; a [`Server`] gives it addresses:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use nuncio_kat::server::{Http, Listen, Server};
//! let server = Server::start(&Listen::on("127.0.0.1:0"), Http::new("first").router()).await?;
//! println!("{}", server.address()?);
//! # Ok(())
//! # }
//! ```

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::Router;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{certificate::Certificate, wait::until};

mod connection;
pub mod environment;
mod grpc_als;
mod grpc_auth;
mod grpc_echo;
mod grpc_rls;
mod health_check;
mod http;
mod request;
mod response;
mod tls;
mod traces;
mod version;
mod websocket;

pub use self::{
    grpc_als::GrpcAls, grpc_auth::GrpcAuth, grpc_echo::GrpcEcho, grpc_rls::GrpcRls,
    health_check::HealthCheck, http::Http, traces::Traces, version::ApiVersion,
};

/// Addresses to listen on; port 0 is any free one.
#[derive(Clone, Debug, Default)]
pub struct Listen {
    clear: Option<String>,
    tls: Option<(String, Certificate)>,
}

impl Listen {
    /// Clear text on `address`.
    #[must_use]
    pub fn on(address: impl Into<String>) -> Self {
        Self {
            clear: Some(address.into()),
            tls: None,
        }
    }

    /// TLS on `address`, with this certificate.
    #[must_use]
    pub fn tls(mut self, address: impl Into<String>, certificate: Certificate) -> Self {
        self.tls = Some((address.into(), certificate));
        self
    }
}

/// A running backend. Dropped, it ends, and so do its connections.
#[derive(Debug)]
pub struct Server {
    address: Option<SocketAddr>,
    tls_address: Option<SocketAddr>,
    listeners: JoinSet<()>,
    /// Websockets outlive the connection they came by; they end when this is gone.
    _running: watch::Sender<()>,
}

impl Server {
    /// Answers on the addresses with the backend.
    ///
    /// # Errors
    /// An address cannot be bound, or the certificate is invalid.
    pub async fn start(listen: &Listen, backend: Router) -> Result<Self> {
        let (running, stopped) = watch::channel(());
        let mut server = Self {
            address: None,
            tls_address: None,
            listeners: JoinSet::new(),
            _running: running,
        };
        if let Some(address) = &listen.clear {
            let listener = bind(address).await?;
            server.address = Some(listener.local_addr()?);
            let accept = connection::accept(listener, None, backend.clone(), stopped.clone());
            server.listeners.spawn(accept);
        }
        if let Some((address, certificate)) = &listen.tls {
            let acceptor = TlsAcceptor::from(tls::config(certificate)?);
            let listener = bind(address).await?;
            server.tls_address = Some(listener.local_addr()?);
            let accept = connection::accept(listener, Some(acceptor), backend, stopped);
            server.listeners.spawn(accept);
        }
        Ok(server)
    }

    /// Where it listens for clear text.
    ///
    /// # Errors
    /// It does not.
    pub fn address(&self) -> Result<SocketAddr> {
        self.address.context("the server has no clear-text address")
    }

    /// Where it listens for TLS.
    ///
    /// # Errors
    /// It does not.
    pub fn tls_address(&self) -> Result<SocketAddr> {
        self.tls_address.context("the server has no TLS address")
    }
}

/// Binds, with patience: a server that has just ended may still hold the address.
async fn bind(address: &str) -> Result<TcpListener> {
    let what = format!("the address {address}");
    until(&what, || async { Ok(TcpListener::bind(address).await?) }).await
}
