//! Certificates that are replaced while they are in use.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::{Authority, Certificate, secret},
    client::{Load, get_tls, open_tls, tls_config},
    wait::until,
};
use serde_json::json;

use crate::{
    Space,
    answer::{closed, tls_query},
    fixture::{mapping, tls_host},
};

const HOST: &str = "rotation.example";
const ROTATIONS: usize = 15;
/// Longest time from the end of `kubectl apply` until clients see the change, on a busy machine.
const BOUND: Duration = Duration::from_secs(2);

pub(crate) async fn a_certificate_rotates_under_load(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.53.1:80", "rotation").await?;
    let (https, authority) = (space.https(), Authority::new()?);
    let manifests = [
        authority
            .issue(&[HOST])?
            .secret(&space.namespace, "rotation"),
        tls_host("rotation", HOST, ", tls: {alpn_protocols: 'h2,http/1.1'}"),
        mapping("rotation", HOST, "/", "10.96.53.1", ""),
    ];
    space.apply(&manifests.concat())?;
    until("the first certificate", || async {
        let answer = get_tls(&https, HOST, "/", &authority.der()).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    })
    .await?;
    let config = tls_config(&authority.der(), None)?;
    let new = Load::start_handshakes(&https, HOST, "/", config.clone());
    let kept = [
        (
            "HTTP/1.1",
            Load::start_tls(&https, HOST, "/", config.clone()),
        ),
        ("HTTP/2", Load::start_http2(&https, HOST, "/", config)),
    ];
    for rotation in 0..ROTATIONS {
        let next = authority.issue(&[HOST])?;
        space.apply(&next.secret(&space.namespace, "rotation"))?;
        let start = Instant::now();
        let (next, authority) = (next.der()?, authority.der());
        until("the next certificate", || async {
            let connection = open_tls(&https, HOST, &authority).await?;
            ensure!(
                connection.certificate().as_ref() == Some(&next),
                "an older certificate is presented"
            );
            Ok(())
        })
        .await?;
        let took = start.elapsed();
        ensure!(took < BOUND, "rotation {rotation} was seen after {took:?}");
    }
    for (what, load) in kept {
        let sent = load.finish().await.context(what)?;
        ensure!(
            sent.connections == 1,
            "{what}: {sent:?}: a rotation closes connections"
        );
    }
    new.finish().await.context("new connections").map(drop)
}

/// A Secret of type `kubernetes.io/tls`.
fn tls_secret(space: &Space, name: &str, chain: &str, key: &str) -> String {
    let entries = [("tls.crt", chain), ("tls.key", key)];
    secret(&space.namespace, name, "kubernetes.io/tls", &entries)
}

/// Waits until clients see this certificate.
async fn is_shown(https: &str, host: &str, authority: &Authority, own: &Certificate) -> Result<()> {
    let (own, authority) = (own.der()?, authority.der());
    until("the certificate", || async {
        let connection = open_tls(https, host, &authority).await?;
        ensure!(
            connection.certificate().as_ref() == Some(&own),
            "another certificate is presented"
        );
        Ok(())
    })
    .await
}

/// Waits until the Host has this state, and a message of `ResolvedRefs` that contains the text.
async fn host_says(space: &Space, state: &str, text: &str) -> Result<()> {
    until(text, || async {
        let found = space.field("host/broken", "{.status.state}")?;
        let path = "{.status.conditions[?(@.type==\"ResolvedRefs\")].message}";
        let message = space.field("host/broken", path)?;
        ensure!(
            found == state && message.contains(text),
            "{found}: {message}"
        );
        Ok(())
    })
    .await
}

pub(crate) async fn a_broken_rotation_loses_no_request(space: &Space) -> Result<()> {
    const HOST: &str = "broken.rotation.example";
    let _backend = Backend::start("10.96.53.2:80", "broken").await?;
    let (https, authority) = (space.https(), Authority::new()?);
    let (first, second) = (authority.issue(&[HOST])?, authority.issue(&[HOST])?);
    let manifests = [
        first.secret(&space.namespace, "broken"),
        tls_host("broken", HOST, ""),
        mapping("broken", HOST, "/", "10.96.53.2", ""),
    ];
    space.apply(&manifests.concat())?;
    is_shown(&https, HOST, &authority, &first).await?;
    host_says(space, "Ready", "resolved").await?;
    let config = tls_config(&authority.der(), None)?;
    let kept = Load::start_tls(&https, HOST, "/", config.clone());
    let new = Load::start_handshakes(&https, HOST, "/", config);
    let encrypted = second.key.replace(" PRIVATE", " ENCRYPTED PRIVATE");
    for (chain, key, reason) in [
        (&*second.chain, &*first.key, "is not the private key"),
        ("garbage", &second.key, "no certificate"),
        (&second.chain, &encrypted, "encrypted"),
    ] {
        space.apply(&tls_secret(space, "broken", chain, key))?;
        host_says(space, "Error", reason).await?;
        host_says(space, "Error", "using the last valid certificate").await?;
        is_shown(&https, HOST, &authority, &first).await?;
    }
    let metric = "nuncio_certificates_kept";
    let number = space.gateway.replica.metric(metric).await?;
    ensure!((number - 1.0).abs() < 0.1, "{metric} is {number}");
    space.apply(&second.secret(&space.namespace, "broken"))?;
    is_shown(&https, HOST, &authority, &second).await?;
    host_says(space, "Ready", "resolved").await?;
    let sent = kept.finish().await.context("the connection")?;
    ensure!(sent.connections == 1, "{sent:?}: connections are closed");
    new.finish().await.context("new connections")?;
    space.apply(&tls_secret(space, "broken", &second.chain, "garbage"))?;
    host_says(space, "Error", "using the last valid certificate").await?;
    space.delete("secret/broken")?;
    let mut query = tls_query(HOST, "/", &authority);
    query["url"] = json!(format!("https://{https}/"));
    closed(&query).await?;
    host_says(space, "Error", "does not exist").await
}
