//! The authority of the certificates between control planes and Envoys.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use nuncio_e2e::wait::{until, until_within};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::{Form, all_serve_a_change};
use crate::installation::{Installation, NUNCIO};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// All Envoys renew their certificates within a minute of a change of what is trusted.
const RENEWAL: Duration = Duration::from_secs(75);
/// Shorter than the time after which an Envoy without a connection asks for another certificate, so that the one that it
/// has is used.
const PROMPT: Duration = Duration::from_secs(25);

/// An authority whose certificate can have been made at any time.
struct Authority {
    key: KeyPair,
    name: &'static str,
}

impl Authority {
    fn new(name: &'static str) -> Result<Self> {
        let key = KeyPair::generate()?;
        Ok(Self { key, name })
    }

    /// Its certificate, made so long ago.
    fn certificate(&self, age: Duration) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params
            .distinguished_name
            .push(DnType::CommonName, self.name);
        // as the control plane makes them: valid from 25 hours before
        params.not_before = date_time_ymd(1970, 1, 1) + (now - age - 25 * HOUR);
        params.not_after = date_time_ymd(1970, 1, 1) + (now - age + 365 * DAY);
        Ok(params.self_signed(&self.key)?.pem())
    }
}

fn patch(stage: &Installation, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    stage.kubectl(&["patch", "secret", "nuncio-ca", "--type=merge", "-p", &patch])?;
    Ok(())
}

/// Waits until Envoy pods see this text, or do not, and so many authorities.
async fn trusted(stage: &Installation, text: &str, expected: bool, number: usize) -> Result<()> {
    until("what Envoys trust", || async {
        let path = r"jsonpath={.data.ca\.crt}";
        let bundle = stage.kubectl(&["get", "configmap", "nuncio-ca", "-o", path])?;
        let count = bundle.matches("BEGIN CERTIFICATE").count();
        ensure!(count == number, "{count} authorities are trusted");
        let text = text.trim().replace('\r', "");
        ensure!(bundle.contains(&text) == expected, "{bundle}");
        Ok(())
    })
    .await
}

/// Waits until all Envoys have certificates of an authority. A renewal before it signs does not count.
async fn renewed(stage: &Installation, authority: &Authority) -> Result<()> {
    for pod in stage.pods("nuncio-envoy")? {
        until_within(RENEWAL, "a renewed certificate", || async {
            let node = &stage.node;
            let text = node.read_below(NUNCIO, &pod, "/run/nuncio", "certificate.json")?;
            // out of a text in JSON: lines, of which the first begins with the label
            let text = text.replace("\\n", "\n");
            let text = text.replace("-----BEGIN", "\n-----BEGIN");
            let certificate = CertificateDer::from_pem_slice(text.as_bytes())?;
            // the name of the issuer is in it as text
            let name = authority.name.as_bytes();
            let is_issuer = certificate.windows(name.len()).any(|part| part == name);
            ensure!(is_issuer, "{pod} has the one from before");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// Ends all streams: each Envoy must connect with the certificates that it has.
async fn reconnect(stage: &Installation) -> Result<()> {
    for pod in stage.pods("nuncio")? {
        stage.node.signal(NUNCIO, &pod, Signal::KILL)?;
    }
    all_serve_a_change(stage, PROMPT).await?;
    stage.has_replicas("nuncio", 2).await
}

/// The control plane takes each step of a rotation: time is made to pass by certificates that were made earlier.
pub(super) async fn rotated(stage: &mut Installation, form: Form) -> Result<()> {
    for round in 0..form.choose(1, 2) {
        let path = r"jsonpath={.data.ca\.crt}";
        let old = stage.kubectl(&["get", "configmap", "nuncio-ca", "-o", path])?;
        let next = Authority::new(["rotated 0", "rotated 1"][round])?;
        // the next one is trusted, but does not sign
        let certificate = next.certificate(HOUR)?;
        let key = next.key.serialize_pem();
        patch(
            stage,
            &json!({"stringData": {"next.crt": certificate, "next.key": key}}),
        )?;
        trusted(stage, &certificate, true, 2).await?;
        all_serve_a_change(stage, PROMPT).await?;
        // after a week it signs, and the old one is trusted for what it has signed
        let certificate = next.certificate(8 * DAY)?;
        patch(stage, &json!({"stringData": {"next.crt": certificate}}))?;
        until("the next authority", || async {
            let next = stage.kubectl(&[
                "get",
                "secret",
                "nuncio-ca",
                "-o",
                r"jsonpath={.data.next\.crt}",
            ])?;
            ensure!(next.is_empty(), "it does not sign yet");
            Ok(())
        })
        .await?;
        trusted(stage, &old, true, 2).await?;
        all_serve_a_change(stage, PROMPT).await?;
        renewed(stage, &next).await?;
        // after nine days more the old one is not trusted any more
        let certificate = next.certificate(17 * DAY)?;
        patch(stage, &json!({"stringData": {"tls.crt": certificate}}))?;
        trusted(stage, &old, false, 1).await?;
        reconnect(stage).await?;
    }
    Ok(())
}

/// A user supplies an authority, and replaces it in one step.
pub(super) async fn replaced(stage: &mut Installation, form: Form) -> Result<()> {
    for round in 0..form.choose(1, 3) {
        let next = Authority::new(["supplied 0", "supplied 1", "supplied 2"][round])?;
        let (certificate, key) = (next.certificate(HOUR)?, next.key.serialize_pem());
        patch(
            stage,
            &json!({
                "metadata": {"labels": {"app.kubernetes.io/managed-by": null}},
                "data": {"ca.crt": null, "next.crt": null, "next.key": null},
                "stringData": {"tls.crt": certificate, "tls.key": key},
            }),
        )?;
        trusted(stage, &certificate, true, 1).await?;
        all_serve_a_change(stage, PROMPT).await?;
        renewed(stage, &next).await?;
        reconnect(stage).await?;
    }
    Ok(())
}
