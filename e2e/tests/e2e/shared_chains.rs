//! Many Hosts with one certificate: they share a filter chain, and the server name of a connection selects the route table.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use nuncio_e2e::{
    backend::Backend,
    certificate::{Authority, secret},
    client::{Connection, Load, open_tls, tls_config},
    wait::until,
};
use rustls::ClientConfig;

use crate::{
    Space,
    fixture::{mapping, object, tls_host},
    status::condition,
};

/// Names with a Host; more than it takes to share a chain.
const NAMES: usize = 12;

/// The names of a test, and what they have in common.
struct Shared {
    domain: &'static str,
    backend: &'static str,
    authority: Authority,
    config: Arc<ClientConfig>,
}

impl Shared {
    fn new(domain: &'static str, backend: &'static str) -> Result<Self> {
        let authority = Authority::new()?;
        let config = Arc::new(tls_config(&authority.der(), None)?);
        Ok(Self {
            domain,
            backend,
            authority,
            config,
        })
    }

    fn name(&self, id: &str) -> String {
        format!("{id}.{}", self.domain)
    }

    /// The Secret that all have, and another.
    fn secrets(&self, space: &Space) -> Result<String> {
        let names = [self.name("*"), self.name("*.b")];
        let secret = |name: &str| -> Result<String> {
            let certificate = self.authority.issue(&[&names[0], &names[1]])?;
            Ok(certificate.secret(&space.namespace, name))
        };
        Ok(secret("shared")? + &secret("own")?)
    }

    /// A Mapping that rewrites to its ID, so that answers tell which one was selected.
    fn mapping(&self, id: &str) -> String {
        let rewrite = format!(", rewrite: /at-{id}/");
        mapping(id, &self.name(id), "/", self.backend, &rewrite)
    }

    /// A Host with this Secret and its Mapping; `more` goes into the spec of the Host.
    fn host(&self, id: &str, secret: &str, more: &str) -> String {
        let hostname = self.name(id);
        let spec = format!("hostname: {hostname}, tlsSecret: {{name: {secret}}}{more}");
        object("Host", id, &spec) + &self.mapping(id)
    }

    fn all(&self) -> String {
        let ids = (0..NAMES).map(|number| format!("shared-{number}"));
        ids.map(|id| self.host(&id, "shared", "")).collect()
    }

    /// A Host for all names below the domain, with a certificate of its own, and its Mapping.
    fn wildcard(&self) -> String {
        let hostname = format!("'{}'", self.name("*"));
        let rewrite = ", rewrite: /at-wildcard/";
        tls_host("own", &self.name("*"), "")
            + &mapping("wildcard", &hostname, "/", self.backend, rewrite)
    }

    async fn open(&self, space: &Space, id: &str) -> Result<Connection> {
        Connection::open_tls(&space.https(), &self.name(id), self.config.clone()).await
    }

    /// Waits until a new connection for a name is served by this Mapping.
    async fn serves(&self, space: &Space, id: &str, mapping: &str) -> Result<()> {
        let host = self.name(id);
        until(&format!("{host} at {mapping}"), || async {
            let answer = self.open(space, id).await?.get(&host, "/a").await?;
            let expected = format!("up GET /at-{mapping}/a");
            ensure!(answer.body == expected, "{} {}", answer.status, answer.body);
            Ok(())
        })
        .await
    }

    /// Waits until the Envoys have all Hosts. Before that, another Host that comes can replace the chain of a connection.
    async fn all_are_programmed(&self, space: &Space) -> Result<()> {
        let hosts = (0..NAMES).map(|number| format!("host/shared-{number}"));
        for host in hosts.chain(["host/own".to_owned()]) {
            condition(space, &host, "Programmed", "True", "").await?;
        }
        Ok(())
    }

    /// Waits until requests of a connection that stays open are answered with this status.
    async fn becomes(&self, connection: &mut Connection, id: &str, status: u16) -> Result<()> {
        let host = self.name(id);
        for _ in 0..400 {
            let answer = connection.get(&host, "/a").await?;
            if answer.status == status {
                return Ok(());
            }
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        anyhow::bail!("{host} is never answered with {status}")
    }
}

pub(crate) async fn names_with_one_certificate_share_a_chain(space: &Space) -> Result<()> {
    let shared = Shared::new("one.shared.example", "10.96.99.1")?;
    let _backend = Backend::start("10.96.99.1:80", "up").await?;
    let ca = secret(
        &space.namespace,
        "ca",
        "Opaque",
        &[("ca.crt", &*shared.authority.pem())],
    );
    let verified = ", tls: {ca_secret: ca, cert_required: true}";
    let manifests = [
        shared.secrets(space)?,
        ca,
        shared.all(),
        shared.wildcard(),
        shared.host("alone", "own", ""),
        shared.host("verified", "shared", verified),
    ];
    space.apply(&manifests.concat())?;
    shared.all_are_programmed(space).await?;
    for host in ["host/alone", "host/verified"] {
        condition(space, host, "Programmed", "True", "").await?;
    }
    until("the shared chain", || async {
        let dump = space.gateway.envoy.admin("/config_dump").await?;
        ensure!(dump.contains("/shared-"), "no chain is shared");
        Ok(())
    })
    .await?;
    for (id, mapping) in [
        ("shared-3", "shared-3"),
        ("SHARED-4", "shared-4"),
        ("alone", "alone"),
        ("other", "wildcard"),
        ("a.b", "wildcard"),
    ] {
        shared.serves(space, id, mapping).await?;
    }
    // who presents no certificate is rejected, whatever others on the chain of the certificate may do
    let refused = async {
        let mut connection = shared.open(space, "verified").await?;
        connection.get(&shared.name("verified"), "/a").await
    };
    ensure!(
        refused.await.is_err(),
        "a client without certificate is served"
    );
    // a connection is for one name, and clients do not select tables themselves
    let mut connection = shared.open(space, "shared-5").await?;
    for name in ["shared-6", "verified", "alone"] {
        let answer = connection.get(&shared.name(name), "/a").await?;
        ensure!(answer.status == 421, "{name}: {}", answer.status);
    }
    let header = [(
        "x-nuncio-route-table",
        "tcp-8443/tls/shared-6.one.shared.example",
    )];
    let answer = connection
        .get_with(&shared.name("shared-5"), "/a", &header)
        .await?;
    ensure!(answer.body == "up GET /at-shared-5/a", "{answer:?}");
    // a spelling of the header `Host` is none of the server name
    let host = shared.name("SHARED-5");
    let answer = connection.get(&host, "/a").await?;
    ensure!(answer.body == "up GET /at-shared-5/a", "{answer:?}");
    Ok(())
}

pub(crate) async fn names_come_and_go_on_a_shared_chain_without_a_lost_request(
    space: &Space,
) -> Result<()> {
    let shared = Shared::new("moving.shared.example", "10.96.99.2")?;
    let _backend = Backend::start("10.96.99.2:80", "up").await?;
    let manifests = [shared.secrets(space)?, shared.all(), shared.wildcard()];
    space.apply(&manifests.concat())?;
    shared.all_are_programmed(space).await?;
    for number in 0..NAMES {
        let id = format!("shared-{number}");
        shared.serves(space, &id, &id).await?;
    }
    shared.serves(space, "coming", "wildcard").await?;
    let config = ClientConfig::clone(&shared.config);
    let address = space.https();
    let name = |id: &str| shared.name(id);
    let kept = Load::start_tls(&address, &name("shared-0"), "/a", config.clone());
    // new connections for names that a wildcard serves until they have a Host, and again after it
    let new = ["coming", "shared-1"]
        .map(|id| Load::start_handshakes(&address, &name(id), "/a", config.clone()));
    for round in 0..3 {
        shared.serves(space, "coming", "wildcard").await?;
        let secret = if round == 1 { "own" } else { "shared" };
        space.apply(&shared.host("coming", secret, ""))?;
        shared.serves(space, "coming", "coming").await?;
        space.delete("host/coming")?;
        space.delete("mapping/coming")?;
        shared.serves(space, "coming", "wildcard").await?;
    }
    for load in new {
        load.finish().await.context("new connections")?;
    }
    let sent = kept.finish().await.context("a Host that stays")?;
    ensure!(
        sent.connections == 1,
        "{sent:?}: other Hosts close connections"
    );
    Ok(())
}

/// A connection that is older than a change of its name's terms does not keep the old ones.
pub(crate) async fn connections_of_a_name_that_leaves_are_misdirected(space: &Space) -> Result<()> {
    let shared = Shared::new("leaving.shared.example", "10.96.99.3")?;
    let _backend = Backend::start("10.96.99.3:80", "up").await?;
    let ca = secret(
        &space.namespace,
        "ca",
        "Opaque",
        &[("ca.crt", &*shared.authority.pem())],
    );
    let manifests = [shared.secrets(space)?, ca, shared.all(), shared.wildcard()];
    space.apply(&manifests.concat())?;
    shared.all_are_programmed(space).await?;
    for id in ["shared-1", "shared-2", "shared-3"] {
        shared.serves(space, id, id).await?;
    }
    let mut moved = shared.open(space, "shared-1").await?;
    let mut verified = shared.open(space, "shared-2").await?;
    let mut deleted = shared.open(space, "shared-3").await?;
    for (connection, id) in [
        (&mut moved, "shared-1"),
        (&mut verified, "shared-2"),
        (&mut deleted, "shared-3"),
    ] {
        shared.becomes(connection, id, 200).await?;
    }
    let required = ", tls: {ca_secret: ca, cert_required: true}";
    space.apply(&shared.host("shared-1", "own", ""))?;
    space.apply(&shared.host("shared-2", "shared", required))?;
    space.delete("host/shared-3")?;
    shared.becomes(&mut verified, "shared-2", 421).await?;
    shared.becomes(&mut deleted, "shared-3", 421).await?;
    // another certificate of the same name is no reason to open another connection
    shared.becomes(&mut moved, "shared-1", 200).await?;
    let served = async {
        let mut connection = shared.open(space, "shared-2").await?;
        connection.get(&shared.name("shared-2"), "/a").await
    };
    ensure!(
        served.await.is_err(),
        "a client without certificate is served"
    );
    let authority = shared.authority.der();
    let mut now = open_tls(&space.https(), &shared.name("shared-3"), &authority).await?;
    let answer = now.get(&shared.name("shared-3"), "/a").await?;
    ensure!(answer.body == "up GET /at-shared-3/a", "{answer:?}");
    Ok(())
}
