//! The certificate authority of the webhook: made, rotated, replaced and deleted while the apiserver converts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use nuncio_e2e::{control_plane::NAMESPACE, wait::until};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

use super::{
    load::Load,
    rig::{Rig, SECRET, Stored},
};

/// RSA with 4096 bits, PKCS #8.
const RSA_KEY: &str = include_str!("rsa_key.pem");
const DAY: u64 = 24 * 3600;
/// How far our authorities set back the start of their validity.
const SET_BACK: u64 = 25 * 3600;

/// A certificate authority and its key, PEM.
struct Authority {
    certificate: String,
    key: String,
}

/// One that was made this many days ago and expires in so many.
fn authority(name: &str, made: u64, expires: u64) -> Result<Authority> {
    signed_with(&KeyPair::generate()?, name, made, expires)
}

/// One as the webhook of Emissary-ingress makes it.
fn rsa_authority(made: u64, expires: u64) -> Result<Authority> {
    signed_with(&KeyPair::from_pem(RSA_KEY)?, "rsa", made, expires)
}

fn signed_with(key: &KeyPair, name: &str, made: u64, expires: u64) -> Result<Authority> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |seconds| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(now - made * DAY - SET_BACK);
    params.not_after = at(now + expires * DAY);
    Ok(Authority {
        certificate: params.self_signed(key)?.pem(),
        key: key.serialize_pem(),
    })
}

impl Rig {
    /// Sets or removes keys of the Secret.
    fn patch_secret(&self, keys: &[(&str, Option<&str>)]) -> Result<()> {
        let mut data = json!({});
        let mut text = json!({});
        for (key, value) in keys {
            match value {
                Some(value) => text[key] = json!(value),
                None => data[key] = json!(null),
            }
        }
        let patch = json!({"data": data, "stringData": text}).to_string();
        let patch = [
            "patch",
            "secret",
            SECRET,
            "-n",
            NAMESPACE,
            "--type=merge",
            "-p",
            &patch,
        ];
        self.plane.kubectl(&patch, "").map(drop)
    }

    fn delete_secret(&self) -> Result<()> {
        let delete = ["delete", "secret", SECRET, "-n", NAMESPACE];
        self.plane.kubectl(&delete, "").map(drop)
    }

    /// Waits for another authority than this one in the Secret, and returns its certificate.
    async fn new_authority(&self, old: &str) -> Result<String> {
        until("another authority", || async {
            let new = self.secret()?.remove("tls.crt").unwrap_or_default();
            ensure!(!new.is_empty() && new != old, "still the same");
            Ok(new)
        })
        .await
    }
}

pub(crate) async fn the_authority_rotates_without_a_failed_call() -> Result<()> {
    let rig = Rig::start(Stored::V2, 2).await?;
    let load = Load::start(&rig)?;
    load.proceed().await;

    // replaced in one step, by one that must be renewed: the next one is added
    let old = authority("old", 300, 30)?;
    rig.patch_secret(&[
        ("tls.crt", Some(&old.certificate)),
        ("tls.key", Some(&old.key)),
        ("ca.crt", None),
    ])?;
    until("the next authority", || async {
        ensure!(rig.secret()?.contains_key("next.crt"), "there is none");
        Ok(())
    })
    .await?;
    rig.is_served_by(&old.certificate).await?;
    load.proceed().await;

    // the next one has been known for a week: it signs, although definitions do not trust it yet
    let next = authority("next", 8, 357)?;
    rig.patch_secret(&[
        ("next.crt", Some(&next.certificate)),
        ("next.key", Some(&next.key)),
    ])?;
    rig.is_served_by(&next.certificate).await?;
    let secret = rig.secret()?;
    ensure!(
        secret["tls.crt"] == next.certificate,
        "the next one must sign"
    );
    ensure!(
        secret["ca.crt"].contains(&old.certificate),
        "the old one must be trusted"
    );
    load.proceed().await;

    // deleted
    rig.delete_secret()?;
    let third = rig.new_authority(&next.certificate).await?;
    rig.is_served_by(&third).await?;
    load.proceed().await;

    // deleted again before definitions trust what was made after the first time
    rig.delete_secret()?;
    let fourth = rig.new_authority(&third).await?;
    rig.delete_secret()?;
    let fifth = rig.new_authority(&fourth).await?;
    rig.is_served_by(&fifth).await?;
    load.proceed().await;

    // not usable
    rig.patch_secret(&[("tls.key", Some("garbage"))])?;
    let sixth = rig.new_authority(&fifth).await?;
    rig.is_served_by(&sixth).await?;
    load.proceed().await;
    let calls = load.finish().await?;
    eprintln!("{calls} calls");
    Ok(())
}

pub(crate) async fn an_authority_of_another_program_is_used_and_never_written() -> Result<()> {
    let mut rig = Rig::without_replicas(Stored::V2).await?;
    for number in 1..=2 {
        rig.launch(number, &[("DISABLE_CA_MANAGEMENT", "1")])?;
    }
    until("what is missing", || async {
        let (status, body) = rig.readiness(1).await?;
        let text = "there is no Secret nuncio-system/emissary-ingress-webhook-ca; DISABLE_CA_MANAGEMENT is set";
        ensure!(status == 503 && body.contains(text), "{status} {body}");
        Ok(())
    })
    .await?;
    // in need of renewal, which is not ours to do
    let first = authority("first", 300, 10)?;
    let create = |authority: &Authority| {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": SECRET},
            "stringData": {"tls.crt": authority.certificate, "tls.key": authority.key},
        });
        rig.plane.apply(NAMESPACE, &secret.to_string())
    };
    create(&first)?;
    until("readiness", || async {
        for number in 1..=2 {
            let (status, body) = rig.readiness(number).await?;
            ensure!(status == 200, "{body}");
        }
        Ok(())
    })
    .await?;
    rig.serves().await?;
    let load = Load::start(&rig)?;
    load.proceed().await;
    // as cert-manager does it: in one step
    let second = rsa_authority(0, 90)?;
    create(&second)?;
    rig.is_served_by(&second.certificate).await?;
    load.proceed().await;
    let secret = rig.secret()?;
    ensure!(
        secret.keys().eq(["tls.crt", "tls.key"]) && secret["tls.crt"] == second.certificate,
        "the Secret was written"
    );
    // what serves goes on while the Secret is away
    rig.delete_secret()?;
    until("the warning", || async {
        let (status, body) = rig.readiness(1).await?;
        ensure!(
            status == 200 && body.contains("there is no Secret"),
            "{status} {body}"
        );
        Ok(())
    })
    .await?;
    load.proceed().await;
    load.finish().await.map(drop)
}
