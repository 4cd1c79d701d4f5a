//! Keeps the authorities in the Secret, the bundle in the ConfigMap, and the certificates of this replica up to date.
//!
//! Every replica does the same. Secrets are created, or replaced at the version that was read, so that of two replicas with
//! the same step one succeeds; the other reads again. What is in memory serves on while the Secret cannot be used. A Secret
//! without our label was supplied by a user, and is never written. A deleted Secret is made anew, with a new authority: this
//! is how an administrator withdraws one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use nuncio_xds::tls::{Certificates, Pem};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{
    Clock,
    authority::{self, Trusted},
    overlap::Overlap,
    rotation::{Authorities, BUNDLE},
};
use crate::{health::Progress, metrics::Metrics};

/// Name of the Secret and of the ConfigMap.
pub(crate) const NAME: &str = "nuncio-ca";
/// How often both are read.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long the certificates of replicas are valid.
const LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How often they are renewed.
const RENEW: SignedDuration = SignedDuration::from_hours(24);
/// How often a step is tried when other replicas are faster.
const ATTEMPTS: usize = 5;
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const US: &str = "nuncio";
/// Subject of warnings.
const SUBJECT: &str = "certificate authority";

/// Why the Secret or ConfigMap cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("Secret {0}/{NAME}: {1}; fix it, or delete it for a new authority")]
    Invalid(String, #[source] authority::Error),
    #[error("Secret {0}/{NAME}: the authority expired at {1}; supply a new one")]
    Expired(String, Timestamp),
    #[error("request for {what} {NAME} failed: {source}")]
    Request {
        what: &'static str,
        source: Box<kube::Error>,
    },
    #[error("other replicas changed Secret {NAME} at the same time; trying again")]
    Conflicts,
    #[error(transparent)]
    Sign(#[from] authority::Error),
}

/// What this replica serves with.
#[derive(Debug)]
pub(crate) struct Outputs {
    /// The authorities, for certificates of Envoys.
    pub(crate) authorities: watch::Sender<Option<Arc<Authorities>>>,
    /// Certificates of the xDS server.
    pub(crate) xds: watch::Sender<Option<Arc<Certificates>>>,
    /// Certificates of the certificate server.
    pub(crate) certificates: watch::Sender<Option<Arc<Certificates>>>,
}

/// Keeps the authorities and certificates up to date.
pub(crate) struct Keeper {
    pub(crate) secrets: Api<Secret>,
    pub(crate) config_maps: Api<ConfigMap>,
    pub(crate) namespace: String,
    pub(crate) clock: Clock,
    pub(crate) outputs: Outputs,
    /// The certificate of this replica.
    pub(crate) own: Option<Own>,
    /// What a user has replaced.
    pub(crate) overlap: Overlap,
    pub(crate) progress: Progress,
    pub(crate) metrics: Metrics,
    /// The error that was logged.
    pub(crate) problem: Option<String>,
}

/// The certificate of a replica.
#[derive(Debug)]
pub(crate) struct Own {
    signed: Timestamp,
    by: Trusted,
    bundle: String,
}

impl Keeper {
    /// A keeper that has read nothing yet.
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        clock: Clock,
        outputs: Outputs,
        progress: Progress,
        metrics: Metrics,
    ) -> Self {
        progress.hold(SUBJECT, format!("reading Secret {namespace}/{NAME}"));
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            clock,
            outputs,
            own: None,
            overlap: Overlap::default(),
            progress,
            metrics,
            problem: None,
        }
    }

    /// Keeps them up to date until the task is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let result = self.update().await;
            self.report(result);
            sleep(INTERVAL).await;
        }
    }

    /// Reads both, takes the steps that are due, and renews the certificate of this replica.
    pub(crate) async fn update(&mut self) -> Result<(), Error> {
        let now = (self.clock)();
        let (uid, mut authorities) = match self.read(now).await {
            Ok(found) => found,
            Err(error) => {
                // what is in memory serves on
                let known = self.outputs.authorities.borrow().clone();
                if let Some(known) = known {
                    self.certify(&known, now)?;
                }
                return Err(error);
            }
        };
        // all replicas must publish the same; Envoys that have certificates of a replaced authority got it with them
        let published = authorities.bundle();
        let replaced = self.overlap.trusted(&uid, &authorities, now);
        authorities.trust(replaced);
        let authorities = Arc::new(authorities);
        self.outputs
            .authorities
            .send_replace(Some(authorities.clone()));
        self.certify(&authorities, now)?;
        self.progress.release(SUBJECT);
        self.publish(&published).await
    }

    /// The UID of the Secret, and the authorities after all steps that are due.
    async fn read(&self, now: Timestamp) -> Result<(String, Authorities), Error> {
        let failed = |source| Error::Request {
            what: "Secret",
            source: Box::new(source),
        };
        for _ in 0..ATTEMPTS {
            let secret = self.secrets.get_opt(NAME).await.map_err(failed)?;
            let Some(secret) = secret else {
                let authorities = Authorities::create(now)?;
                let secret = Secret {
                    metadata: metadata(),
                    type_: Some("kubernetes.io/tls".to_owned()),
                    data: Some(authorities.data()),
                    ..Secret::default()
                };
                let created = self.secrets.create(&PostParams::default(), &secret).await;
                if is_first(created).map_err(failed)? {
                    info!(namespace = %self.namespace, name = NAME, "created a certificate authority");
                }
                continue;
            };
            let labels = secret.metadata.labels.as_ref();
            let is_own = labels
                .and_then(|labels| labels.get(MANAGED_BY))
                .is_some_and(|by| by == US);
            let data = secret.data.clone().unwrap_or_default();
            let authorities = Authorities::parse(&data, is_own)
                .map_err(|source| Error::Invalid(self.namespace.clone(), source))?;
            let Some(step) = authorities.due(now) else {
                let not_after = authorities.signing().certificate().not_after;
                if not_after <= now {
                    return Err(Error::Expired(self.namespace.clone(), not_after));
                }
                let uid = secret.metadata.uid.unwrap_or_default();
                return Ok((uid, authorities));
            };
            let authorities = authorities.step(step, now)?;
            let secret = Secret {
                data: Some(authorities.data()),
                ..secret
            };
            // the resource version makes the request fail if another replica was faster
            let replaced = self
                .secrets
                .replace(NAME, &PostParams::default(), &secret)
                .await;
            if is_first(replaced).map_err(failed)? {
                info!(namespace = %self.namespace, name = NAME, ?step, "rotated the certificate authority");
            }
            // further steps can be due
        }
        Err(Error::Conflicts)
    }

    /// Renews the certificate of this replica if its authority or what is trusted has changed, or it is old.
    fn certify(&mut self, authorities: &Authorities, now: Timestamp) -> Result<(), Error> {
        let signing = authorities.signing();
        let not_after = signing.certificate().not_after;
        self.metrics.identity_authority(not_after.as_second());
        let bundle = authorities.bundle();
        let is_current = |own: &Own| {
            own.by == *signing.certificate()
                && own.bundle == bundle
                && own.signed.duration_since(now).abs() < RENEW
        };
        if self.own.as_ref().is_some_and(is_current) {
            return Ok(());
        }
        let key = KeyPair::generate().map_err(authority::Error::Sign)?;
        let names = server_names(&self.namespace).map_err(authority::Error::Sign)?;
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let chain = signing.sign(&key, names, usage, now, LIFETIME)?;
        let pem = |text: String| Pem {
            origin: format!("Secret {}/{NAME}", self.namespace),
            text: text.into_bytes(),
        };
        let certificates = Certificates {
            certificate: pem(chain),
            key: pem(key.serialize_pem()),
            client_ca: None,
        };
        self.outputs
            .certificates
            .send_replace(Some(Arc::new(certificates.clone())));
        self.outputs.xds.send_replace(Some(Arc::new(Certificates {
            client_ca: Some(pem(bundle.clone())),
            ..certificates
        })));
        self.own = Some(Own {
            signed: now,
            by: signing.certificate().clone(),
            bundle,
        });
        Ok(())
    }

    /// Writes the bundle to the ConfigMap, from which Envoys get it.
    async fn publish(&self, bundle: &str) -> Result<(), Error> {
        let failed = |source| Error::Request {
            what: "ConfigMap",
            source: Box::new(source),
        };
        let found = self.config_maps.get_opt(NAME).await.map_err(failed)?;
        let data = Some(BTreeMap::from([(BUNDLE.to_owned(), bundle.to_owned())]));
        let params = PostParams::default();
        let written = match found {
            Some(found) if found.data == data => return Ok(()),
            Some(found) => {
                let changed = ConfigMap { data, ..found };
                self.config_maps.replace(NAME, &params, &changed).await
            }
            None => {
                let config_map = ConfigMap {
                    metadata: metadata(),
                    data,
                    ..ConfigMap::default()
                };
                self.config_maps.create(&params, &config_map).await
            }
        };
        // another replica that was faster has written the same, or will be corrected next time
        is_first(written).map(drop).map_err(failed)
    }

    /// Shows a failure in the log, in readiness and in a metric until the next success.
    fn report(&mut self, result: Result<(), Error>) {
        let Err(error) = result else {
            if self.problem.take().is_some() {
                info!("certificate authority is usable again");
                self.metrics.identity_problem(false);
                self.metrics.missing_permission("secrets", SUBJECT, false);
                self.metrics
                    .missing_permission("configmaps", SUBJECT, false);
                self.progress.settle(SUBJECT);
            }
            return;
        };
        if let Error::Request { what, source } = &error {
            let is_forbidden = matches!(&**source, kube::Error::Api(status) if status.code == 403);
            let resource = if *what == "Secret" {
                "secrets"
            } else {
                "configmaps"
            };
            self.metrics
                .missing_permission(resource, SUBJECT, is_forbidden);
        }
        let text = error.to_string();
        let outcome = match self.own {
            Some(_) => "using the previous one",
            None => "no Envoy can connect",
        };
        if self.problem.as_ref() != Some(&text) {
            warn!(error = %text, outcome, "certificate authority is unusable; retrying");
        }
        self.metrics.identity_problem(true);
        if self.own.is_none() {
            self.progress.hold(SUBJECT, text.clone());
        } else {
            self.progress
                .warn(SUBJECT, format!("{SUBJECT}: {text}; {outcome}"));
        }
        self.problem = Some(text);
    }
}

fn metadata() -> ObjectMeta {
    ObjectMeta {
        name: Some(NAME.to_owned()),
        labels: Some([(MANAGED_BY.to_owned(), US.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

/// Whether no other replica was faster.
fn is_first<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        // deleted in between
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

/// The names of the Service that Envoys connect to.
fn server_names(namespace: &str) -> Result<Vec<SanType>, rcgen::Error> {
    let names = ["", ".NS", ".NS.svc", ".NS.svc.cluster.local"];
    names
        .iter()
        .map(|rest| format!("nuncio-xds{}", rest.replace("NS", namespace)))
        .map(|name| Ok(SanType::DnsName(name.try_into()?)))
        .collect()
}

#[cfg(test)]
mod tests;
