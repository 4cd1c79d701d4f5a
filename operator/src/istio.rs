//! Istio certificates from a directory (`AMBASSADOR_ISTIO_SECRET_DIR`): Istio's agent writes `key.pem` and
//! `cert-chain.pem` there and renews them before they expire. They become the Secret `istio-certs` in the gateway's own
//! namespace, which TLSContexts can refer to.
//!
//! The agent writes one file after the other: a key and a certificate are used when they belong together, and until then the
//! last ones that did. If they still do not after a while, whoever uses the Secret reports it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tokio::{fs, sync::mpsc, time::sleep};
use tracing::{info, warn};

use nuncio_core::{
    change::{Change, Reconciled, Source},
    object::{Kind, ObjectRef},
    reconcile::{Fragment, reconcile},
    settings::Settings,
};

/// Name of the Secret.
const NAME: &str = "istio-certs";
/// How often the files are read.
const PERIOD: Duration = Duration::from_secs(1);
/// How often a pair that does not match is read before it is taken for finished.
const READS: u32 = 5;

/// What was read.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    chain: String,
    key: String,
}

/// Follows the files until the receiver of changes is gone.
pub async fn follow(directory: PathBuf, settings: Settings, changes: mpsc::Sender<Vec<Change>>) {
    let object = ObjectRef::new(Kind::Secret, &settings.ambassador_namespace, NAME);
    let mut current: Option<Pair> = None;
    let mut ignored: Option<(Pair, u32)> = None;
    loop {
        let change = match read(&directory).await {
            Found::Pair(pair) if current.as_ref() != Some(&pair) => {
                let found = secret(&pair, &settings);
                let problem = problem(&found);
                let reads = match ignored.take() {
                    Some((before, reads)) if before == pair => reads + 1,
                    _ => 1,
                };
                match &problem {
                    None => {
                        info!(%object, directory = %directory.display(), "Istio certificate loaded");
                    }
                    Some(problem) if reads == 1 => {
                        warn!(%object, directory = %directory.display(), problem, "Istio certificate ignored; keeping the last one");
                    }
                    Some(_) => {}
                }
                if problem.is_none() || reads == READS {
                    current = Some(pair);
                    Some(Change::Apply(Source::Istio, found.into()))
                } else {
                    // a pair that is being written differs only for a moment
                    ignored = Some((pair, reads));
                    None
                }
            }
            Found::Nothing if current.take().is_some() => {
                warn!(%object, directory = %directory.display(), "Istio certificate removed");
                Some(Change::Delete(Source::Istio, object.clone()))
            }
            Found::Pair(_) | Found::Half | Found::Nothing => None,
        };
        if let Some(change) = change
            && changes.send(vec![change]).await.is_err()
        {
            return;
        }
        sleep(PERIOD).await;
    }
}

/// The Secret of a pair.
fn secret(pair: &Pair, settings: &Settings) -> Reconciled {
    let secret = json!({
        "metadata": {"name": NAME, "namespace": settings.ambassador_namespace},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": pair.chain, "tls.key": pair.key},
    });
    reconcile(Kind::Secret, secret, settings)
}

/// Why a key and a certificate do not belong together.
fn problem(found: &Reconciled) -> Option<String> {
    match &found.fragment {
        Some(Fragment::Secret(secret)) => {
            let unusable = secret.certificate.as_ref().err()?;
            Some(unusable.reason.clone())
        }
        _ => Some("not a certificate".to_owned()),
    }
}

/// What the directory holds.
enum Found {
    /// Both files.
    Pair(Pair),
    /// A file cannot be read.
    Half,
    /// A file is missing.
    Nothing,
}

async fn read(directory: &Path) -> Found {
    let file = async |name: &str| fs::read_to_string(directory.join(name)).await;
    let is_missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match (file("cert-chain.pem").await, file("key.pem").await) {
        (Ok(chain), Ok(key)) => Found::Pair(Pair { chain, key }),
        (Err(error), _) | (_, Err(error)) if is_missing(&error) => Found::Nothing,
        _ => Found::Half,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{remove_file, write};

    use tokio::time::timeout;

    use super::*;

    fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    async fn applied(receiver: &mut mpsc::Receiver<Vec<Change>>) -> Box<Reconciled> {
        let mut changes = receiver.recv().await.unwrap();
        match changes.pop() {
            Some(Change::Apply(Source::Istio, found)) => found,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_rewritten_pair_is_loaded_once_both_files_match() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (sender, mut receiver) = mpsc::channel(4);
        let task = tokio::spawn(follow(
            directory.path().to_owned(),
            Settings::default(),
            sender,
        ));
        let (chain, key) = pair("a.example");
        write(path("cert-chain.pem"), &chain).unwrap();
        write(path("key.pem"), &key).unwrap();
        let first = applied(&mut receiver).await;
        let (chain, key) = pair("b.example");
        // the second file may come long after the first, and until then the old pair stays
        write(path("cert-chain.pem"), &chain).unwrap();
        let early = timeout(PERIOD * 3, receiver.recv()).await;
        assert!(early.is_err(), "{early:?}");
        write(path("key.pem"), &key).unwrap();
        let second = applied(&mut receiver).await;
        assert_ne!(first, second);
        assert!(
            matches!(&second.fragment, Some(Fragment::Secret(secret)) if secret.certificate.is_ok()),
            "{second:?}"
        );
        // a pair that is wrong for good is reported; what is served stays, see `LastUsable`
        write(path("key.pem"), "garbage").unwrap();
        let wrong = applied(&mut receiver).await;
        assert!(problem(&wrong).is_some(), "{wrong:?}");
        write(path("key.pem"), &key).unwrap();
        assert_eq!(applied(&mut receiver).await, second);
        remove_file(path("key.pem")).unwrap();
        let third = receiver.recv().await.unwrap();
        assert!(
            matches!(third.as_slice(), [Change::Delete(Source::Istio, _)]),
            "{third:?}"
        );
        task.abort();
    }
}
