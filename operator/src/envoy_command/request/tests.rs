use super::{
    super::testing::{CertificateServer, Reply},
    *,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn request(server: &CertificateServer) -> anyhow::Result<Issued> {
    let (host, port) = ("127.0.0.1", server.address.port());
    certificate((host, port), server.roots(), "secret").await
}

async fn error(server: &CertificateServer) -> String {
    format!("{:#}", request(server).await.unwrap_err())
}

#[tokio::test]
async fn a_certificate_is_signed_for_a_key_that_is_not_sent() {
    let server = CertificateServer::start(Reply::Sign(DAY)).await;
    let first = request(&server).await.unwrap();
    let second = request(&server).await.unwrap();
    assert_ne!(first.key, second.key);
    assert_eq!(first.ca, server.ca);
    assert_eq!(
        not_after(&first.chain, &first.key).unwrap(),
        first.not_after
    );
    assert!(
        first.lifetime <= DAY && first.lifetime > DAY - Duration::from_secs(60),
        "the time before its issue does not count: {:?}",
        first.lifetime
    );
    assert_eq!(server.tokens(), ["Bearer secret"; 2]);
    let sent = server.bodies().concat();
    assert!(sent.contains("BEGIN CERTIFICATE REQUEST") && !sent.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn an_error_says_what_the_control_plane_said() {
    let server = CertificateServer::start(Reply::Reject("the token is for another audience")).await;
    let error = error(&server).await;
    let address = server.address;
    assert_eq!(
        error,
        format!("certificate server {address}: 403 Forbidden: the token is for another audience")
    );
}

#[tokio::test]
async fn what_is_not_the_control_plane_is_quoted() {
    for status in [StatusCode::OK, StatusCode::BAD_GATEWAY] {
        let server = CertificateServer::start(Reply::Html(status)).await;
        let error = error(&server).await;
        let quoted = error.contains(r#"unexpected response "<html>\n<title>Welcome"#);
        assert!(quoted, "{error}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_key_and_an_expired_one_are_not_used() {
    let server = CertificateServer::start(Reply::SignOther).await;
    let other = error(&server).await;
    assert!(other.contains("not that of the certificate"), "{other}");
    server.reply(Reply::Sign(Duration::ZERO));
    let expired = error(&server).await;
    assert!(expired.contains("expired"), "{expired}");
}

#[tokio::test]
async fn a_control_plane_that_hangs_or_is_another_one_is_an_error_in_time() {
    let server = CertificateServer::start(Reply::Hang).await;
    let start = std::time::Instant::now();
    let hanging = error(&server).await;
    assert!(hanging.contains("no response within 10 s"), "{hanging}");
    assert!(start.elapsed() < TIMEOUT * 2);
    let other = CertificateServer::start(Reply::Sign(DAY)).await;
    let port = server.address.port();
    let error = certificate(("127.0.0.1", port), other.roots(), "secret").await;
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("invalid peer certificate"), "{error}");
    assert_eq!(server.tokens().len(), 1, "no token for an unknown server");
}
