//! Client certificates: which clients each Host accepts.

use std::sync::Arc;

use anyhow::{Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::{Authority, Certificate, secret},
    client::{Connection, tls_config},
    wait::until,
};
use serde_json::{Value, json};

use crate::{
    Space,
    answer::{CONNECTIONS, answered, ask, closed, rejected, tls_query},
    fixture::{HTTPS, mapping, object, tls_host},
};

/// The query of a client that presents this certificate.
fn showing(mut query: Value, certificate: &Certificate) -> Value {
    query["client_cert"] = json!(certificate.chain);
    query["client_key"] = json!(certificate.key);
    query
}

/// A Secret with a list of revoked certificates.
fn list(space: &Space, name: &str, pem: &str) -> String {
    secret(&space.namespace, name, "Opaque", &[("crl.pem", pem)])
}

/// Alerts that rejected clients get, by reason.
const NO_CERTIFICATE: &str = "certificate required";
const STRANGER: &str = "unknown certificate authority";
const EXPIRED: &str = "expired certificate";
const REVOKED: &str = "revoked certificate";

pub(crate) async fn clients_are_let_in_by_their_certificates(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.41.1:80", "clients").await?;
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let good = authority.issue(&["good"])?;
    let expired = authority.issue_expired(&["expired"])?;
    let revoked = authority.issue(&["revoked"])?;
    let strange = stranger.issue(&["strange"])?;
    let mut manifests = vec![
        authority.secret(&space.namespace, "clients-ca"),
        list(space, "clients-crl", &authority.revoke(&[&revoked])?),
        object(
            "TLSContext",
            "clients",
            "ca_secret: clients-ca, crl_secret: clients-crl, cert_required: true",
        ),
        mapping("clients", "'*.clients.example'", "/", "10.96.41.1", ""),
    ];
    for (name, more) in [
        ("anyone", ""),
        (
            "optional",
            ", tls: {ca_secret: clients-ca, crl_secret: clients-crl}",
        ),
        (
            "off",
            ", tls: {ca_secret: clients-ca, cert_required: false}",
        ),
        (
            "required",
            ", tls: {ca_secret: clients-ca, cert_required: true}",
        ),
        (
            "listed",
            ", tls: {ca_secret: clients-ca, crl_secret: clients-crl, cert_required: true}",
        ),
        ("context", ", tlsContext: {name: clients}"),
    ] {
        let hostname = format!("{name}.clients.example");
        let secret = format!("clients-{name}");
        manifests.push(
            authority
                .issue(&[&hostname])?
                .secret(&space.namespace, &secret),
        );
        manifests.push(tls_host(&secret, &hostname, more));
    }
    space.apply(&manifests.concat())?;
    let good = Some(&good);
    let wrong = [
        (None, NO_CERTIFICATE),
        (Some(&strange), STRANGER),
        (Some(&expired), EXPIRED),
        (Some(&revoked), REVOKED),
    ];
    for (name, accepted) in [
        ("anyone", [true, true, true, true]),
        ("optional", [true, false, false, false]),
        ("off", [true, false, false, true]),
        ("required", [false, false, false, true]),
        ("listed", [false, false, false, false]),
        ("context", [false, false, false, false]),
    ] {
        let query = |certificate: Option<&Certificate>| {
            let query = tls_query(&format!("{name}.clients.example"), "/", &authority);
            certificate.map_or(query.clone(), |own| showing(query, own))
        };
        answered(&query(good), 200).await?;
        for ((certificate, reason), is_accepted) in wrong.into_iter().zip(accepted) {
            let answer = ask(query(certificate)).await?;
            let error = answer["error"].as_str().unwrap_or_default();
            ensure!(
                (is_accepted && answer["status"] == 200)
                    || (!is_accepted && error.contains(reason)),
                "{name}, {reason}: {answer}"
            );
        }
    }
    Ok(())
}

pub(crate) async fn whom_to_trust_is_followed(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.41.2:80", "trust").await?;
    let (first, second) = (Authority::new()?, Authority::new()?);
    let host = "trust.clients.example";
    let manifests = [
        first.issue(&[host])?.secret(&space.namespace, "trust"),
        first.secret(&space.namespace, "trust-ca"),
        tls_host(
            "trust",
            host,
            ", tls: {ca_secret: trust-ca, cert_required: true}",
        ),
        mapping("trust", host, "/", "10.96.41.2", ""),
    ];
    space.apply(&manifests.concat())?;
    let query = tls_query(host, "/", &first);
    let (old, new) = (
        showing(query.clone(), &first.issue(&["old"])?),
        showing(query, &second.issue(&["new"])?),
    );
    answered(&old, 200).await?;
    rejected(&new, STRANGER).await?;
    let both = [first.pem(), second.pem()].concat();
    space.apply(&secret(
        &space.namespace,
        "trust-ca",
        "Opaque",
        &[("tls.crt", &both)],
    ))?;
    answered(&new, 200).await?;
    answered(&old, 200).await?;
    space.apply(&second.secret(&space.namespace, "trust-ca"))?;
    rejected(&old, STRANGER).await?;
    answered(&new, 200).await?;
    // without it no client can be verified, so none is accepted
    space.delete("secret/trust-ca")?;
    closed(&new).await?;
    space.apply(&second.secret(&space.namespace, "trust-ca"))?;
    answered(&new, 200).await.map(drop)
}

pub(crate) async fn a_revoked_client_cannot_resume_its_session(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.41.3:80", "revoked").await?;
    let authority = Authority::new()?;
    let host = "revoked.clients.example";
    let client = authority.issue(&["client"])?;
    let manifests = [
        authority
            .issue(&[host])?
            .secret(&space.namespace, "revoked"),
        authority.secret(&space.namespace, "revoked-ca"),
        list(space, "revoked-crl", &authority.revoke(&[])?),
        tls_host(
            "revoked",
            host,
            ", tls: {ca_secret: revoked-ca, crl_secret: revoked-crl, cert_required: true}",
        ),
        mapping("revoked", host, "/", "10.96.41.3", ""),
    ];
    space.apply(&manifests.concat())?;
    // the configuration stores the sessions
    let config = Arc::new(tls_config(&authority.der(), Some(&client))?);
    let enter = || async {
        let mut connection = Connection::open_tls(HTTPS, host, config.clone()).await?;
        let answer = connection.get(host, "/").await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(connection.is_resumed())
    };
    until("the client to be accepted", enter).await?;
    until("its session to be resumed", || async {
        ensure!(enter().await?, "the handshake was full");
        Ok(())
    })
    .await?;
    space.apply(&list(space, "revoked-crl", &authority.revoke(&[&client])?))?;
    until("the client to be rejected", || async {
        // whichever worker of Envoy it reaches
        for _ in 0..CONNECTIONS {
            let Err(error) = enter().await else {
                anyhow::bail!("it is accepted")
            };
            let reason = format!("{error:#}");
            ensure!(reason.contains("CertificateRevoked"), "{reason}");
        }
        Ok(())
    })
    .await
}

pub(crate) async fn terms_that_cannot_be_kept_are_not_served(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.41.4:80", "strict").await?;
    let authority = Authority::new()?;
    let good = authority.issue(&["good"])?;
    let mut manifests = vec![mapping(
        "strict",
        "'*.strict.example'",
        "/",
        "10.96.41.4",
        "",
    )];
    let terms = [
        ("no-ca", "cert_required: true"),
        ("ca-gone", "ca_secret: absent, cert_required: true"),
        ("crl-gone", "ca_secret: strict-ca, crl_secret: absent"),
        ("version", "min_tls_version: v2"),
        ("cipher", "cipher_suites: [NONE]"),
    ];
    manifests.push(authority.secret(&space.namespace, "strict-ca"));
    for (name, more) in terms.iter().chain(&[("last", "ca_secret: strict-ca")]) {
        let hostname = format!("{name}.strict.example");
        let secret = format!("strict-{name}");
        manifests.push(
            authority
                .issue(&[&hostname])?
                .secret(&space.namespace, &secret),
        );
        manifests.push(tls_host(&secret, &hostname, &format!(", tls: {{{more}}}")));
    }
    space.apply(&manifests.concat())?;
    let to = |name: &str| {
        let query = tls_query(&format!("{name}.strict.example"), "/", &authority);
        showing(query, &good)
    };
    answered(&to("last"), 200).await?;
    for (name, _) in terms {
        closed(&to(name)).await?;
    }
    Ok(())
}
