//! Keeps the authority in the Secret, and the certificate of this replica. What this replica serves and what the apiserver
//! trusts never disagree:
//!
//! ```text
//!  Secret: authorities ─► leader: caBundle of the definitions (inject) ─► this replica sees that all of them trust the new
//!  authority, and has seen it for SETTLE, because apiservers learn at different times ─► it serves a certificate of it
//! ```
//!
//! Until then it serves on with the authority before, which it has in memory, and which definitions trust for a while after
//! it is gone from the Secret. In a planned rotation the next authority is trusted for days before it signs.
//!
//! The leader makes and rotates the authority; all replicas read it. Deleting the Secret withdraws an authority.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
    runtime::reflector::Store,
};
use nuncio_xds::tls::{Certificates, Pem};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, SanType};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tracing::{info, warn};

use super::{
    definition::{Definition, Reference, Strategy},
    metrics::Metrics,
};
use crate::{
    health::Progress,
    identity::{
        Clock,
        authority::{self, Trusted},
        rotation::Authorities,
    },
};

/// Name of the Secret, as in Emissary-ingress.
pub(super) const SECRET: &str = "emissary-ingress-webhook-ca";
/// How often the definitions are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often the Secret is read, in ticks.
const READ: u32 = 6;
/// How long definitions must have trusted an authority before a certificate of it is served.
const SETTLE: Duration = Duration::from_secs(5);
/// How long certificates of replicas are valid.
const LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How often they are renewed.
const RENEW: SignedDuration = SignedDuration::from_hours(24);
/// How often a step is tried when another replica is faster.
const ATTEMPTS: usize = 5;
/// What replicas do that do not lead.
const WAITING: &str = "waiting for the leader to make it";
/// Subject of what is missing.
const AUTHORITY: &str = "certificate authority";
/// The same for the definitions.
const DEFINITIONS: &str = "CustomResourceDefinitions";

/// Why the Secret cannot be used.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("there is no Secret {0}/{SECRET}; {1}")]
    Missing(String, &'static str),
    #[error("Secret {0}/{SECRET}: {1}")]
    Invalid(String, #[source] authority::Error),
    #[error("Secret {0}/{SECRET}: the authority expired at {1}")]
    Expired(String, Timestamp),
    #[error("request for Secret {SECRET} failed: {0}")]
    Request(#[from] kube::Error),
    #[error("Secret {SECRET} was changed at the same time; trying again")]
    Conflicts,
    #[error(transparent)]
    Sign(#[from] authority::Error),
}

/// Definitions that must call our Service, once they are known.
type Called = Option<Vec<Arc<Definition>>>;

/// What this replica serves with.
struct Served {
    authorities: Arc<Authorities>,
    signed: Timestamp,
    not_after: Timestamp,
}

impl Served {
    fn by(&self) -> &Trusted {
        self.authorities.signing().certificate()
    }
}

/// Keeps a replica from being ready until a keeper finds that it is.
pub(super) fn hold(progress: &Progress) {
    progress.hold(AUTHORITY, format!("reading Secret {SECRET}"));
    progress.hold(DEFINITIONS, "listing");
}

/// Keeps the authority, and what this replica serves with.
pub(super) struct Keeper {
    pub(super) secrets: Api<Secret>,
    pub(super) service: Reference,
    pub(super) clock: Clock,
    /// The definitions, as this replica knows them.
    pub(super) definitions: Store<Definition>,
    /// Whether definitions are patched.
    pub(super) manages_definitions: bool,
    /// Whether the authority is made and renewed at all.
    pub(super) manages: bool,
    /// Whether this replica leads.
    pub(super) leading: watch::Receiver<bool>,
    pub(super) authorities: watch::Sender<Option<Arc<Authorities>>>,
    pub(super) certificates: watch::Sender<Option<Arc<Certificates>>>,
    pub(super) progress: Progress,
    pub(super) metrics: Metrics,
    pub(super) state: KeeperState,
}

/// What a keeper remembers.
#[derive(Default)]
pub(super) struct KeeperState {
    served: Option<Served>,
    /// An authority that all definitions trust, and since when this replica knows.
    trusted: Option<(Trusted, Instant)>,
    /// The error that was logged.
    problem: Option<String>,
    /// Whether the definitions were once as they must be. What happens to them later does not end readiness, because
    /// another replica could not do better.
    is_called: bool,
}

impl Keeper {
    /// Keeps them up to date until the task is dropped.
    pub(super) async fn run(mut self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut until_read = 0;
        let mut leading = self.leading.clone();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Ok(()) = leading.changed() => until_read = 0,
            }
            if until_read == 0 {
                until_read = READ;
                let read = self.read().await;
                self.report(read);
            }
            until_read -= 1;
            let now = (self.clock)();
            if let Err(error) = self.certify(now, Instant::now()) {
                warn!(%error, "failed to sign a certificate; using the previous one");
            }
        }
    }

    /// Reads the Secret, and takes the steps that are due.
    async fn read(&mut self) -> Result<(), Error> {
        let now = (self.clock)();
        let writes = self.manages && *self.leading.borrow();
        let namespace = &self.service.namespace;
        for _ in 0..ATTEMPTS {
            let Some(secret) = self.secrets.get_opt(SECRET).await? else {
                if !writes {
                    let outcome = match self.manages {
                        true => WAITING,
                        false => "DISABLE_CA_MANAGEMENT is set, so another program must make it",
                    };
                    return Err(Error::Missing(namespace.clone(), outcome));
                }
                let secret = self.secret(&Authorities::create(now)?);
                if is_first(self.secrets.create(&PostParams::default(), &secret).await)? {
                    info!(%namespace, name = SECRET, "created a certificate authority");
                }
                continue;
            };
            let data = secret.data.clone().unwrap_or_default();
            let parsed = Authorities::parse(&data, self.manages);
            let parsed = parsed.and_then(|authorities| {
                let is_early = authorities.signing().certificate().is_early(now);
                if is_early {
                    Err(authority::Error::Early("tls.crt"))
                } else {
                    Ok(authorities)
                }
            });
            let (authorities, step) = match parsed {
                Ok(authorities) => match authorities.due(now) {
                    Some(step) if writes => (authorities.step(step, now)?, format!("{step:?}")),
                    _ => return self.accept(authorities, now),
                },
                Err(error) if writes => {
                    warn!(%namespace, name = SECRET, %error, "invalid certificate authority; replacing it");
                    (Authorities::create(now)?, "Replace".to_owned())
                }
                Err(error) => return Err(Error::Invalid(namespace.clone(), error)),
            };
            let changed = Secret {
                data: Some(authorities.data()),
                ..secret
            };
            // the resource version makes the request fail if another replica was faster
            let parameters = PostParams::default();
            if is_first(self.secrets.replace(SECRET, &parameters, &changed).await)? {
                info!(%namespace, name = SECRET, step, "rotated the certificate authority");
            }
            // further steps can be due
        }
        Err(Error::Conflicts)
    }

    fn accept(&self, authorities: Authorities, now: Timestamp) -> Result<(), Error> {
        let not_after = authorities.signing().certificate().not_after;
        if not_after <= now {
            return Err(Error::Expired(self.service.namespace.clone(), not_after));
        }
        let bundle = authorities.bundle();
        self.authorities.send_if_modified(|known| {
            let is_known = known.as_ref().is_some_and(|known| {
                known.bundle() == bundle
                    && known.signing().certificate() == authorities.signing().certificate()
            });
            if !is_known {
                *known = Some(Arc::new(authorities));
            }
            !is_known
        });
        Ok(())
    }

    fn secret(&self, authorities: &Authorities) -> Secret {
        Secret {
            metadata: ObjectMeta {
                name: Some(SECRET.to_owned()),
                labels: Some(
                    [("app.kubernetes.io/managed-by", "nuncio")]
                        .map(|(key, value)| (key.to_owned(), value.to_owned()))
                        .into(),
                ),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/tls".to_owned()),
            data: Some(authorities.data()),
            ..Secret::default()
        }
    }

    /// Shows a failure in the log, in readiness and in a metric until the next success.
    fn report(&mut self, result: Result<(), Error>) {
        let Err(error) = result else {
            if self.state.problem.take().is_some() {
                info!("certificate authority is usable again");
            }
            self.metrics.problem(false);
            self.progress.settle(AUTHORITY);
            return;
        };
        let text = error.to_string();
        let outcome = match self.state.served {
            Some(_) => "serving with the one before",
            None => "no object is converted",
        };
        // at the first start the leader is about to make it
        let is_early = self.state.served.is_none() && matches!(error, Error::Missing(_, WAITING));
        if self.state.problem.as_ref() != Some(&text) {
            if is_early {
                info!(reason = %text, "waiting for the certificate authority");
            } else {
                warn!(error = %text, outcome, "certificate authority is unusable; retrying");
            }
        }
        self.metrics.problem(!is_early);
        if self.state.served.is_none() {
            self.progress.hold(AUTHORITY, text.clone());
        } else {
            let warning = format!("{AUTHORITY}: {text}; {outcome}");
            self.progress.warn(AUTHORITY, warning);
        }
        self.state.problem = Some(text);
    }

    /// Renews the certificate of this replica if it is old, or if the apiserver trusts another authority by now.
    fn certify(&mut self, now: Timestamp, at: Instant) -> Result<(), authority::Error> {
        let called = self.called();
        self.count();
        let Some(wanted) = self.authorities.borrow().clone() else {
            return Ok(());
        };
        let new = wanted.signing().certificate();
        let is_settled = self.is_settled(&called, new, at);
        let authorities = match &self.state.served {
            None => wanted,
            Some(served) if served.by() == new => wanted,
            Some(served) => {
                let old = served.by();
                let trust = |authority| self.is_trusted(&called, authority);
                // an external injector may have replaced the one by the other
                let is_replaced = !trust(old) && trust(new);
                match is_settled || is_replaced || served.not_after <= now {
                    true => wanted,
                    false => served.authorities.clone(),
                }
            }
        };
        self.settle(&called, &authorities, is_settled);
        let is_current = |served: &Served| {
            served.by() == authorities.signing().certificate()
                && served.signed.duration_since(now).abs() < RENEW
                && served.not_after > now
        };
        if self.state.served.as_ref().is_some_and(is_current) {
            return Ok(());
        }
        self.sign(authorities, now)
    }

    /// The definitions that must call our Service; `None` before all are known.
    fn called(&self) -> Called {
        // completes at once, or not at all for now
        let is_listed = self.definitions.wait_until_ready().now_or_never();
        is_listed?.ok()?;
        let mut called = self.definitions.state();
        called.retain(|one| one.strategy() == Strategy::Webhook);
        // another program can have its reasons to call another Service
        if !self.manages_definitions && called.iter().any(|one| one.calls(&self.service)) {
            called.retain(|one| one.calls(&self.service));
        }
        Some(called)
    }

    /// Whether all of these definitions call our Service and trust an authority.
    fn is_trusted(&self, called: &Called, authority: &Trusted) -> bool {
        called.as_ref().is_some_and(|called| {
            called
                .iter()
                .all(|one| one.calls(&self.service) && one.trusted().contains(authority))
        })
    }

    /// Whether all of them have trusted this authority for long enough.
    fn is_settled(&mut self, called: &Called, authority: &Trusted, at: Instant) -> bool {
        if !self.is_trusted(called, authority) {
            self.state.trusted = None;
            return false;
        }
        let since = match &self.state.trusted {
            Some((known, since)) if known == authority => *since,
            _ => {
                self.state.trusted = Some((authority.clone(), at));
                at
            }
        };
        // where nothing is called, nobody has to learn of it
        called.as_ref().is_some_and(Vec::is_empty) || at.duration_since(since) >= SETTLE
    }

    /// Shows in readiness whether the apiserver can call this replica.
    fn settle(&mut self, called: &Called, serving: &Authorities, is_settled: bool) {
        if is_settled {
            self.state.is_called = true;
            self.progress.release(DEFINITIONS);
            self.progress.settle(DEFINITIONS);
            return;
        }
        let by = serving.signing().certificate();
        let Some(called) = called else {
            return;
        };
        let names = |is_meant: &dyn Fn(&Definition) -> bool| {
            let meant = called.iter().filter(|one| is_meant(one));
            let names: Vec<&str> = meant.map(|one| one.name()).collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let elsewhere = names(&|one| !one.calls(&self.service));
        let distrusting = names(&|one| !one.trusted().contains(by));
        let is_well = elsewhere.is_none() && distrusting.is_none();
        let text = match (elsewhere, distrusting) {
            (Some(names), _) => {
                let Reference {
                    namespace, name, ..
                } = &self.service;
                format!("conversion does not call Service {namespace}/{name}: {names}")
            }
            (None, Some(names)) => {
                format!("caBundle does not have the authority that signs: {names}")
            }
            (None, None) => "every apiserver must learn of the new caBundle first".to_owned(),
        };
        if self.state.is_called {
            if is_well {
                self.progress.settle(DEFINITIONS);
            } else {
                let warning = format!("{DEFINITIONS}: {text}");
                self.progress.warn(DEFINITIONS, warning);
            }
        } else {
            self.progress.hold(DEFINITIONS, text);
        }
    }

    /// Counts definitions.
    fn count(&self) {
        let all = self.definitions.state();
        let count = |state, is_meant: &dyn Fn(&Definition) -> bool| {
            let number = all.iter().filter(|one| is_meant(one)).count();
            self.metrics.definitions(state, number);
        };
        let webhook = |one: &Definition| one.strategy() == Strategy::Webhook;
        count("called", &|one| one.calls(&self.service));
        count("elsewhere", &|one| {
            webhook(one) && !one.calls(&self.service)
        });
        count("strategy_none", &|one| one.strategy() == Strategy::Relabel);
        count("stored_unconverted", &|one| !one.unconverted().is_empty());
    }

    /// Signs a certificate for this replica.
    fn sign(
        &mut self,
        authorities: Arc<Authorities>,
        now: Timestamp,
    ) -> Result<(), authority::Error> {
        let signing = authorities.signing();
        let key = KeyPair::generate()?;
        let names = self.names()?;
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        let chain = signing.sign(&key, names, usage, now, LIFETIME)?;
        let pem = |text: String| Pem {
            origin: format!("Secret {}/{SECRET}", self.service.namespace),
            text: text.into_bytes(),
        };
        let authority = signing.certificate().not_after;
        let not_after = authority.min(now + LIFETIME);
        self.certificates.send_replace(Some(Arc::new(Certificates {
            certificate: pem(chain),
            key: pem(key.serialize_pem()),
            client_ca: None,
        })));
        self.metrics
            .certificates(not_after.as_second(), authority.as_second());
        self.progress.release(AUTHORITY);
        self.state.served = Some(Served {
            authorities,
            signed: now,
            not_after,
        });
        Ok(())
    }

    /// The names of the Service.
    fn names(&self) -> Result<Vec<SanType>, rcgen::Error> {
        let Reference {
            namespace, name, ..
        } = &self.service;
        [
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}"),
            name.clone(),
        ]
        .into_iter()
        .map(|name| Ok(SanType::DnsName(name.try_into()?)))
        .collect()
    }
}

/// Whether no other replica was faster.
fn is_first<T>(result: Result<T, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        // changed, made or deleted in between
        Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
