//! Istio certificates from a directory (`AMBASSADOR_ISTIO_SECRET_DIR`): Istio's agent writes `key.pem` and
//! `cert-chain.pem` there and renews them before they expire. They become the Secret `istio-certs` in the gateway's own
//! namespace, which TLSContexts can refer to.
//!
//! The agent writes one file after the other: a key and a certificate are used when they belong together, and until then the
//! last ones that did. If they still do not after a while, whoever uses the Secret reports it.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{task::spawn_blocking, time::sleep};
use tracing::{info, warn};

use crate::{
    fan_out::Changes,
    text_file::{self, Unreadable},
};

use nuncio_core::{
    change::{Batch, Change, Reconciled, Source},
    object::{Kind, ObjectRef},
    reconcile::{Fragment, reconcile},
    settings::Settings,
};

/// Name of the Secret.
const NAME: &str = "istio-certs";
/// Largest file that is read, in MiB. The agent's files have a few kilobytes.
const MAX_FILE_MIB: u64 = 1;
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
pub async fn follow(directory: PathBuf, settings: Settings, changes: Changes) {
    let object = ObjectRef::new(Kind::Secret, &settings.ambassador_namespace, NAME);
    let mut current: Option<Pair> = None;
    let mut ignored: Option<(Pair, u32)> = None;
    let mut unread: Option<String> = None;
    loop {
        let found = read(directory.clone()).await;
        let received = Instant::now();
        if !matches!(found, Found::Half(_)) {
            unread = None;
        }
        let change = match found {
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
            Found::Half(problem) => {
                if unread.as_ref() != Some(&problem) {
                    warn!(%object, directory = %directory.display(), problem, "Istio certificate cannot be read; keeping the last one");
                }
                unread = Some(problem);
                None
            }
            Found::Pair(_) | Found::Nothing => None,
        };
        if let Some(change) = change
            && changes
                .send(Batch::new(received, vec![change]))
                .await
                .is_err()
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
    /// A file cannot be read, for this reason.
    Half(String),
    /// A file is missing.
    Nothing,
}

async fn read(directory: PathBuf) -> Found {
    let read = spawn_blocking(move || read_blocking(&directory));
    let failed = |error: tokio::task::JoinError| Found::Half(error.to_string());
    read.await.unwrap_or_else(failed)
}

fn read_blocking(directory: &Path) -> Found {
    let file = |name: &str| {
        text_file::read(&directory.join(name), MAX_FILE_MIB).map_err(|error| match error {
            Unreadable::Failed(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
            error => Found::Half(format!("{name}: {error}")),
        })
    };
    match (file("cert-chain.pem"), file("key.pem")) {
        (Ok(chain), Ok(key)) => Found::Pair(Pair { chain, key }),
        (Err(Found::Nothing), _) | (_, Err(Found::Nothing)) => Found::Nothing,
        (Err(half), _) | (_, Err(half)) => half,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{remove_file, rename, write};

    use tokio::{sync::mpsc, time::timeout};

    use super::*;

    fn pair(name: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    async fn applied(receiver: &mut mpsc::Receiver<Batch>) -> Box<Reconciled> {
        let mut changes = receiver.recv().await.unwrap().changes;
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
            sender.into(),
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
            matches!(third.changes.as_slice(), [Change::Delete(Source::Istio, _)]),
            "{third:?}"
        );
        task.abort();
    }

    #[tokio::test]
    async fn a_file_without_an_end_keeps_the_last_pair_and_blocks_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let (sender, mut receiver) = mpsc::channel(4);
        let task = tokio::spawn(follow(
            directory.path().to_owned(),
            Settings::default(),
            sender.into(),
        ));
        let (chain, key) = pair("a.example");
        write(path("cert-chain.pem"), &chain).unwrap();
        write(path("key.pem"), &key).unwrap();
        let _ = applied(&mut receiver).await;
        let fifo = |path: &Path| {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
        };
        let endless = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        let large = |path: &Path| write(path, "#".repeat(2 << 20)).unwrap();
        // there is always a file
        let put = |make: &dyn Fn(&Path)| {
            make(&path("new"));
            rename(path("new"), path("key.pem")).unwrap();
        };
        for make in [&fifo as &dyn Fn(&Path), &endless, &large] {
            put(make);
            let found = timeout(PERIOD, read(directory.path().to_owned())).await;
            assert!(matches!(found, Ok(Found::Half(_))));
            let change = timeout(PERIOD * 2, receiver.recv()).await;
            assert!(change.is_err(), "{change:?}");
        }
        let (chain, key) = pair("b.example");
        write(path("cert-chain.pem"), chain).unwrap();
        put(&|path| write(path, &key).unwrap());
        let patience = Duration::from_secs(10);
        let next = timeout(patience, receiver.recv()).await.unwrap().unwrap();
        assert!(
            matches!(next.changes.as_slice(), [Change::Apply(..)]),
            "{next:?}"
        );
        task.abort();
    }
}
