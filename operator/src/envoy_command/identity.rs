//! Keeps the certificates of Envoy's connection to the control plane valid: writes them to files that Envoy watches.
//!
//! Certificates are renewed after two thirds of their validity, by a clock that cannot be set; while the control plane is
//! unavailable, with growing pauses. The files of others (certificate authorities, token) are read again each time: they
//! are replaced while this process runs, and may appear after it has started.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use nuncio_xds::bootstrap::{SdsFiles, TlsFiles};
use rustls::RootCertStore;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use super::{
    arguments::Identity,
    files,
    request::{self, Issued},
    state::State,
};

/// How often files are read again.
const PERIOD: Duration = Duration::from_secs(1);
/// Pauses between requests that fail; jitter at most doubles one.
const BACKOFF: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(250))
    .with_max_delay(Duration::from_secs(15))
    .without_max_times()
    .with_jitter();
/// In which time all Envoys renew their certificates when the certificate authorities have changed.
const SPREAD: Duration = Duration::from_secs(60);

/// Half of the longest [`Keeper::patience`].
const DISCONNECTED: Duration = Duration::from_secs(25);

/// Keeps the certificates of an Envoy.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Where they come from.
    pub(super) identity: Identity,
    /// Where they go.
    pub(super) files: SdsFiles,
    /// What is known about them.
    pub(super) state: State,
    /// Becomes true when Envoy can start.
    pub(super) obtained: watch::Sender<bool>,
    /// How long Envoy may have no connection to the control plane before it gets another certificate: clocks, or certificate
    /// authorities that are new, may be why.
    pub(super) patience: Duration,
}

impl Keeper {
    /// Between 25 and 50 s, so that Envoys do not come at once.
    pub(super) fn patience() -> Duration {
        DISCONNECTED.mul_f64(1.0 + fastrand::f64())
    }

    /// Keeps them until it is dropped.
    pub(super) async fn keep(self) {
        match self.identity.clone() {
            Identity::None => {
                self.obtained.send_replace(true);
                std::future::pending().await
            }
            Identity::Files(files) => self.keep_files(&files).await,
            Identity::Requested { server, ca, token } => {
                let requester = Requester {
                    keeper: self,
                    server,
                    ca,
                    token,
                    trusted: String::new(),
                    issued_ca: String::new(),
                };
                requester.keep().await;
            }
        }
    }

    /// Envoy reads the files itself; they are only checked, because Envoy does not start with invalid ones.
    async fn keep_files(&self, files: &TlsFiles) {
        let mut before = None;
        loop {
            match self.check(files) {
                Ok(not_after) if before != Some(not_after) => {
                    before = Some(not_after);
                    self.state.certified(not_after);
                    self.obtained.send_replace(true);
                }
                Ok(_same) => {}
                Err(error) => self.waiting(&error),
            }
            sleep_until(Instant::now() + PERIOD).await;
        }
    }

    fn check(&self, files: &TlsFiles) -> anyhow::Result<i64> {
        roots(&files::read(&files.ca)?).with_context(|| files.ca.display().to_string())?;
        let (chain, key) = (files::read(&files.certificate)?, files::read(&files.key)?);
        let not_after = request::not_after(&chain, &key)
            .with_context(|| files.certificate.display().to_string())?;
        if !*self.obtained.borrow() {
            let secret = SdsFiles::certificate_from(files);
            files::replace(&self.files.certificate, &secret)?;
            files::replace(&self.files.ca, &SdsFiles::ca_from(files))?;
        }
        Ok(not_after)
    }

    fn waiting(&self, error: &anyhow::Error) {
        if self.state.waiting(&format!("{error:#}")) {
            warn!(error = format!("{error:#}"), "waiting for certificates");
        }
    }
}

/// Requests certificates from the control plane.
#[derive(Debug)]
struct Requester {
    keeper: Keeper,
    /// Host and port of the certificate server.
    server: (String, u16),
    ca: PathBuf,
    token: PathBuf,
    /// The certificate authorities in the file; empty: it has not been read yet.
    trusted: String,
    /// Those that came with the last certificate.
    issued_ca: String,
}

impl Requester {
    async fn keep(mut self) {
        let mut due = Instant::now();
        let mut requested = due;
        let mut pauses = BACKOFF.build();
        loop {
            match self.read_ca() {
                Ok(false) => {}
                // with the authority of the current certificate removed, the control plane would reject it
                Ok(true) if *self.keeper.obtained.borrow() => {
                    due = due.min(Instant::now() + SPREAD.mul_f64(fastrand::f64()));
                }
                Ok(true) => due = Instant::now(),
                Err(error) => self.keeper.waiting(&error),
            }
            let disconnected = self.keeper.state.disconnected();
            if disconnected.is_some_and(|time| time.min(requested.elapsed()) > self.keeper.patience)
            {
                due = Instant::now();
            }
            if due <= Instant::now() && !self.trusted.is_empty() {
                requested = Instant::now();
                due = Instant::now() + self.renew(&mut pauses).await;
            }
            sleep_until(due.min(Instant::now() + PERIOD)).await;
        }
    }

    /// Reads the certificate authorities; whether they have changed. If they cannot be read, the last ones stay.
    fn read_ca(&mut self) -> anyhow::Result<bool> {
        let text = files::read(&self.ca)?;
        if text == self.trusted {
            return Ok(false);
        }
        roots(&text).with_context(|| self.ca.display().to_string())?;
        if !self.trusted.is_empty() {
            info!(file = %self.ca.display(), "certificate authorities changed");
        }
        self.trusted = text;
        if *self.keeper.obtained.borrow() {
            self.write_ca()?;
        }
        Ok(true)
    }

    /// Whom Envoy and this process trust: the file may be a minute older than the control plane, and the last response hours
    /// older than the file.
    fn all_trusted(&self) -> String {
        format!("{}\n{}", self.trusted, self.issued_ca)
    }

    fn write_ca(&self) -> anyhow::Result<()> {
        let secret = SdsFiles::ca_secret(&self.all_trusted());
        files::replace(&self.keeper.files.ca, &secret)
    }

    /// Obtains a certificate; returns when to do it again.
    async fn renew(&mut self, pauses: &mut ExponentialBackoff) -> Duration {
        match self.obtain().await {
            Ok(lifetime) => {
                *pauses = BACKOFF.build();
                self.keeper.obtained.send_replace(true);
                renewal(lifetime, fastrand::f64())
            }
            Err(error) => {
                let error = format!("{error:#}");
                let state = &self.keeper.state;
                state.waiting(&format!("a certificate: {error}"));
                if state.not_certified(&format!("no new certificate: {error}")) {
                    warn!(error, "no certificate obtained; retrying");
                }
                pauses.next().unwrap_or(PERIOD)
            }
        }
    }

    async fn obtain(&mut self) -> anyhow::Result<Duration> {
        let token = files::read(&self.token)?;
        let roots = roots(&self.all_trusted())?;
        let (host, port) = &self.server;
        let Issued {
            chain,
            key,
            ca,
            not_after,
            lifetime,
        } = request::certificate((host, *port), roots, token.trim()).await?;
        self.issued_ca = ca;
        self.write_ca()?;
        let secret = SdsFiles::certificate_secret(&chain, &key);
        files::replace(&self.keeper.files.certificate, &secret)?;
        self.keeper.state.certified(not_after);
        info!(lifetime = ?lifetime, "certificate obtained");
        Ok(lifetime)
    }
}

/// When a certificate is renewed: after two thirds of its validity, and up to a tenth earlier, so that the Envoys of one
/// rollout do not come at once.
fn renewal(lifetime: Duration, random: f64) -> Duration {
    lifetime.mul_f64(2.0 / 3.0 * (1.0 - 0.1 * random))
}

/// The certificate authorities in a PEM text.
fn roots(pem: &str) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in request::certificates(pem)? {
        roots.add(certificate).context("invalid certificate")?;
    }
    anyhow::ensure!(!roots.is_empty(), "no certificate");
    Ok(roots)
}

#[cfg(test)]
mod tests;
