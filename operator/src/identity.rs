//! Identity of Envoys: an authority of our own signs a certificate for each pod, and only those certificates may have the
//! configuration. A ServiceAccount token and a public key come in; a certificate with the pod's name goes out (`server`), and
//! `policy` compares it with each stream.
//!
//! - `authority` and `rotation` are pure; `keeper` holds them in the Secret `nuncio-ca`, and publishes what is trusted in the
//!   ConfigMap `nuncio-ca`, which Envoy pods mount. After a user has replaced an authority, `overlap` keeps the one before.
//! - Every validity begins 25 hours in the past, so that a clock that is a day behind does no harm. Certificates of Envoys are
//!   valid for 24 hours: an Envoy that cannot connect asks for another one, with which a clock that is ahead does none either.
//! - Certificates are not revoked. A pod that is gone has one for 24 hours at most, but the network and `node.id` are not its
//!   own any more; deleting the Secret withdraws all certificates at once.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use jiff::Timestamp;
use kube::Client;
use nuncio_xds::tls::{Acceptor, Renewed, Tls};
use tokio::{net::TcpListener, sync::watch};
use tracing::info;

use crate::{health::Progress, http_server, metrics::Metrics, run::Tasks};

mod allowed;
pub(crate) mod authority;
mod keeper;
mod name;
mod overlap;
mod policy;
pub(crate) mod rotation;
mod server;
mod throttles;
mod token;

#[cfg(test)]
pub(crate) mod testing;

pub use allowed::{Allowed, EnvoyAccount, client_name};
pub use name::{InvalidServiceAccount, ServiceAccount};
pub use policy::{Peers, Policy};

use self::{
    keeper::{Keeper, Outputs},
    server::Server,
};

/// Name of the ServiceAccount of Envoys.
pub const ENVOY_SERVICE_ACCOUNT: &str = "nuncio-envoy";

/// What time it is.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The identity of Envoys, before it is started.
pub struct Identity {
    namespace: String,
    address: SocketAddr,
    accounts: BTreeMap<ServiceAccount, Allowed>,
    outputs: Outputs,
    certificates: Renewed,
}

impl Identity {
    /// An authority in `namespace` that signs on `address` for pods of these ServiceAccounts, each of its fleets.
    #[must_use]
    pub fn new(
        namespace: &str,
        address: SocketAddr,
        accounts: BTreeMap<ServiceAccount, Allowed>,
    ) -> Self {
        let (certificates_sender, certificates) = watch::channel(None);
        Self {
            namespace: namespace.to_owned(),
            address,
            accounts,
            outputs: Outputs {
                authorities: watch::channel(None).0,
                xds: watch::channel(None).0,
                certificates: certificates_sender,
            },
            certificates,
        }
    }

    /// Certificates of the xDS server.
    #[must_use]
    pub fn xds_tls(&self) -> Tls {
        Tls::Renewed(self.outputs.xds.subscribe())
    }

    /// Whose certificates the xDS server accepts.
    #[must_use]
    pub fn peers(&self) -> Peers {
        Peers::Pods(self.accounts.clone())
    }

    /// Starts the certificate server, and what keeps the authority.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(
        self,
        tasks: &mut Tasks,
        client: Client,
        progress: Progress,
        metrics: Metrics,
    ) -> anyhow::Result<()> {
        let address = self.address;
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}; set another address with --certificate-address")
        })?;
        let address = listener.local_addr()?;
        info!(certificates = %address, accounts = ?self.accounts.keys(), "signing certificates for Envoys");
        let clock: Clock = Arc::new(Timestamp::now);
        let server = Server::new(
            client.clone(),
            clock.clone(),
            self.outputs.authorities.subscribe(),
            self.accounts.into_keys().collect(),
            metrics.clone(),
        );
        let tls = Arc::new(Acceptor::new(Tls::Renewed(self.certificates), b"http/1.1")?);
        let following = tls.clone();
        tasks.start_endless("certificates of the certificate server", async move {
            following.follow(std::time::Duration::MAX).await;
        });
        let stop = tasks.stop.clone();
        tasks.start("certificate server", async move {
            let router = server.router();
            http_server::serve_tls(
                listener,
                tls,
                router,
                server::LIMITS,
                stop.cancelled_owned(),
            )
            .await;
            Ok(())
        });
        let keeper = Keeper::new(
            client,
            &self.namespace,
            clock,
            self.outputs,
            progress,
            metrics,
        );
        tasks.start_endless("certificate authority", keeper.run());
        Ok(())
    }
}
