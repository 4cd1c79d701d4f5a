use std::net::Ipv4Addr;

use rcgen::{CertificateParams, CertificateSigningRequest, IsCa, KeyPair};
use serde_json::Value;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::*;
use crate::identity::testing::{Apiserver, TestClock, verifies};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 7));

/// A server whose apiserver knows tokens of the form `SERVICEACCOUNT/POD`.
fn server(clock: &TestClock) -> Server {
    let apiserver = Apiserver::default();
    apiserver.review(|token| match token.split_once('/') {
        Some((account, pod)) => json!({"authenticated": true, "audiences": ["nuncio-xds"], "user": {
            "username": format!("system:serviceaccount:gateway:{account}"),
            "extra": {"authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [format!("uid-{pod}")]}
        }}),
        None => json!({"authenticated": false, "error": "invalid bearer token"}),
    });
    let authorities = Arc::new(Authorities::create(clock.now()).unwrap());
    let accounts = ["gateway/nuncio-envoy".parse().unwrap()].into();
    let receiver = watch::channel(Some(authorities)).1;
    let client = apiserver.client();
    Server::new(
        client,
        clock.clock(),
        receiver,
        accounts,
        Metrics::default(),
    )
}

fn csr() -> String {
    request(&CertificateParams::default(), &KeyPair::generate().unwrap())
        .pem()
        .unwrap()
}

fn request(params: &CertificateParams, key: &KeyPair) -> CertificateSigningRequest {
    params.serialize_request(key).unwrap()
}

fn post(token: Option<&str>, body: impl Into<body::Body>) -> Request {
    let mut request = axum::http::Request::post("/v1/certificates");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(body.into()).unwrap()
}

async fn ask(server: &Server, token: Option<&str>, csr: &str) -> Result<Value, (u16, String)> {
    let body = json!({"csr": csr}).to_string();
    answer(server, post(token, body)).await
}

async fn answer(server: &Server, request: Request) -> Result<Value, (u16, String)> {
    let response = server.sign(ADDRESS, request).await;
    let response = response.map_err(|rejection| (rejection.status.as_u16(), rejection.message))?;
    let bytes = body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    Ok(serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn the_date_of_a_response_is_that_of_the_clock() {
    let clock = TestClock::new();
    let server = server(&clock);
    for (days, date) in [
        (0, "Fri, 15 Jan 2027 08:00:00 GMT"),
        (-1, "Thu, 14 Jan 2027 08:00:00 GMT"),
    ] {
        clock.advance(SignedDuration::from_hours(24 * days));
        let body = json!({"csr": csr()}).to_string();
        let request = post(Some("nuncio-envoy/envoy-1"), body);
        let response = server.sign(ADDRESS, request).await.unwrap();
        assert_eq!(response.headers()[header::DATE], date);
    }
}

#[tokio::test]
async fn a_pod_gets_a_certificate_with_its_own_name_for_a_day() {
    let clock = TestClock::new();
    let server = server(&clock);
    let key = KeyPair::generate().unwrap();
    // whatever else is asked for
    let mut params = CertificateParams::new(vec!["nuncio-xds".to_owned()]).unwrap();
    let other = "spiffe://nuncio/ns/gateway/sa/nuncio-envoy/pod/envoy-2";
    params
        .subject_alt_names
        .push(SanType::URI(other.try_into().unwrap()));
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
    let csr = request(&params, &key).pem().unwrap();
    let answer = ask(&server, Some("nuncio-envoy/envoy-1"), &csr)
        .await
        .unwrap();

    let chain = answer["certificate"].as_str().unwrap();
    let (_, pem) = parse_x509_pem(chain.as_bytes()).unwrap();
    let (_, certificate) = parse_x509_certificate(&pem.contents).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let uri = "spiffe://nuncio/ns/gateway/sa/nuncio-envoy/pod/envoy-1";
    assert_eq!(names.value.general_names, [GeneralName::URI(uri)]);
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    assert_eq!(
        certificate.public_key().raw,
        rcgen::PublicKeyData::subject_public_key_info(&key)
    );

    let bundle = answer["ca"].as_str().unwrap();
    for (hours, is_valid) in [
        (0, true),
        (-24, true),
        (23, true),
        (25, false),
        (-26, false),
    ] {
        let at = clock.now() + SignedDuration::from_hours(hours);
        assert_eq!(verifies(chain, bundle, at), is_valid, "{hours}");
    }
}

#[tokio::test]
async fn requests_without_a_proper_token_get_nothing() {
    let server = server(&TestClock::new());
    let csr = csr();
    for (token, status, part) in [
        (
            None,
            401,
            "no token; send the ServiceAccount token of the pod",
        ),
        (Some(""), 401, "no token"),
        (
            Some("forged"),
            401,
            "rejected the token (invalid bearer token)",
        ),
        (
            Some("default/envoy-1"),
            403,
            "add --envoy-service-account gateway/default",
        ),
        (Some("nuncio-envoy/"), 403, "not bound to a pod"),
    ] {
        let (found, message) = ask(&server, token, &csr).await.unwrap_err();
        assert_eq!(found, status, "{message}");
        assert!(message.contains(part), "{message}");
        assert!(!message.contains("forged"), "{message}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_request_are_rejected_before_the_token_is_reviewed() {
    let server = server(&TestClock::new());
    // of another key
    let request = request(&CertificateParams::default(), &KeyPair::generate().unwrap());
    let mut der = request.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
    let forged =
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n");
    let csr = |text: &str| json!({"csr": text}).to_string();
    for (body, status, part) in [
        (String::new(), 400, "invalid body"),
        ("{}".to_owned(), 400, "invalid body"),
        (csr("x"), 400, "must be PEM"),
        (
            csr("-----BEGIN X-----\neHg=\n-----END X-----\n"),
            400,
            "must be a PKCS#10",
        ),
        (csr(&forged), 400, "not by its own key"),
        ("x".repeat(BODY + 1), 413, "longer than 16384 bytes"),
    ] {
        let request = post(Some("forged"), body);
        let (found, message) = answer(&server, request).await.unwrap_err();
        assert_eq!(found, status, "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn floods_are_limited_by_pod_and_by_address() {
    let server = server(&TestClock::new());
    let csr = csr();
    let mut limited = 0;
    for _ in 0..15 {
        if let Err((status, message)) = ask(&server, Some("nuncio-envoy/one"), &csr).await {
            assert_eq!(status, 429);
            assert!(message.contains("from this pod"), "{message}");
            limited += 1;
        }
    }
    assert_eq!(limited, 5);
    ask(&server, Some("nuncio-envoy/other"), &csr)
        .await
        .unwrap();
    for _ in 0..200 {
        let _ = ask(&server, None, "").await;
    }
    let (status, message) = ask(&server, Some("nuncio-envoy/third"), &csr)
        .await
        .unwrap_err();
    assert_eq!(status, 429);
    assert!(message.contains("from this address"), "{message}");
    // other addresses are not affected
    let body = json!({"csr": csr}).to_string();
    let other = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 8));
    let request = post(Some("nuncio-envoy/third"), body);
    assert!(server.sign(other, request).await.is_ok());
}

#[tokio::test]
async fn without_an_authority_clients_must_retry() {
    let clock = TestClock::new();
    let mut server = server(&clock);
    server.authorities = watch::channel(None).1;
    let (status, message) = ask(&server, Some("nuncio-envoy/one"), &csr())
        .await
        .unwrap_err();
    assert_eq!(status, 503);
    assert!(message.contains("retry later"), "{message}");
    let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    assert_eq!(rejection.headers()[header::RETRY_AFTER], "10");
}
