//! Istio certificates from a directory (`AMBASSADOR_ISTIO_SECRET_DIR`): Istio's agent writes `key.pem` and
//! `cert-chain.pem` there and renews them before they expire. They become the Secret `istio-certs` in the gateway's own
//! namespace, which TLSContexts can refer to.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde_json::json;
use tokio::{fs, sync::mpsc, time::sleep};
use tracing::{info, warn};

use nuncio_core::{
    change::{Change, Source},
    object::{Kind, ObjectRef},
    reconcile::reconcile,
    settings::Settings,
};

/// Name of the Secret.
const NAME: &str = "istio-certs";
/// How often the files are read.
const PERIOD: Duration = Duration::from_secs(1);
/// Files that were written further apart are not a pair: the other one is about to be written.
const TOGETHER: Duration = Duration::from_secs(5);

/// What was read, with the times of both files.
#[derive(PartialEq, Eq)]
struct Pair {
    times: [SystemTime; 2],
    chain: String,
    key: String,
}

/// Follows the files until the receiver of changes is gone.
pub async fn follow(directory: PathBuf, settings: Settings, changes: mpsc::Sender<Vec<Change>>) {
    let object = ObjectRef::new(Kind::Secret, &settings.ambassador_namespace, NAME);
    let mut current: Option<Pair> = None;
    loop {
        let change = match read(&directory).await {
            Found::Pair(pair) if current.as_ref() != Some(&pair) => {
                info!(%object, directory = %directory.display(), "Istio certificate loaded");
                let secret = json!({
                    "metadata": {"name": NAME, "namespace": settings.ambassador_namespace},
                    "type": "kubernetes.io/tls",
                    "stringData": {"tls.crt": pair.chain, "tls.key": pair.key},
                });
                current = Some(pair);
                Some(Change::Apply(
                    Source::Istio,
                    reconcile(Kind::Secret, secret, &settings).into(),
                ))
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

/// What the directory holds.
enum Found {
    /// Both files.
    Pair(Pair),
    /// One file is much newer than the other, or cannot be read.
    Half,
    /// A file is missing.
    Nothing,
}

async fn read(directory: &Path) -> Found {
    let file = async |name: &str| {
        let path = directory.join(name);
        let time = fs::metadata(&path).await?.modified()?;
        std::io::Result::Ok((time, fs::read_to_string(&path).await?))
    };
    let is_missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match (file("cert-chain.pem").await, file("key.pem").await) {
        (Ok((one, chain)), Ok((other, key))) => {
            let apart = one
                .duration_since(other)
                .or_else(|_| other.duration_since(one));
            if apart.is_ok_and(|apart| apart <= TOGETHER) {
                Found::Pair(Pair {
                    times: [one, other],
                    chain,
                    key,
                })
            } else {
                Found::Half
            }
        }
        (Err(error), _) | (_, Err(error)) if is_missing(&error) => Found::Nothing,
        _ => Found::Half,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, remove_file, write};

    use super::*;

    #[tokio::test]
    async fn a_rewritten_pair_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let made = |name: &str| {
            let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
            write(path("cert-chain.pem"), made.cert.pem()).unwrap();
            write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
        };
        let (sender, mut receiver) = mpsc::channel(4);
        let task = tokio::spawn(follow(
            directory.path().to_owned(),
            Settings::default(),
            sender,
        ));
        made("a.example");
        let first = receiver.recv().await.unwrap();
        assert!(
            matches!(first.as_slice(), [Change::Apply(Source::Istio, _)]),
            "{first:?}"
        );
        made("b.example");
        let second = receiver.recv().await.unwrap();
        assert!(
            matches!(second.as_slice(), [Change::Apply(Source::Istio, _)]),
            "{second:?}"
        );
        assert_ne!(first, second);
        // half of a new pair is not used
        let key = File::options().append(true).open(path("key.pem")).unwrap();
        key.set_modified(SystemTime::now() + TOGETHER * 2).unwrap();
        assert!(matches!(read(directory.path()).await, Found::Half));
        remove_file(path("key.pem")).unwrap();
        let third = receiver.recv().await.unwrap();
        assert!(
            matches!(third.as_slice(), [Change::Delete(Source::Istio, _)]),
            "{third:?}"
        );
        task.abort();
    }
}
