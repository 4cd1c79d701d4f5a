//! TLS from clients: which certificate each name presents, and with which settings.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::{Authority, secret},
    client::{Connection, tls_config},
    wait::until,
};
use serde_json::{Value, json};

use crate::{
    Space,
    answer::{answered, ask, closed, rejected, shown, tls_query},
    fixture::{HTTPS, mapping, object, tls_host},
};

/// The query of a client that accepts any certificate.
fn trusting_anyone(address: &str, host: &str) -> Value {
    json!({"url": format!("https://{address}/"), "headers": {"Host": host}, "sni": true, "insecure": true})
}

pub(crate) async fn the_most_specific_name_shows_its_certificate(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.40.1:80", "sni").await?;
    let authority = Authority::new()?;
    let mut manifests = vec![mapping("sni", "'*'", "/", "10.96.40.1", "")];
    for (name, hostname, certified) in [
        ("sni-any", "*", "any.example"),
        ("sni-suffix", "*.tls-sni.example", "*.tls-sni.example"),
        ("sni-exact", "a.tls-sni.example", "a.tls-sni.example"),
    ] {
        manifests.push(
            authority
                .issue(&[certified])?
                .secret(&space.namespace, name),
        );
        manifests.push(tls_host(name, hostname, ""));
    }
    space.apply(&manifests.concat())?;
    each_name_shows_its_certificate(space).await?;
    space.delete("host/sni-any")?;
    until("the Host for every name to go", || async {
        let answer = ask(trusting_anyone(&space.https(), "elsewhere.example")).await?;
        ensure!(answer["status"].is_null(), "{answer}");
        Ok(())
    })
    .await
}

async fn each_name_shows_its_certificate(space: &Space) -> Result<()> {
    for (host, certified) in [
        ("elsewhere.example", "any.example"),
        ("tls-sni.example", "any.example"),
        ("b.tls-sni.example", "*.tls-sni.example"),
        ("x.a.tls-sni.example", "*.tls-sni.example"),
        ("a.tls-sni.example", "a.tls-sni.example"),
        ("A.TLS-SNI.example", "a.tls-sni.example"),
    ] {
        is_shown(&trusting_anyone(&space.https(), host), certified).await?;
    }
    let mut nameless = trusting_anyone(&space.https(), "a.tls-sni.example");
    nameless["sni"] = json!(false);
    is_shown(&nameless, "any.example").await
}

/// Waits until a client is served with the certificate of this name.
async fn is_shown(query: &Value, certified: &str) -> Result<()> {
    let what = format!(
        "the certificate of {certified} for {}",
        query["headers"]["Host"]
    );
    until(&what, || async {
        let answer = ask(query.clone()).await?;
        let shown = shown(&answer);
        ensure!(
            answer["status"] == 200 && *shown == json!([certified]),
            "status {}, certificate of {shown}",
            answer["status"]
        );
        Ok(())
    })
    .await
}

pub(crate) async fn a_name_without_certificate_is_closed_until_it_has_one(
    space: &Space,
) -> Result<()> {
    let _backend = Backend::start("10.96.40.2:80", "late").await?;
    let authority = Authority::new()?;
    let host = "a.tls-late.example";
    let good = authority.issue(&[host])?.secret(&space.namespace, "late");
    let other = authority.issue(&[host])?;
    let broken = [("tls.crt", &*authority.pem()), ("tls.key", &*other.key)];
    let manifests = [
        authority
            .issue(&["*.tls-late.example"])?
            .secret(&space.namespace, "late-wildcard"),
        tls_host("late-wildcard", "*.tls-late.example", ""),
        tls_host("late", host, ""),
        mapping("late", "'*.tls-late.example'", "/", "10.96.40.2", ""),
    ];
    space.apply(&manifests.concat())?;
    answered(&trusting_anyone(HTTPS, "b.tls-late.example"), 200).await?;
    for (secret, what) in [
        (None, "the Secret does not exist yet"),
        (
            Some(secret(
                &space.namespace,
                "late",
                "kubernetes.io/tls",
                &broken,
            )),
            "the key belongs to another certificate",
        ),
    ] {
        if let Some(secret) = secret {
            space.apply(&secret)?;
        }
        // no certificate, and no answer in cleartext
        closed(&trusting_anyone(HTTPS, host)).await.context(what)?;
        space.apply(&good)?;
        let answer = answered(&tls_query(host, "/", &authority), 200).await?;
        ensure!(*shown(&answer) == json!([host]), "{answer}");
        // what is deleted is not remembered
        space.delete("secret/late")?;
        closed(&trusting_anyone(HTTPS, host)).await?;
    }
    space.apply(&good)?;
    answered(&tls_query(host, "/", &authority), 200).await?;
    space.delete("secret/late")?;
    closed(&trusting_anyone(HTTPS, host))
        .await
        .context("the Secret was deleted")?;
    space.apply(&good)?;
    answered(&tls_query(host, "/", &authority), 200).await?;
    answered(&tls_query("b.tls-late.example", "/", &authority), 200)
        .await
        .map(drop)
}

pub(crate) async fn protocols_are_agreed_on_as_asked(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.40.3:80", "alpn").await?;
    let authority = Authority::new()?;
    let mut manifests = vec![mapping(
        "alpn",
        "'*.tls-alpn.example'",
        "/",
        "10.96.40.3",
        "",
    )];
    for (name, more) in [
        ("none", ""),
        ("h2", ", tls: {alpn_protocols: h2}"),
        ("both", ", tls: {alpn_protocols: 'h2, http/1.1'}"),
    ] {
        let hostname = format!("{name}.tls-alpn.example");
        let secret = format!("alpn-{name}");
        manifests.push(
            authority
                .issue(&[&hostname])?
                .secret(&space.namespace, &secret),
        );
        manifests.push(tls_host(&secret, &hostname, more));
    }
    space.apply(&manifests.concat())?;
    for (name, offered, expected) in [
        ("none", "h2 http/1.1", None),
        ("none", "http/1.1", None),
        ("h2", "h2 http/1.1", Some("h2")),
        ("h2", "http/1.1 h2", Some("h2")),
        ("h2", "http/1.1", None),
        ("both", "http/1.1 h2", Some("h2")),
        ("both", "http/1.1", Some("http/1.1")),
        ("both", "", None),
    ] {
        let hostname = format!("{name}.tls-alpn.example");
        // this client offers both protocols and uses the negotiated one
        answered(&tls_query(&hostname, "/", &authority), 200).await?;
        let mut config = tls_config(&authority.der(), None)?;
        let protocols = offered.split(' ').filter(|protocol| !protocol.is_empty());
        config.alpn_protocols = protocols.map(|protocol| protocol.into()).collect();
        let mut connection = Connection::open_tls(HTTPS, &hostname, config.into()).await?;
        let agreed = connection.protocol();
        ensure!(
            agreed == expected,
            "{name}: {agreed:?} is negotiated from {offered:?}"
        );
        if expected != Some("h2") {
            let answer = connection.get(&hostname, "/").await?;
            ensure!(answer.status == 200, "{name}, {offered:?}: {answer:?}");
        }
    }
    Ok(())
}

/// A client with TLS 1.2 only.
fn only_1_2(mut query: Value) -> Value {
    query["maxTLSv"] = json!("v1.2");
    query
}

/// A client with TLS 1.3 only.
fn only_1_3(mut query: Value) -> Value {
    query["minTLSv"] = json!("v1.3");
    query
}

/// A client with TLS 1.2 and one cipher suite only.
fn only_suite(query: Value, suite: &str) -> Value {
    let mut query = only_1_2(query);
    query["cipherSuites"] = json!([suite]);
    query
}

const AES_128: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
const AES_256: &str = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";

pub(crate) async fn versions_and_ciphers_are_kept_to(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.40.4:80", "terms").await?;
    let authority = Authority::new()?;
    let mut manifests = vec![mapping(
        "terms",
        "'*.tls-terms.example'",
        "/",
        "10.96.40.4",
        "",
    )];
    for (name, more) in [
        ("plain", ""),
        ("new", ", tls: {min_tls_version: v1.3}"),
        ("old", ", tls: {max_tls_version: v1.2}"),
        (
            "cipher",
            ", tls: {cipher_suites: [ECDHE-ECDSA-AES256-GCM-SHA384]}",
        ),
    ] {
        let hostname = format!("{name}.tls-terms.example");
        let secret = format!("terms-{name}");
        manifests.push(
            authority
                .issue(&[&hostname])?
                .secret(&space.namespace, &secret),
        );
        manifests.push(tls_host(&secret, &hostname, more));
    }
    space.apply(&manifests.concat())?;
    let to = |name: &str| tls_query(&format!("{name}.tls-terms.example"), "/", &authority);
    for (query, version, cipher) in [
        (to("plain"), 0x0304, None),
        (only_1_2(to("plain")), 0x0303, None),
        (only_1_3(to("new")), 0x0304, None),
        (only_1_2(to("old")), 0x0303, None),
        (to("old"), 0x0303, None),
        (only_suite(to("plain"), AES_128), 0x0303, Some(0xc02b)),
        (only_suite(to("cipher"), AES_256), 0x0303, Some(0xc02c)),
        (only_1_2(to("cipher")), 0x0303, Some(0xc02c)),
    ] {
        let answer = answered(&query, 200).await?;
        ensure!(
            answer["tls_version"] == version,
            "{query} is answered with {answer}"
        );
        ensure!(
            cipher.is_none_or(|cipher| answer["cipher_suite"] == cipher),
            "{query} is answered with {answer}"
        );
    }
    rejected(&only_1_2(to("new")), "protocol version not supported").await?;
    rejected(&only_1_3(to("old")), "protocol version not supported").await?;
    rejected(&only_suite(to("cipher"), AES_128), "handshake failure").await
}

pub(crate) async fn a_tls_context_is_followed(space: &Space) -> Result<()> {
    let _backend = Backend::start("10.96.40.5:80", "context").await?;
    let authority = Authority::new()?;
    let (named, implicit) = ("named.tls-context.example", "implicit.tls-context.example");
    let manifests = [
        authority
            .issue(&[named])?
            .secret(&space.namespace, "context-named"),
        authority
            .issue(&[implicit])?
            .secret(&space.namespace, "context-implicit"),
        object("TLSContext", "context", "min_tls_version: v1.3"),
        tls_host("context-named", named, ", tlsContext: {name: context}"),
        tls_host("context-implicit", implicit, ""),
        mapping("context", "'*.tls-context.example'", "/", "10.96.40.5", ""),
    ];
    space.apply(&manifests.concat())?;
    let (named, implicit) = (
        tls_query(named, "/", &authority),
        tls_query(implicit, "/", &authority),
    );
    answered(&only_1_3(named.clone()), 200).await?;
    rejected(&only_1_2(named.clone()), "protocol version not supported").await?;
    answered(&only_1_2(implicit.clone()), 200).await?;
    // a Host that names no TLSContext uses the one with its name and `-context`
    let manifests = [
        object("TLSContext", "context", "max_tls_version: v1.2"),
        object(
            "TLSContext",
            "context-implicit-context",
            "min_tls_version: v1.3",
        ),
    ];
    space.apply(&manifests.concat())?;
    answered(&only_1_2(named.clone()), 200).await?;
    rejected(&only_1_3(named.clone()), "protocol version not supported").await?;
    rejected(
        &only_1_2(implicit.clone()),
        "protocol version not supported",
    )
    .await?;
    // without the TLSContext that it names, the settings are unknown and nothing is served
    space.delete("tlscontext/context")?;
    closed(&named).await?;
    space.delete("tlscontext/context-implicit-context")?;
    answered(&only_1_2(implicit), 200).await?;
    space.apply(&object("TLSContext", "context", "alpn_protocols: h2"))?;
    answered(&only_1_2(named.clone()), 200).await?;
    answered(&only_1_3(named), 200).await.map(drop)
}
