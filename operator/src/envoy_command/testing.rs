//! A certificate server for tests, which signs or answers as it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::{Html, IntoResponse as _, Response},
    routing::post,
};
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType,
    IsCa, KeyPair,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// A certificate for this long.
    Sign(Duration),
    /// A certificate for another key.
    SignOther,
    /// An error of the protocol.
    Reject(&'static str),
    /// A page of something that is not the control plane.
    Html(StatusCode),
    /// No response.
    Hang,
}

pub(super) struct CertificateServer {
    pub(super) address: SocketAddr,
    /// The authority that signs, PEM.
    pub(super) ca: String,
    shared: Arc<Shared>,
}

struct Shared {
    issuer: CertifiedIssuer<'static, KeyPair>,
    reply: Mutex<Reply>,
    /// Tokens and requests for signing so far.
    seen: Mutex<Vec<(String, String)>>,
}

impl CertificateServer {
    pub(super) async fn start(reply: Reply) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "the authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let chain = vec![own.signed_by(&key, &issuer).unwrap().der().clone()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            ca: issuer.pem(),
            shared: Arc::new(Shared {
                issuer,
                reply: Mutex::new(reply),
                seen: Mutex::default(),
            }),
        };
        let router = Router::new()
            .route("/v1/certificates", post(answer))
            .with_state(server.shared.clone());
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let service = TowerToHyperService::new(router);
                        let served = http1::Builder::new();
                        let _ = served.serve_connection(TokioIo::new(stream), service).await;
                    }
                });
            }
        });
        server
    }

    pub(super) fn reply(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    /// Tokens of the requests so far.
    pub(super) fn tokens(&self) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().map(|(token, _)| token.clone()).collect()
    }

    /// Bodies of the requests so far.
    pub(super) fn bodies(&self) -> Vec<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().map(|(_, body)| body.clone()).collect()
    }

    pub(super) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.shared.issuer.der().clone()).unwrap();
        roots
    }
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: String) -> Response {
    let body: Value = serde_json::from_str(&body).unwrap();
    let token = headers[AUTHORIZATION].to_str().unwrap().to_owned();
    shared.seen.lock().unwrap().push((token, body.to_string()));
    let reply = shared.reply.lock().unwrap().clone();
    let csr = CertificateSigningRequestParams::from_pem(body["csr"].as_str().unwrap()).unwrap();
    let certificate = match reply {
        Reply::Sign(lifetime) => {
            let mut csr = csr;
            csr.params.not_before = (SystemTime::now() - Duration::from_secs(25 * 3600)).into();
            csr.params.not_after = (SystemTime::now() + lifetime).into();
            csr.signed_by(&shared.issuer).unwrap().pem()
        }
        Reply::SignOther => {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(Vec::new()).unwrap();
            params.signed_by(&key, &shared.issuer).unwrap().pem()
        }
        Reply::Reject(error) => {
            return (StatusCode::FORBIDDEN, json!({"error": error}).to_string()).into_response();
        }
        Reply::Html(status) => {
            return (status, Html("<html>\n<title>Welcome</title></html>")).into_response();
        }
        Reply::Hang => std::future::pending().await,
    };
    let body = json!({"certificate": certificate, "ca": shared.issuer.pem()});
    body.to_string().into_response()
}
