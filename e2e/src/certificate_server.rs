//! A certificate server like that of the control plane, for Envoy pods without a cluster: it signs for every token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::TlsAcceptor;

use crate::certificate::Authority;

/// A running certificate server. It stops when dropped.
#[derive(Debug)]
pub struct CertificateServer {
    task: JoinHandle<()>,
    issued: Arc<AtomicU64>,
}

impl CertificateServer {
    /// Signs certificates that are valid for this long.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(
        (ip, port): (&str, u16),
        authority: Arc<Authority>,
        lifetime: Duration,
    ) -> Result<Self> {
        let own = authority.issue(&[ip])?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![own.der()?], own.key_der()?)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((ip, port))
            .await
            .with_context(|| format!("cannot listen on {ip}:{port}"))?;
        let issued = Arc::<AtomicU64>::default();
        let counter = issued.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, authority) = (acceptor.clone(), authority.clone());
                let counter = counter.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let counter = counter.clone();
                        let authority = authority.clone();
                        async move {
                            let response = sign(request, &authority, lifetime).await;
                            counter.fetch_add(response.is_ok().into(), Ordering::Relaxed);
                            response
                        }
                    });
                    let stream = TokioIo::new(acceptor.accept(stream).await?);
                    http1::Builder::new()
                        .serve_connection(stream, service)
                        .await?;
                    anyhow::Ok(())
                });
            }
        });
        Ok(Self { task, issued })
    }

    /// Number of certificates so far.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.issued.load(Ordering::Relaxed)
    }
}

impl Drop for CertificateServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sign(
    request: Request<Incoming>,
    authority: &Authority,
    lifetime: Duration,
) -> Result<Response<String>> {
    let body = request.into_body().collect().await?.to_bytes();
    let body: Value = serde_json::from_slice(&body)?;
    let csr = body["csr"].as_str().context("no request for signing")?;
    let certificate = authority.sign_request(csr, lifetime)?;
    let response = json!({"certificate": certificate, "ca": authority.pem()});
    Ok(Response::new(response.to_string()))
}
