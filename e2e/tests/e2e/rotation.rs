//! Certificates that are replaced while they are in use.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::Authority,
    client::{Load, get_tls, open_tls, tls_config},
    wait::until,
};

use crate::{
    Space,
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
