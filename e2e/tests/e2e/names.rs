//! Which Host serves a request: by its name, whatever the spelling and the connection.

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::Authority,
    client::{self, Connection, Http2Connection, tls_config},
    wait::until,
};
use nuncio_kat::server::{Http, Listen, Server};
use serde_json::json;

use crate::{
    Space,
    answer::answered,
    fixture::{host, labelled, mapping, object, tls_host},
};

/// A Host that handles insecure requests like this, and takes only Mappings with its label.
fn acting(name: &str, action: &str) -> String {
    let spec = format!(
        "hostname: {name}.example, requestPolicy: {{insecure: {{action: {action}}}}}, mappingSelector: {{matchLabels: {{only: {name}}}}}"
    );
    object("Host", name, &spec)
}

pub(crate) async fn no_spelling_of_a_name_reaches_another_host(space: &Space) -> Result<()> {
    let backend = Backend::start("10.96.45.1:80", "names").await?;
    let manifests = [
        host("any", "'*'", ""),
        host("route", "route.example", ""),
        acting("red", "Redirect"),
        acting("wide", "Redirect"),
        acting("rejected", "Reject"),
        mapping("names", "'*'", "/", "10.96.45.1", ""),
        labelled(
            "Mapping",
            "red",
            "only: red",
            "hostname: red.example, prefix: /, service: 10.96.45.1",
        ),
        labelled(
            "Mapping",
            "wide",
            "only: wide",
            "hostname: '*', prefix: /, service: 10.96.45.1",
        ),
        labelled(
            "Mapping",
            "rejected",
            "only: rejected",
            "hostname: '*', prefix: /, service: 10.96.45.1",
        ),
    ];
    space.apply(&manifests.concat())?;
    until("all Hosts to be served", || async {
        for (name, status) in [("red", 301), ("wide", 301), ("rejected", 404), ("any", 200)] {
            let answer = client::get(&space.http(), &format!("{name}.example"), "/").await?;
            ensure!(answer.status == status, "{name}: {}", answer.status);
        }
        Ok(())
    })
    .await?;
    let before = backend.requests();
    for (sent, status) in [
        ("RED.example", 301),
        // the Mapping's hostname is compared with the port and the dot
        ("red.example:8080", 404),
        ("red.example:443", 404),
        ("red.example.", 404),
        ("red.example.:8080", 404),
        ("WIDE.example", 301),
        ("wide.example:8080", 301),
        ("wide.example.", 301),
        ("wide.example.:8080", 301),
        ("REJECTED.example", 404),
        ("rejected.example:8080", 404),
        ("rejected.example.", 404),
        ("rejected.example.:8080", 404),
    ] {
        let answer = client::get(&space.http(), sent, "/").await?;
        ensure!(answer.status == status, "{sent}: {answer:?}");
    }
    ensure!(backend.requests() == before, "a request was served");
    for sent in ["ROUTE.example", "route.example:8080", "route.example."] {
        let query = json!({"url": format!("http://{}/", space.http()), "headers": {"Host": sent}});
        answered(&query, 200).await.context(sent)?;
    }
    Ok(())
}

pub(crate) async fn backends_get_the_host_as_it_was_sent(space: &Space) -> Result<()> {
    let _server = Server::start(&Listen::on("10.96.45.3:80"), Http::new("sent").router()).await?;
    let manifests = [
        host("sent", "sent.names.example", ""),
        mapping("sent", "'sent.*'", "/sent/", "10.96.45.3", ""),
    ];
    space.apply(&manifests.concat())?;
    for sent in [
        "sent.names.example",
        "Sent.names.example:8080",
        "sent.names.example.",
    ] {
        let query =
            json!({"url": format!("http://{}/sent/", space.http()), "headers": {"Host": sent}});
        let answer = answered(&query, 200).await?;
        ensure!(
            answer["json"]["request"]["host"] == sent,
            "{sent}: {answer}"
        );
    }
    Ok(())
}

/// The server name of a connection, the host name of a request on it, and the backend or status that it gets.
const COVERED: [(&str, &str, std::result::Result<&str, u16>); 17] = [
    ("any.coal.example", "any.coal.example", Ok("wild")),
    ("any.coal.example", "other.coal.example:8443", Ok("wild")),
    ("any.coal.example", "own.coal.example", Ok("own")),
    ("any.coal.example", "OWN.coal.example.:8443", Ok("own")),
    ("any.coal.example", "plain.coal.example", Ok("plain")),
    ("any.coal.example", "certified.coal.example", Err(421)),
    ("any.coal.example", "certified.coal.example:8443", Err(421)),
    ("any.coal.example", "certified.coal.example.", Err(421)),
    ("any.coal.example", "closed.coal.example", Err(421)),
    ("any.coal.example", "elsewhere.example", Err(421)),
    ("any.coal.example", "nobody.example", Err(404)),
    ("own.coal.example", "own.coal.example:8443", Ok("own")),
    ("own.coal.example", "any.coal.example", Err(421)),
    ("own.coal.example", "elsewhere.example", Err(421)),
    ("elsewhere.example", "elsewhere.example", Ok("elsewhere")),
    ("elsewhere.example", "own.coal.example", Err(421)),
    ("elsewhere.example", "nobody.example:8443", Err(404)),
];

/// Hosts with TLS: their names, and their settings beside ALPN.
const TLS_HOSTS: [(&str, &str, &str); 5] = [
    ("wild", "*.coal.example", ""),
    ("own", "own.coal.example", ", min_tls_version: v1.2"),
    (
        "certified",
        "certified.coal.example",
        ", ca_secret: names-ca, cert_required: true",
    ),
    ("closed", "closed.coal.example", ", ca_secret: absent"),
    ("elsewhere", "elsewhere.example", ""),
];

/// A Host's routes, which only it takes.
fn routes(name: &str, address: &str) -> String {
    let spec = format!("hostname: '*', prefix: /, service: {address}");
    labelled(
        "Mapping",
        &format!("names-{name}"),
        &format!("names: {name}"),
        &spec,
    )
}

pub(crate) async fn a_connection_serves_the_names_that_its_chain_covers(
    space: &Space,
) -> Result<()> {
    let mut backends = Vec::new();
    let authority = Authority::new()?;
    let mut manifests = vec![authority.secret(&space.namespace, "names-ca")];
    for (number, (name, hostname, more)) in TLS_HOSTS.into_iter().enumerate() {
        let address = format!("10.96.45.{}", 10 + number);
        backends.push(Backend::start(&format!("{address}:80"), name).await?);
        let secret = format!("names-{name}");
        let certificate = authority.issue(&[hostname])?;
        manifests.push(certificate.secret(&space.namespace, &secret));
        let more = format!(
            ", tls: {{alpn_protocols: 'h2,http/1.1'{more}}}, mappingSelector: {{matchLabels: {{names: {name}}}}}"
        );
        manifests.push(tls_host(&secret, hostname, &more));
        manifests.push(routes(name, &address));
    }
    // cleartext only: below the wildcard it has no terms of its own
    backends.push(Backend::start("10.96.45.20:80", "plain").await?);
    let selector = ", mappingSelector: {matchLabels: {names: plain}}";
    manifests.push(host("names-plain", "plain.coal.example", selector));
    manifests.push(routes("plain", "10.96.45.20"));
    space.apply(&manifests.concat())?;
    until("each name to be answered as its Host", || async {
        for (server_name, name, expected) in COVERED {
            let config = || tls_config(&authority.der(), None);
            let address = space.https();
            let mut first = Connection::open_tls(&address, server_name, config()?.into()).await?;
            let mut second = Http2Connection::open(&address, server_name, config()?).await?;
            let two = second.get(name, "/").await?.context("no answer")?;
            for answer in [first.get(name, "/").await?, two] {
                let is_expected = match expected {
                    Ok(backend) => {
                        answer.status == 200 && answer.body.starts_with(&format!("{backend} "))
                    }
                    Err(status) => answer.status == status,
                };
                ensure!(
                    is_expected,
                    "{name} on a connection of {server_name}: {answer:?}, not {expected:?}"
                );
            }
        }
        Ok(())
    })
    .await
}
