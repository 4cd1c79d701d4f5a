//! Envoys subscribe to scopes when they start, and listeners come when they have them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use nuncio_xds::{
    cache::Update,
    fleet::Protocol,
    ir::{
        Action, ChainAction, FilterChain, Insecure, Ir, Listener, ListenerKey, Origin, PathMatch,
        Redirect, Route, RouteTable, TableKey, TableScope, Transport, VirtualHost,
    },
    render_all,
};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    envoy::{self, Envoy, until},
    http,
    server::{Server, settings},
};

/// A gateway with a cleartext chain whose tables are selected by host name, with tables for as many names and one for all
/// others. It redirects everything.
fn with_scopes(address: SocketAddr, names: usize) -> Ir {
    let hosts = (0..names).map(|number| format!("h{number}.example"));
    let of_host = |name: String| (TableScope::Host(name.as_str().into()), name);
    let others = (TableScope::OtherHosts, "*".to_owned());
    gateway(
        address,
        ChainAction::HttpByHost,
        [others].into_iter().chain(hosts.map(of_host)),
    )
}

/// A gateway with a cleartext chain that has one table. It redirects everything.
fn with_one_table(address: SocketAddr) -> Ir {
    gateway(
        address,
        ChainAction::Http,
        [(TableScope::Cleartext, "*".to_owned())].into_iter(),
    )
}

fn gateway(
    address: SocketAddr,
    action: fn(TableKey) -> ChainAction,
    tables: impl Iterator<Item = (TableScope, String)>,
) -> Ir {
    let key = ListenerKey {
        port: address.port(),
        transport: Transport::Tcp,
        address: None,
    };
    let redirect = Action::Redirect(Box::new(Redirect {
        host: "elsewhere.example".to_owned(),
        ..Redirect::default()
    }));
    let everything = PathMatch::Prefix("/".to_owned());
    let routes = vec![Arc::new(Route::new("all".to_owned(), everything, redirect))];
    let tables: Vec<RouteTable> = tables
        .map(|(scope, domain)| RouteTable {
            is_selected: scope != TableScope::Cleartext,
            key: TableKey {
                listener: key,
                scope,
            },
            elsewhere: Vec::new(),
            virtual_hosts: vec![VirtualHost {
                domain: domain.into(),
                insecure: Insecure::Route,
                routes: routes.clone(),
                origin: Origin::default(),
            }],
            misdirected: Vec::new(),
            http3: None,
        })
        .collect();
    let listener = Listener {
        key,
        address: address.ip(),
        stat_prefix: "gateway".to_owned(),
        proxy_protocol: false,
        tls: false,
        l7_depth: 0,
        max_concurrent_streams: None,
        filters: std::collections::BTreeSet::new(),
        http: Arc::default(),
        tcp_access_logs: Vec::new(),
        buffer_limit_bytes: None,
        chains: vec![FilterChain {
            name: "cleartext".to_owned(),
            server_names: Vec::new(),
            tls: None,
            action: action(tables[0].key.clone()),
        }],
        origin: None,
    };
    let mut ir = Ir::default();
    ir.listeners.insert(key, listener.into());
    for table in tables {
        ir.route_tables.insert(table.key.clone(), table.into());
    }
    ir
}

/// The status of the first response of a listener that is not there yet.
async fn first_status(address: SocketAddr) -> Result<u16> {
    until("a response", || async {
        let (status, _) = http::get(address, "/").await?;
        Ok(status)
    })
    .await
}

/// The first listener that uses scopes comes to an Envoy that runs.
async fn begins(protocol: Protocol) -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let bootstrap = envoy::bootstrap(server.address, protocol)?;
    let envoy = Envoy::start(&format!("scopes-{protocol:?}"), &bootstrap).await?;
    server.apply(Update::default());
    envoy.becomes_ready().await?;
    let address = envoy::free_address()?;
    server.apply(Update {
        upserts: render_all(&with_scopes(address, 0)).collect(),
        ..Update::default()
    });
    ensure!(first_status(address).await? == 301);
    // the listener has no subscription of its own, which could not know what the other one got before
    let shared = "http.scopes.scoped_rds.route-tables.config_reload";
    ensure!(envoy.stat(shared).await? > 0);
    let own = "http.gateway.scoped_rds.route-tables.config_reload";
    ensure!(envoy.stat(own).await? == 0, "another subscription");
    envoy.stop().await
}

#[tokio::test]
async fn delta_envoys_share_the_scopes_of_the_bootstrap() -> Result<()> {
    begins(Protocol::Delta).await
}

#[tokio::test]
async fn sotw_envoys_share_the_scopes_of_the_bootstrap() -> Result<()> {
    begins(Protocol::Sotw).await
}

/// While a control plane is away, as many names come that the tables of a listener are selected by host name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_changes_to_scopes_without_a_lost_request_after_a_restart() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let xds = server.address;
    let bootstrap = envoy::bootstrap(xds, Protocol::Delta)?;
    let envoy = Envoy::start("restart-with-scopes", &bootstrap).await?;
    let address = envoy::free_address()?;
    let apply = |server: &mut Server, gateway: &Ir| {
        server.apply(Update {
            upserts: render_all(gateway).collect(),
            ..Update::default()
        })
    };
    let seq = apply(&mut server, &with_one_table(address));
    ensure!(first_status(address).await? == 301);
    server.is_acknowledged(seq).await?;
    server.stop().await?;
    let mut server = Server::start_at(xds, settings()).await?;
    let seq = apply(&mut server, &with_scopes(address, 2000));
    let changed = server.is_acknowledged(seq);
    let mut changed = std::pin::pin!(changed);
    // a connection is not closed before a second is over, so there are many at a time
    let mut requests = JoinSet::new();
    loop {
        requests.spawn(http::get(address, "/"));
        tokio::select! {
            found = &mut changed => break found?,
            () = sleep(Duration::from_millis(2)) => {}
        }
    }
    requests.spawn(http::get(address, "/"));
    while let Some(found) = requests.join_next().await {
        let (status, _) = found??;
        ensure!(status == 301, "{status}");
    }
    envoy.stop().await
}
