//! Random changes of a small snapshot with an Envoy connected, which must have the same resources at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use nuncio_xds::{
    Resource, ResourceType,
    bootstrap::{SdsFiles, Target, Tls, TlsFiles},
    cache::Update,
    fleet::Protocol,
};
use rcgen::generate_simple_self_signed;
use serde_json::Value;
use tokio::process::Command;

use crate::{
    config,
    envoy::{self, Dump, Envoy, Held, until},
    http,
    server::{Server, settings},
};

const CLUSTERS: u64 = 4;
const LISTENERS: u64 = 3;
/// Number of edits of each run, enough for all pairs of edits to occur.
const EDITS: usize = 120;

/// A server with an Envoy, and the resources that Envoy must have.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) envoy: Envoy,
    pub(crate) backend: SocketAddr,
    pub(crate) ports: Vec<SocketAddr>,
    /// Served resources, with their editions.
    pub(crate) view: BTreeMap<(ResourceType, String), (Resource, String)>,
    /// Route tables that listeners refer to.
    edition: u64,
    random: u64,
    pub(crate) protocol: Protocol,
}

pub(crate) fn cluster_name(n: u64) -> String {
    format!("cluster {n}")
}

fn listener_name(n: u64) -> String {
    format!("listener {n}")
}

pub(crate) fn table_name(n: u64) -> String {
    format!("table {n}")
}

impl World {
    /// A server with the first edition of everything, which Envoy has acknowledged.
    pub(crate) async fn new(name: &str, protocol: Protocol) -> Result<Self> {
        let server = Server::start(settings()).await?;
        let bootstrap = envoy::bootstrap(server.address, protocol)?;
        let mut world = Self {
            envoy: Envoy::start(name, &bootstrap).await?,
            server,
            backend: http::backend().await?,
            ports: (0..LISTENERS)
                .map(|_| envoy::free_address())
                .collect::<Result<_>>()?,
            view: BTreeMap::new(),
            edition: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            protocol,
        };
        let mut update = Update::default();
        for n in 0..CLUSTERS {
            world.put_cluster(&mut update, n);
        }
        for n in 0..LISTENERS {
            world.put_table(&mut update, n, n);
            world.put_listener(&mut update, n);
        }
        let seq = world.server.apply(update);
        world.server.is_acknowledged(seq).await?;
        Ok(world)
    }

    pub(crate) fn edition(&mut self) -> String {
        self.edition += 1;
        format!("edition-{}", self.edition)
    }

    /// A pseudorandom number below `limit`, the same in every run.
    fn random(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    pub(crate) fn put(&mut self, update: &mut Update, resource: Resource, edition: String) {
        let key = (resource.kind, resource.name.to_string());
        update.upserts.push(resource.clone());
        self.view.insert(key, (resource, edition));
    }

    pub(crate) fn remove(&mut self, update: &mut Update, kind: ResourceType, name: String) {
        update.removals.push((kind, name.as_str().into()));
        self.view.remove(&(kind, name));
    }

    pub(crate) fn put_cluster(&mut self, update: &mut Update, n: u64) {
        let edition = self.edition();
        let name = cluster_name(n);
        self.put(update, config::cluster(&name, &edition), edition);
        if !self
            .view
            .contains_key(&(ResourceType::Endpoints, config::endpoints_of(&name)))
        {
            self.put_endpoints(update, n);
        }
    }

    fn put_endpoints(&mut self, update: &mut Update, n: u64) {
        let edition = self.edition();
        let resource = config::endpoints(&cluster_name(n), &edition, self.backend);
        self.put(update, resource, edition);
    }

    pub(crate) fn put_table(&mut self, update: &mut Update, n: u64, cluster: u64) {
        let edition = self.edition();
        let resource = config::route_table(&table_name(n), &edition, &cluster_name(cluster));
        self.put(update, resource, edition);
    }

    fn put_listener(&mut self, update: &mut Update, n: u64) {
        let edition = self.edition();
        let address = self.ports[n as usize];
        let resource = config::listener(&listener_name(n), &edition, address, &table_name(n));
        self.put(update, resource, edition);
    }

    /// Makes one random edit. The first cluster, table and listener stay, for traffic.
    fn edit(&mut self, update: &mut Update) {
        let cluster = self.random(CLUSTERS);
        let listener = self.random(LISTENERS);
        match self.random(8) {
            0 | 1 => self.put_cluster(update, cluster),
            2 | 3 => {
                self.put_cluster(update, cluster);
                self.put_endpoints(update, cluster);
            }
            4 if cluster > 0 => {
                let name = cluster_name(cluster);
                let endpoints = config::endpoints_of(&name);
                self.remove(update, ResourceType::Cluster, name);
                self.remove(update, ResourceType::Endpoints, endpoints);
            }
            5 if listener > 0 => {
                self.remove(update, ResourceType::Listener, listener_name(listener));
            }
            6 => self.put_listener(update, listener),
            _ if listener > 0 => self.put_table(update, listener, cluster),
            _ => self.put_table(update, 0, 0),
        }
    }

    /// Makes random edits, mostly faster than Envoy can process them.
    async fn edits(&mut self, mut also: impl FnMut(&mut Self, &mut Update)) -> Result<()> {
        for _ in 0..EDITS {
            let mut update = Update::default();
            self.edit(&mut update);
            also(self, &mut update);
            let seq = self.server.apply(update);
            if self.random(4) == 0 {
                self.server.is_acknowledged(seq).await?;
            } else if self.random(2) == 0 {
                tokio::task::yield_now().await;
            }
            let (status, _) = http::get(self.ports[0], "/").await?;
            ensure!(status == 200, "traffic was lost: {status}");
        }
        Ok(())
    }

    /// What Envoy must have: all resources except rejected ones and route tables that no listener refers to.
    fn expected(&self, rejected: &BTreeSet<(ResourceType, String)>) -> Dump {
        let expected = self.view.iter().filter(|((kind, name), _)| {
            let is_subscribed = match kind {
                ResourceType::RouteTable => {
                    let listener = name.replace("table", "listener");
                    self.view.contains_key(&(ResourceType::Listener, listener))
                }
                _ => true,
            };
            is_subscribed && !rejected.contains(&(*kind, name.clone()))
        });
        expected
            .map(|(key, (resource, edition))| {
                // in SotW all resources of a type have one version
                let has_version =
                    self.protocol == Protocol::Delta && key.0 != ResourceType::Endpoints;
                let held = Held {
                    edition: edition.clone(),
                    version: has_version.then(|| resource.version.to_string()),
                };
                (key.clone(), held)
            })
            .collect()
    }

    /// Waits until Envoy has what it must have, and nothing is warming.
    async fn check(&self, rejected: &BTreeSet<(ResourceType, String)>) -> Result<()> {
        let expected = self.expected(rejected);
        until("Envoy has what is served", || async {
            let mut dump = self.envoy.dump().await?;
            if self.protocol == Protocol::Sotw {
                dump.values_mut().for_each(|held| held.version = None);
            }
            ensure!(
                dump == expected,
                "Envoy has {dump:#?} instead of {expected:#?}"
            );
            self.envoy.is_warm().await
        })
        .await?;
        let rejections = self.server.fleet.state().rejections;
        let reported: BTreeSet<_> = rejections
            .iter()
            .map(|rejection| (rejection.kind, rejection.name.to_string()))
            .collect();
        ensure!(
            reported == *rejected,
            "rejections of the fleet: {reported:?}"
        );
        Ok(())
    }
}

async fn random_edits(name: &str, protocol: Protocol) -> Result<()> {
    let mut world = World::new(name, protocol).await?;
    let nothing = BTreeSet::new();
    world.check(&nothing).await?;
    world.edits(|_, _| {}).await?;
    world.check(&nothing).await?;
    assert_eq!(world.envoy.rejected().await?, 0);

    // some edits that Envoy must reject, without effect on the other edits of the same response
    let bad = "bad cluster".to_owned();
    world
        .edits(|world, update| {
            let edition = world.edition();
            match world.random(6) {
                0 => world.put(update, config::bad_cluster(&bad, &edition), edition),
                1 => {
                    let resource = config::bad_route_table(&table_name(1), &edition);
                    world.put(update, resource, edition);
                }
                _ => {}
            }
        })
        .await?;
    let mut update = Update::default();
    world.put_table(&mut update, 1, 1);
    let edition = world.edition();
    world.put(&mut update, config::bad_cluster(&bad, &edition), edition);
    let seq = world.server.apply(update);
    world.server.is_acknowledged(seq).await?;
    let rejected = BTreeSet::from([(ResourceType::Cluster, bad)]);
    world.check(&rejected).await?;
    assert_ne!(world.envoy.rejected().await?, 0);
    world.envoy.stop().await
}

#[tokio::test]
async fn delta_envoy_has_what_is_served_after_random_edits() -> Result<()> {
    random_edits("delta", Protocol::Delta).await
}

#[tokio::test]
async fn sotw_envoy_has_what_is_served_after_random_edits() -> Result<()> {
    random_edits("sotw", Protocol::Sotw).await
}

#[tokio::test]
async fn envoy_that_moves_to_another_replica_gets_only_differences() -> Result<()> {
    let mut world = World::new("failover", Protocol::Delta).await?;
    let address = world.server.address;
    world.server.stop().await?;
    let (status, _) = http::get(world.ports[0], "/").await?;
    assert_eq!(
        status, 200,
        "Envoy has lost its configuration with the control plane"
    );

    // the other replica has the same resources, except for one changed table and one removed cluster
    world.server = Server::start_at(address, settings()).await?;
    let mut update = Update::default();
    world.put_table(&mut update, 1, 0);
    let gone = cluster_name(CLUSTERS - 1);
    world
        .view
        .remove(&(ResourceType::Endpoints, config::endpoints_of(&gone)));
    world.view.remove(&(ResourceType::Cluster, gone));
    let resources = world.view.values().map(|(resource, _)| resource.clone());
    let seq = world.server.apply(Update {
        upserts: resources.collect(),
        ..Update::default()
    });
    world.server.is_acknowledged(seq).await?;
    world.check(&BTreeSet::new()).await?;
    let sent = world.server.metric("xds_response_resources_total")?;
    assert!(
        (sent - 2.0).abs() < 0.1 || (sent - 3.0).abs() < 0.1,
        "expected a table, a removed cluster and maybe its endpoints, not {sent} resources"
    );
    let (status, _) = http::get(world.ports[1], "/").await?;
    assert_eq!(status, 200);
    world.envoy.stop().await
}

#[tokio::test]
async fn envoy_is_ready_once_it_has_a_configuration() -> Result<()> {
    let mut server = Server::start(settings()).await?;
    let bootstrap = envoy::bootstrap(server.address, Protocol::Delta)?;
    let envoy = Envoy::start("ready", &bootstrap).await?;
    server
        .fleet_is("an Envoy is connected", |state| state.envoys.len() == 1)
        .await?;
    assert!(http::get(envoy.ready, "/ready").await.is_err());
    server.apply(Update::default());
    envoy.becomes_ready().await?;
    let (status, metrics) = http::get(envoy.ready, "/stats/prometheus").await?;
    assert_eq!(status, 200);
    assert!(metrics.contains("envoy_server_live"));
    let (status, _) = http::get(envoy.ready, "/quitquitquit").await?;
    assert_eq!(
        status, 404,
        "other paths of the admin interface are reachable"
    );
    envoy.stop().await
}

#[tokio::test]
async fn all_forms_of_the_bootstrap_are_valid() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let certified = generate_simple_self_signed(vec!["nuncio".to_owned()])?;
    let file = |name: &str, content: &str| -> Result<_> {
        let path = folder.path().join(name);
        fs::write(&path, content)?;
        Ok(path)
    };
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let files = TlsFiles {
        ca: file("ca.crt", &certificate)?,
        certificate: file("tls.crt", &certificate)?,
        key: file("tls.key", &key)?,
    };
    let sds = |name: &str, certificate: Value, ca: Value| -> Result<_> {
        Ok(Tls::Sds(SdsFiles {
            certificate: file(
                &format!("{name}-certificate.json"),
                &certificate.to_string(),
            )?,
            ca: file(&format!("{name}-ca.json"), &ca.to_string())?,
        }))
    };
    let forms = [
        None,
        Some(Tls::Files(files.clone())),
        Some(sds(
            "files",
            SdsFiles::certificate_from(&files),
            SdsFiles::ca_from(&files),
        )?),
        Some(sds(
            "inline",
            SdsFiles::certificate_secret(&certificate, &key),
            SdsFiles::ca_secret(&certificate),
        )?),
    ];
    let xds = SocketAddr::from(([127, 0, 0, 1], 8003));
    for (case, host) in ["nuncio.nuncio-system", "127.0.0.1", "::1"]
        .into_iter()
        .enumerate()
    {
        for protocol in [Protocol::Delta, Protocol::Sotw] {
            for (form, tls) in forms.iter().enumerate() {
                let full = tls.is_some();
                let mut bootstrap = envoy::bootstrap(xds, protocol)?;
                bootstrap.xds = Target::Tcp {
                    host: host.to_owned(),
                    port: 8003,
                };
                bootstrap.ready = bootstrap.ready.filter(|_| full);
                bootstrap.tls.clone_from(tls);
                bootstrap.ambassador_id = full.then(|| "edge".to_owned());
                bootstrap.max_heap_bytes = full.then_some(1 << 30);
                let name = format!("{case}-{protocol:?}-{form}.json");
                let path = file(&name, &bootstrap.to_json().to_string())?;
                let output = Command::new(envoy::program()?)
                    .args(["--mode", "validate", "-c"])
                    .arg(path)
                    .stdout(Stdio::piped())
                    .output()
                    .await
                    .context("failed to start Envoy")?;
                let log = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{name}: {log}");
                assert!(!log.contains("[warning]"), "{name}: {log}");
            }
        }
    }
    Ok(())
}
