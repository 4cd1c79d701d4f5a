//! TLS between the two, HTTP/2 by negotiation, and what each reports about it.

use std::sync::Arc;

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use nuncio_kat::{
    certificate::Authority,
    client,
    server::{Http, Listen, Server},
};
use rustls::{ClientConfig, RootCertStore, pki_types::pem::PemObject as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::result;

/// A backend with a certificate for these names, and its authority.
async fn serve(names: &[&str]) -> Result<(Server, String, Authority)> {
    let authority = Authority::new()?;
    let listen = Listen::default().tls("127.0.0.1:0", authority.issue(names)?);
    let server = Server::start(&listen, Http::new("first").router()).await?;
    let address = server.tls_address()?.to_string();
    Ok((server, address, authority))
}

fn pem(authority: &Authority) -> String {
    let der = BASE64_STANDARD.encode(authority.der());
    let lines: Vec<_> = der
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[tokio::test]
async fn a_name_is_asked_for_and_http2_negotiated() -> Result<()> {
    let (_server, address, authority) = serve(&["example.com"]).await?;
    let result = result(json!({
        "url": format!("https://{address}/"),
        "headers": {"Host": "example.com"},
        "sni": true,
        "ca_cert": pem(&authority),
    }))
    .await?;
    assert_eq!(result.get("error"), None);
    let request = &result["json"]["request"];
    assert_eq!(
        request["tls"],
        json!({
            "enabled": true,
            "negotiated-protocol": "h2",
            "server-name": "example.com",
            "negotiated-protocol-version": "v1.3",
        })
    );
    assert_eq!(request["host"], "example.com");
    assert_eq!(request["url"]["host"], "");
    assert_eq!(request["url"]["scheme"], "");
    assert_eq!(result["tls_version"], 772);
    assert!(
        result["cipher_suite"]
            .as_u64()
            .is_some_and(|suite| suite >> 8 == 0x13)
    );
    let certificate = &result["tls"][0];
    assert_eq!(certificate["DNSNames"], json!(["example.com"]));
    assert_eq!(certificate["IsCA"], false);
    assert_eq!(certificate["PublicKeyAlgorithm"], 3);
    assert_eq!(certificate["SignatureAlgorithm"], 10);
    assert_eq!(certificate["NotBefore"], "1975-01-01T00:00:00Z");
    // authorities of tests are numbered
    let issuer = &certificate["Issuer"]["CommonName"];
    assert!(
        issuer
            .as_str()
            .is_some_and(|name| name.starts_with("Authority "))
    );
    let name = json!({"Type": [2, 5, 4, 3], "Value": issuer});
    assert_eq!(certificate["Issuer"]["Names"], json!([name]));
    Ok(())
}

#[tokio::test]
async fn a_long_body_comes_back_in_a_header_of_http2() -> Result<()> {
    let (_server, address, _) = serve(&["example.com"]).await?;
    let body = "long ".repeat(20_000);
    let encoded = BASE64_STANDARD.encode(&body);
    let url = format!("https://{address}/");
    let query = json!({"url": url, "insecure": true, "method": "POST", "body": encoded});
    let result = result(query).await?;
    assert_eq!(
        result["json"]["request"]["tls"]["negotiated-protocol"],
        "h2"
    );
    let header = result["headers"]["Kat-Resp-Http-Request-Body"][0].as_str();
    assert_eq!(header.map(str::trim_end), Some(body.trim_end()));
    Ok(())
}

/// The body of a GET by a client that offers no protocols, unlike `kat-client`.
async fn get_without_negotiation(address: &str, host: &str, from: &Authority) -> Result<Bytes> {
    let mut roots = RootCertStore::empty();
    roots.add(from.der())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(
            host.to_owned().try_into()?,
            TcpStream::connect(address).await?,
        )
        .await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/").header(header::HOST, host);
    let response = sender
        .send_request(request.body(Empty::<Bytes>::new())?)
        .await?;
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender);
    connection.await??;
    Ok(body)
}

#[tokio::test]
async fn http1_without_negotiation_is_served_too() -> Result<()> {
    let (_server, address, authority) = serve(&["example.com"]).await?;
    let body = get_without_negotiation(&address, "example.com", &authority).await?;
    let said: Value = serde_json::from_slice(&body)?;
    assert_eq!(said["request"]["tls"]["negotiated-protocol"], "");
    assert_eq!(said["request"]["tls"]["server-name"], "example.com");
    Ok(())
}

#[tokio::test]
async fn versions_and_suites_are_chosen() -> Result<()> {
    let (_server, address, _) = serve(&["example.com"]).await?;
    let query = |fields: Value| {
        let mut query = json!({"url": format!("https://{address}/"), "insecure": true});
        query
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        query
    };
    let suites = ["TLS_NONE", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"];
    let old = result(query(json!({"maxTLSv": "v1.2", "cipherSuites": suites}))).await?;
    assert_eq!(old["tls_version"], 771);
    assert_eq!(old["cipher_suite"], 0xC02B);
    assert_eq!(
        old["json"]["request"]["tls"]["negotiated-protocol-version"],
        "v1.2"
    );
    // an address is no name to ask for
    assert_eq!(old["json"]["request"]["tls"]["server-name"], "");
    let none = result(query(json!({"maxTLSv": "v1.1"}))).await?;
    assert!(
        none["error"]
            .as_str()
            .is_some_and(|error| error.contains("no supported version"))
    );
    assert_eq!(none.get("status"), None);
    Ok(())
}

#[tokio::test]
async fn trust_is_checked_unless_the_query_is_insecure() -> Result<()> {
    let (_server, address, authority) = serve(&["example.com"]).await?;
    let url = format!("https://{address}/");
    let trusted = pem(&authority);
    let stranger = pem(&Authority::new()?);
    let host = json!({"Host": "example.com"});
    for (query, word) in [
        (
            json!({"url": url}),
            "certificate signed by unknown authority",
        ),
        (
            json!({"url": url, "ca_cert": trusted}),
            "certificate is not valid for the name",
        ),
        (
            json!({"url": url, "ca_cert": trusted, "headers": host}),
            "certificate is not valid for the name",
        ),
        (
            json!({"url": url, "ca_cert": stranger, "headers": host, "sni": true}),
            "certificate signed by unknown authority",
        ),
        (
            json!({"url": url, "ca_cert": "none", "headers": host, "sni": true}),
            "certificate signed by unknown authority",
        ),
    ] {
        let result = result(query.clone()).await?;
        let error = result["error"].as_str().unwrap_or_default();
        assert!(error.contains(word), "{query}: {result}");
    }
    let insecure = result(json!({"url": url, "insecure": true})).await?;
    assert_eq!(insecure["status"], 200);
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_reaches_a_server_that_asks() -> Result<()> {
    let authority = Authority::new()?;
    let address = verifying(&authority).await?;
    let client = authority.issue(&["client"])?;
    let mut query = json!({"url": format!("https://{address}/"), "insecure": true});
    let without = result(query.clone()).await?;
    let error = without["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("remote error: tls: certificate required"),
        "{without}"
    );
    query["client_cert"] = client.chain.into();
    query["client_key"] = client.key.into();
    let with = result(query.clone()).await?;
    assert_eq!(with["text"], "welcome", "{with}");
    query["client_key"] = authority.issue(&["other"])?.key.into();
    assert!(
        client::run(vec![query], 1).await.is_err(),
        "a key of another certificate"
    );
    Ok(())
}

/// A server that welcomes clients with a certificate of this authority.
async fn verifying(authority: &Authority) -> Result<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let own = authority.issue(&["server"])?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der())?;
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()?;
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![rustls::pki_types::CertificateDer::from_pem_slice(
                own.chain.as_bytes(),
            )?],
            rustls::pki_types::PrivateKeyDer::from_pem_slice(own.key.as_bytes())?,
        )?;
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_ok() {
                let answer =
                    b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nwelcome";
                drop(stream.write_all(answer).await);
                drop(stream.shutdown().await);
            }
        }
    });
    Ok(address)
}
