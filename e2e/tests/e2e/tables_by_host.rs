//! Many Hosts on cleartext connections: each has a route table of its own, which the host name of a request selects.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    client::{Connection, Load, Loads, get},
    wait::until,
};
use nuncio_kat::server::{Http, Listen, Server};
use tokio::time::sleep;

use crate::{
    Space,
    fixture::{host, mapping, object},
};

/// Names with a Host; more than it takes for tables of their own.
const NAMES: usize = 12;

fn name(number: usize) -> String {
    format!("host-{number}.tables.example")
}

/// A Host with a Mapping that rewrites to its number, so that answers tell which one was selected.
fn with_mapping(number: usize, backend: &str) -> String {
    let (id, hostname) = (format!("host-{number}"), name(number));
    let rewrite = format!(", rewrite: /at-{number}/");
    host(&id, &hostname, "") + &mapping(&id, &hostname, "/", backend, &rewrite)
}

/// All of them, a wildcard and one for all other names.
fn all(backend: &str) -> String {
    let hosts: String = (0..NAMES)
        .map(|number| with_mapping(number, backend))
        .collect();
    let (wildcard, any) = ("'*.wild.example'", "'*'");
    [
        hosts,
        host("wildcard", wildcard, ""),
        mapping(
            "wildcard",
            wildcard,
            "/",
            backend,
            ", rewrite: /at-wildcard/",
        ),
        host("any", any, ""),
        mapping("any", any, "/any/", backend, ", rewrite: /at-any/"),
    ]
    .concat()
}

/// Whether requests are answered by the tables of several names.
async fn has_tables(space: &Space, expected: bool) -> Result<()> {
    until("the route tables", || async {
        let dump = space.gateway.envoy.admin("/config_dump").await?;
        let found = dump.contains("tcp-8080/cleartext/host-0.tables.example");
        ensure!(found == expected, "tables by host: {found}");
        Ok(())
    })
    .await
}

pub(crate) async fn every_spelling_of_a_name_is_served_by_its_host(space: &Space) -> Result<()> {
    let backend = "10.96.98.1";
    let _backend = Backend::start(&format!("{backend}:80"), "up").await?;
    space.apply(&all(backend))?;
    space
        .answers(&name(NAMES - 1), "/a", 200, "up GET /at-11/a")
        .await?;
    has_tables(space, true).await?;
    let address = space.http();
    for (host, path, expected) in [
        ("host-3.tables.example", "/a", "up GET /at-3/a"),
        ("HOST-3.Tables.Example", "/a", "up GET /at-3/a"),
        ("a.wild.example", "/a", "up GET /at-wildcard/a"),
        ("A.Wild.Example", "/a", "up GET /at-wildcard/a"),
        ("other.example", "/any/a", "up GET /at-any/a"),
        ("other.example:8080", "/any/a", "up GET /at-any/a"),
        ("10.0.0.1", "/any/a", "up GET /at-any/a"),
        // a Mapping for all names serves them on every Host
        ("host-3.tables.example", "/any/a", "up GET /at-any/a"),
        ("host-3.tables.example:8080", "/any/a", "up GET /at-any/a"),
        ("host-3.tables.example.", "/any/a", "up GET /at-any/a"),
    ] {
        let answer = get(&address, host, path).await?;
        ensure!(
            answer.status == 200 && answer.body == expected,
            "{host}{path}: {} {:?}",
            answer.status,
            answer.body
        );
    }
    // their conditions compare the host name as it was sent
    for (host, path) in [
        ("host-3.tables.example:8080", "/a"),
        ("host-3.tables.example.", "/a"),
        ("host-99.tables.example", "/a"),
        ("other.example", "/a"),
    ] {
        let answer = get(&address, host, path).await?;
        ensure!(answer.status == 404, "{host}{path}: {}", answer.status);
    }
    // a client does not select tables itself
    let header = [(
        "x-nuncio-route-table",
        "tcp-8080/cleartext/host-4.tables.example",
    )];
    let mut connection = Connection::open(&address).await?;
    let answer = connection.get_with(&name(3), "/a", &header).await?;
    ensure!(answer.body == "up GET /at-3/a", "{:?}", answer.body);
    Ok(())
}

pub(crate) async fn backends_do_not_see_which_table_was_selected(space: &Space) -> Result<()> {
    let backend = "10.96.98.2";
    let _backend = Server::start(
        &Listen::on(format!("{backend}:80")),
        Http::new("up").router(),
    )
    .await?;
    space.apply(&all(backend))?;
    let address = space.http();
    for host in [name(0), name(0).to_uppercase(), "x.wild.example".to_owned()] {
        until(&host, || async {
            let answer = get(&address, &host, "/a").await?;
            ensure!(answer.status == 200, "{}", answer.status);
            ensure!(!answer.body.contains("route-table"), "{:?}", answer.body);
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Waits until the Mappings of this round serve the names that move.
async fn have_moved(space: &Space, round: usize) -> Result<()> {
    for number in 0..3 {
        let hostname = format!("moving-{number}.wild.example");
        let expected = format!("up GET /at-moving-{number}-{round}/a");
        space.answers(&hostname, "/a", 200, &expected).await?;
    }
    Ok(())
}

pub(crate) async fn hosts_come_and_go_without_a_lost_request(space: &Space) -> Result<()> {
    let backend = "10.96.98.3";
    let _backend = Backend::start(&format!("{backend}:80"), "up").await?;
    space.apply(&all(backend))?;
    space.answers(&name(NAMES - 1), "/a", 200, "up").await?;
    has_tables(space, true).await?;
    let address = space.http();
    // one that stays, and names that a wildcard serves until they have a Host, and again after it
    let kept = Load::start(&address, &name(0), "/a");
    let moving: Vec<Load> = (0..3)
        .map(|number| Load::start(&address, &format!("moving-{number}.wild.example"), "/a"))
        .collect();
    for round in 0..4 {
        let manifests: String = (0..3)
            .map(|number| {
                let (id, hostname) = (
                    format!("moving-{number}"),
                    format!("moving-{number}.wild.example"),
                );
                let rewrite = format!(", rewrite: /at-{id}-{round}/");
                host(&id, &hostname, "") + &mapping(&id, &hostname, "/", backend, &rewrite)
            })
            .collect();
        space.apply(&manifests)?;
        have_moved(space, round).await?;
        for number in 0..3 {
            space.delete(&format!("host/moving-{number}"))?;
        }
        // the Mapping for the exact name is one of the wildcard's now
        have_moved(space, round).await?;
        for number in 0..3 {
            space.delete(&format!("mapping/moving-{number}"))?;
        }
        space
            .answers("moving-2.wild.example", "/a", 200, "up GET /at-wildcard/a")
            .await?;
    }
    for load in moving {
        load.finish().await.context("names that move")?;
    }
    let sent = kept.finish().await.context("a Host that stays")?;
    ensure!(
        sent.connections == 1,
        "{sent:?}: other Hosts close connections"
    );
    Ok(())
}

/// With an AuthService all Hosts share one table; changing between the two loses and opens nothing.
pub(crate) async fn an_auth_service_comes_and_goes_without_a_lost_request(
    space: &Space,
) -> Result<()> {
    let backend = "10.96.98.4";
    let _backend = Backend::start(&format!("{backend}:80"), "up").await?;
    let _auth = Server::start(&Listen::on("10.96.98.9:80"), Http::new("auth").router()).await?;
    space.apply(&all(backend))?;
    space.answers(&name(NAMES - 1), "/a", 200, "up").await?;
    has_tables(space, true).await?;
    let address = space.http();
    let wildcard = Loads::start(&address, "a.wild.example", "/a");
    let mut exact = Some(Loads::start(&address, &name(0), "/a"));
    let service = |more: &str| {
        let spec = format!(
            "auth_service: 10.96.98.9, proto: http, allowed_request_headers: [kat-req-http-requested-status]{more}"
        );
        object("AuthService", "tables", &spec)
    };
    for more in ["", ", default: false"] {
        let uses = |service: &str| {
            let more = format!(", rewrite: /at-0/{service}");
            mapping("host-0", &name(0), "/", backend, &more)
        };
        space.apply(&service(more))?;
        if !more.is_empty() {
            // requests on connections that Envoy drains are denied, as long as the Mapping names the service
            if let Some(load) = exact.take() {
                load.finish().await?;
            }
            space.apply(&uses(", auth_service: tables"))?;
        }
        has_tables(space, false).await?;
        let denied = [("kat-req-http-requested-status", "403")];
        // whatever its spelling, and on connections that were there before
        for host in [name(0), name(0).to_uppercase()] {
            until("requests to be authorized", || async {
                let mut connection = Connection::open(&address).await?;
                let answer = connection.get_with(&host, "/a", &denied).await?;
                ensure!(answer.status == 403, "{}", answer.status);
                Ok(())
            })
            .await?;
        }
        space.apply(&uses(""))?;
        space.delete("authservice/tables")?;
        has_tables(space, true).await?;
        sleep(Duration::from_millis(200)).await;
    }
    wildcard.finish().await
}
