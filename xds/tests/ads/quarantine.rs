//! What an Envoy rejects is replaced by what it accepted before, for it and for Envoys that come later.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use nuncio_xds::{
    Resource, ResourceType,
    cache::Update,
    fleet::Protocol,
    ir::{
        Action, Insecure, ListenerKey, Origin, PathMatch, Redirect, Rewrite, Route, RouteTable,
        TableKey, TableScope, Transport, VirtualHost,
    },
    pb::{
        envoy::{
            config::core::v3::{BuildVersion, Node, node::UserAgentVersionType},
            service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
            r#type::v3::SemanticVersion,
        },
        google::rpc::Status,
    },
    quarantine::Culprits,
};

use crate::{
    client::{self, Delta},
    config,
    envoy::{self, Envoy, until},
    http,
    real_envoy::{World, cluster_name, table_name},
    server::{Server, TIMEOUT, settings},
};
use tokio::time::sleep;

/// The edition of the second table that an Envoy has, and of its cluster.
async fn editions(envoy: &Envoy) -> Result<(Option<String>, Option<String>)> {
    let dump = envoy.dump().await?;
    let of = |kind, name: String| dump.get(&(kind, name)).map(|held| held.edition.clone());
    Ok((
        of(ResourceType::RouteTable, table_name(1)),
        of(ResourceType::Cluster, cluster_name(1)),
    ))
}

/// Waits until all of these Envoys have acknowledged or rejected the snapshot that is served, and nothing is left to review.
async fn rests(server: &mut Server, envoys: usize) -> Result<()> {
    loop {
        let seq = server.cache.snapshot().map_or(0, |snapshot| snapshot.seq);
        let what = format!("{envoys} Envoys have acknowledged snapshot {seq}");
        server
            .fleet_is(&what, |state| {
                let acked = state.envoys.iter().filter(|envoy| envoy.acked == seq);
                acked.count() == envoys
            })
            .await?;
        if !server.quarantine.review() {
            return Ok(());
        }
    }
}

async fn rejected_table(protocol: Protocol) -> Result<()> {
    let mut world = World::new(&format!("quarantine-{protocol:?}"), protocol).await?;
    let good = editions(&world.envoy).await?;
    ensure!(good.0.is_some() && good.1.is_some(), "{good:?}");

    // a table that Envoy rejects, and with it goes the cluster of the one before
    let mut update = Update::default();
    let edition = world.edition();
    let bad = config::bad_route_table(&table_name(1), &edition);
    world.put(&mut update, bad, edition);
    let endpoints = config::endpoints_of(&cluster_name(1));
    world.remove(&mut update, ResourceType::Cluster, cluster_name(1));
    world.remove(&mut update, ResourceType::Endpoints, endpoints);
    world.server.apply(update);
    rests(&mut world.server, 1).await?;
    let rejections = world.server.quarantine.rejections();
    ensure!(rejections.len() == 1, "{rejections:?}");
    ensure!(*rejections[0].name == table_name(1), "{rejections:?}");
    ensure!(rejections[0].message.contains("twice"), "{rejections:?}");
    ensure!(editions(&world.envoy).await? == good);
    let (status, _) = http::get(world.ports[1], "/").await?;
    ensure!(status == 200, "traffic of the rejected table: {status}");

    // another Envoy gets what the first one has
    let mut bootstrap = envoy::bootstrap(world.server.address, protocol)?;
    "second".clone_into(&mut bootstrap.node_id);
    let second = Envoy::start(&format!("quarantine-{protocol:?}-2"), &bootstrap).await?;
    until("the second Envoy has the good table", || async {
        let held = editions(&second).await?;
        ensure!(held == good, "{held:?}");
        second.is_warm().await
    })
    .await?;
    rests(&mut world.server, 2).await?;
    ensure!(second.rejected().await? == 0, "it got the bad one");

    // other changes go on
    let rejected = world.envoy.rejected().await?;
    let mut update = Update::default();
    world.put_table(&mut update, 2, 3);
    let edition = update.upserts[0].version.to_string();
    world.server.apply(update);
    rests(&mut world.server, 2).await?;
    for envoy in [&world.envoy, &second] {
        let dump = envoy.dump().await?;
        let held = &dump[&(ResourceType::RouteTable, table_name(2))];
        ensure!(protocol == Protocol::Sotw || held.version.as_ref() == Some(&edition));
    }
    ensure!(editions(&second).await? == good);
    ensure!(world.envoy.rejected().await? == rejected, "a retry");

    // a repair ends it
    let mut update = Update::default();
    world.put_table(&mut update, 1, 0);
    world.server.apply(update);
    rests(&mut world.server, 2).await?;
    ensure!(world.server.quarantine.rejections().is_empty());
    for envoy in [&world.envoy, &second] {
        let (table, _) = editions(envoy).await?;
        ensure!(table.is_some() && table != good.0, "{table:?}");
    }
    // what was kept for the good table goes after a while
    let end = Instant::now() + TIMEOUT;
    while editions(&world.envoy).await?.1.is_some() || editions(&second).await?.1.is_some() {
        ensure!(Instant::now() < end, "the cluster is still there");
        world.server.quarantine.review();
        sleep(Duration::from_millis(50)).await;
    }
    second.stop().await?;
    world.envoy.stop().await
}

#[tokio::test]
async fn delta_envoys_get_the_last_good_table() -> Result<()> {
    rejected_table(Protocol::Delta).await
}

#[tokio::test]
async fn sotw_envoys_get_the_last_good_table() -> Result<()> {
    rejected_table(Protocol::Sotw).await
}

/// A route that redirects everything below its name.
fn redirect(name: &str, path: Rewrite) -> Arc<Route> {
    let redirect = Redirect {
        host: "elsewhere.example".to_owned(),
        path,
        ..Redirect::default()
    };
    let prefix = PathMatch::Prefix(format!("/{name}/"));
    let action = Action::Redirect(Box::new(redirect));
    Arc::new(Route::new(name.to_owned(), prefix, action))
}

/// A rewrite with an expression that RE2 does not know.
fn bad_rewrite() -> Rewrite {
    Rewrite::Regex {
        pattern: "(".to_owned(),
        substitution: String::new(),
    }
}

async fn bad_routes(protocol: Protocol) -> Result<()> {
    let mut routes: Vec<Arc<Route>> = (0..300)
        .map(|n| redirect(&n.to_string(), Rewrite::Keep))
        .collect();
    routes[170] = redirect("170", bad_rewrite());
    let mut expression = Route::new(
        "bad".to_owned(),
        PathMatch::Regex("(".to_owned()),
        Action::Unavailable,
    );
    expression.percentage = Some(100);
    routes.insert(250, Arc::new(expression));
    let listener = ListenerKey {
        port: 8080,
        transport: Transport::Tcp,
        address: None,
    };
    let virtual_host = |domain: &str, routes: &[Arc<Route>]| VirtualHost {
        domain: domain.into(),
        insecure: Insecure::Route,
        routes: routes.to_vec(),
        origin: Origin::default(),
    };
    let table = RouteTable {
        key: TableKey {
            listener,
            scope: TableScope::Cleartext,
        },
        virtual_hosts: vec![
            virtual_host("*", &routes[..200]),
            virtual_host("localhost", &routes),
        ],
        is_selected: false,
        elsewhere: Vec::new(),
        misdirected: Vec::new(),
        http3: None,
    };

    let mut server = Server::start(settings()).await?;
    let bootstrap = envoy::bootstrap(server.address, protocol)?;
    let envoy = Envoy::start(&format!("culprits-{protocol:?}"), &bootstrap).await?;
    let (address, name) = (envoy::free_address()?, table.key.to_string());
    let mut culprits = Culprits::default();
    let mut next = vec![
        culprits.resource(&table),
        config::listener("listener", "1", address, &name),
    ];
    let mut rounds = 0;
    while !next.is_empty() {
        rounds += 1;
        server.apply(Update {
            upserts: std::mem::take(&mut next),
            ..Update::default()
        });
        rests(&mut server, 1).await?;
        for rejection in server.quarantine.unreplaced() {
            let (version, message) = (rejection.version, &rejection.message);
            next.extend(culprits.rejected(&table, version, message));
        }
    }
    ensure!(rounds < 50, "{rounds} tables");
    let found: Vec<(&str, bool)> = culprits
        .found()
        .map(|culprit| (culprit.route.name.as_str(), culprit.is_answered))
        .collect();
    ensure!(found == [("170", true), ("bad", false)], "{found:?}");
    for culprit in culprits.found() {
        ensure!(culprit.message.contains("missing )"), "{culprit:?}");
    }
    ensure!(server.fleet.state().rejections.is_empty());
    for (path, expected) in [("/0/", 301), ("/199/", 301), ("/170/", 503), ("/x/", 404)] {
        let (status, _) = http::get(address, path).await?;
        ensure!(status == expected, "{path}: {status}");
    }
    envoy.stop().await
}

#[tokio::test]
async fn delta_envoy_gets_a_table_without_its_bad_routes() -> Result<()> {
    bad_routes(Protocol::Delta).await
}

#[tokio::test]
async fn sotw_envoy_gets_a_table_without_its_bad_routes() -> Result<()> {
    bad_routes(Protocol::Sotw).await
}

/// A client that says that it is this version of Envoy, and subscribes to clusters.
async fn client_of(server: &Server, id: &str, minor_number: u32) -> Result<Delta> {
    let version = SemanticVersion {
        major_number: 1,
        minor_number,
        patch: 0,
    };
    let build = BuildVersion {
        version: Some(version),
        metadata: None,
    };
    let node = Node {
        id: id.to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(build)),
        ..client::node()
    };
    Delta::open_as(
        client::channel(server.address).await?,
        ResourceType::Cluster,
        node,
    )
    .await
}

fn reject(client: &Delta, response: &DeltaDiscoveryResponse) -> Result<()> {
    client.send(DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        error_detail: Some(Status {
            message: "not supported".to_owned(),
            ..Status::default()
        }),
        ..DeltaDiscoveryRequest::default()
    })
}

#[tokio::test]
async fn what_an_envoy_below_the_minimum_rejects_has_no_effect() -> Result<()> {
    let put = |body: &'static [u8]| Update {
        upserts: vec![Resource::new(ResourceType::Cluster, "a", body.into())],
        ..Update::default()
    };
    let mut server = Server::start(settings()).await?;
    server.apply(put(b"1"));
    let mut old = client_of(&server, "old", 35).await?;
    let mut oldest = client_of(&server, "oldest", 36).await?;
    old.accept().await?;
    oldest.accept().await?;
    rests(&mut server, 1).await?;
    server.apply(put(b"2"));
    let response = old.response().await?;
    reject(&old, &response)?;
    let good = oldest.accept().await?.resources;
    rests(&mut server, 1).await?;
    ensure!(server.fleet.state().envoys.len() == 1, "both are counted");
    ensure!(server.quarantine.rejections().is_empty());
    ensure!(old.is_silent().await, "it gets the version before");

    server.apply(put(b"3"));
    let response = oldest.response().await?;
    reject(&oldest, &response)?;
    server
        .fleet_is("it is rejected", |state| state.rejections.len() == 1)
        .await?;
    ensure!(server.quarantine.review(), "it does not count");
    ensure!(oldest.is_silent().await, "it has the last good one");
    let mut new = client_of(&server, "new", 40).await?;
    let last = new.accept().await?.resources;
    ensure!(last == good, "it is not the last good one");
    ensure!(server.quarantine.len() == 1);
    Ok(())
}
