//! Manifests in a directory as a source: the objects that a cluster would have, from `*.yaml`, `*.yml` and `*.json`
//! files, read once ([`load`]) or watched for edits ([`follow`]).
//!
//! Nothing in a file keeps another file, or another document of the same file, from being read. A document that is not
//! a known object becomes a [`Kind::Document`] with a report of its own. Files are read in the order of their paths; of
//! two definitions of one object the first is used.
//!
//! Only regular files are read: others may have no end, or block their reader. Of what cannot be read any more, what was
//! read last is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs, io, mem,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use notify::{
    Event, EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::timeout,
};
use tracing::{info, warn};
use walkdir::WalkDir;

use crate::{
    fan_out::Changes,
    text_file::{self, Unreadable},
};
use nuncio_core::{
    change::{Batch, Change, Owned, Reconciled, ResourceVersion, Source},
    object::{Kind, ObjectRef},
    report::{Problem, Reason},
    settings::{Fleets, Settings},
};

use self::document::Found;

mod document;

/// Largest file that is read, in MiB.
const MAX_FILE_MIB: u64 = 16;
/// The directory is scanned at least this often, for file systems without change events.
const RESCAN: Duration = Duration::from_secs(5);
/// Events that follow each other within this time are handled together …
const GATHER: Duration = Duration::from_millis(5);
/// … but not for longer than this.
const GATHER_LIMIT: Duration = Duration::from_millis(50);
/// Modification times are as coarse as the kernel's clock tick: a file that was modified less than this before it was
/// read may have been modified again since, with the same time.
const CLOCK_TICK: Duration = Duration::from_millis(20);
/// A file that does not parse right after an edit may be half written: it is read again after this time.
const REREAD_AFTER: Duration = Duration::from_millis(40);

/// A directory of manifests.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// The source that it is.
    pub source: Source,
    /// How its files are read.
    pub form: Form,
}

impl Directory {
    /// The directory of `nuncio serve`.
    #[must_use]
    pub fn served(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            source: Source::Api,
            form: Form::Manifests,
        }
    }
}

/// How files are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `*.yaml`, `*.yml` and `*.json` files with manifests.
    Manifests,
    /// `*.yaml` files with manifests.
    Yaml,
    /// `*.yaml` files with flat documents: the fields of `metadata` and `spec` are at the top.
    Flat,
}

impl Form {
    /// Whether files with this name are read.
    fn has(self, path: &Path) -> bool {
        let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        match self {
            Self::Manifests => matches!(extension, "yaml" | "yml" | "json"),
            Self::Yaml | Self::Flat => extension.eq_ignore_ascii_case("yaml"),
        }
    }
}

/// Everything in a directory, as one complete list per kind.
///
/// # Errors
/// A directory that cannot be read.
pub fn load(directory: &Directory, settings: &Settings) -> anyhow::Result<Vec<Change>> {
    let path = &directory.path;
    let mut files = Files::new(directory, settings);
    files
        .scan()
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(files.everything())
}

/// Sends everything in a directory, and then what changes, until the receiver is gone. `reread` has all files read again,
/// even those that seem not to have changed; `read` hears when everything was sent.
///
/// # Errors
/// A directory that cannot be read or watched at the start. If it is missing later, what was read last is kept.
pub async fn follow(
    source: &Directory,
    settings: &Settings,
    changes: Changes,
    reread: &Notify,
    read: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let directory = &*source.path;
    let (events, mut waker) = mpsc::channel(1);
    let mut watch = Watch::start(directory, events.clone())
        .with_context(|| format!("cannot watch {}", directory.display()))?;
    let mut files = Files::new(source, settings);
    files
        .scan()
        .with_context(|| format!("cannot read {}", directory.display()))?;
    let everything = Batch::new(Instant::now(), files.everything());
    if changes.send(everything).await.is_err() {
        return Ok(());
    }
    info!(directory = %directory.display(), files = files.files.len(), "watching manifests");
    // nobody has to wait for it
    let _ = read.send(());
    let mut is_missing = false;
    loop {
        let received;
        tokio::select! {
            event = timeout(RESCAN, waker.recv()) => {
                received = Instant::now();
                if event.is_ok() {
                    let gather = async { while timeout(GATHER, waker.recv()).await.is_ok() {} };
                    let _ = timeout(GATHER_LIMIT, gather).await;
                }
            }
            () = reread.notified() => {
                received = Instant::now();
                info!(directory = %directory.display(), "reading manifests again");
                files.forget_stamps();
            }
        }
        match files.scan() {
            Ok(suspicious) => {
                if suspicious {
                    tokio::time::sleep(REREAD_AFTER).await;
                    files.read_again();
                }
                is_missing = false;
            }
            Err(error) => {
                if !is_missing {
                    warn!(directory = %directory.display(), %error, "cannot read directory; keeping what was read last");
                }
                is_missing = true;
                continue;
            }
        }
        if watch.is_stale() {
            match Watch::start(directory, events.clone()) {
                Ok(new) => watch = new,
                Err(error) => {
                    warn!(directory = %directory.display(), %error, "cannot watch directory; edits are found within {RESCAN:?}")
                }
            }
        }
        let differences = Batch::new(received, files.differences());
        if !differences.changes.is_empty() && changes.send(differences).await.is_err() {
            return Ok(());
        }
    }
}

/// Sends an event when something below a directory changes.
struct Watch {
    directory: PathBuf,
    inode: u64,
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    fn start(directory: &Path, events: mpsc::Sender<()>) -> anyhow::Result<Self> {
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // reading the directory is an event too
            if event.is_ok_and(|event| !is_a_change(event.kind)) {
                return;
            }
            // full: an event is waiting already
            let _ = events.try_send(());
        })?;
        watcher.watch(directory, RecursiveMode::Recursive)?;
        Ok(Self {
            directory: directory.to_owned(),
            inode: fs::metadata(directory)?.ino(),
            _watcher: watcher,
        })
    }

    /// Whether the directory has been replaced by another of the same name.
    fn is_stale(&self) -> bool {
        fs::metadata(&self.directory).is_ok_and(|metadata| metadata.ino() != self.inode)
    }
}

/// Whether files may differ after this event.
fn is_a_change(kind: EventKind) -> bool {
    let is_written = kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
    is_written || !matches!(kind, EventKind::Access(_))
}

/// What identifies one state of a file without reading it: inode, modification time, size.
type Stamp = (u64, i64, i64, u64);

#[derive(Debug)]
struct File {
    /// `None` when the file must be read again even if its stamp is equal.
    stamp: Option<Stamp>,
    objects: Vec<Found>,
}

/// The files of a directory and what is in them.
struct Files {
    directory: PathBuf,
    source: Source,
    form: Form,
    /// The one fleet that the objects are for.
    fleet: Fleets,
    files: BTreeMap<PathBuf, File>,
    /// Files that were read in the last scan and do not parse.
    suspicious: BTreeSet<PathBuf>,
    /// Paths that could not be read in the last scan, to log each once.
    unreadable: BTreeSet<PathBuf>,
    /// Whether any file was read or removed since the last changes were sent.
    differs: bool,
    /// The objects that were sent.
    sent: BTreeMap<ObjectRef, Found>,
}

impl Files {
    fn new(directory: &Directory, settings: &Settings) -> Self {
        Self {
            directory: directory.path.clone(),
            source: directory.source,
            form: directory.form,
            fleet: settings.clone().into(),
            files: BTreeMap::new(),
            suspicious: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            differs: false,
            sent: BTreeMap::new(),
        }
    }

    /// Reads the files that are new or differ; true if one of them does not parse.
    fn scan(&mut self) -> io::Result<bool> {
        let (found, unreadable) = walk(&self.directory, self.form)?;
        for (path, error) in &unreadable {
            if !self.unreadable.contains(path) {
                warn!(path = %path.display(), %error, "cannot read path; keeping what was read last");
            }
        }
        self.unreadable = unreadable.into_keys().collect();
        let before = self.files.len();
        let is_hidden = |path: &Path| path.ancestors().any(|path| self.unreadable.contains(path));
        self.files
            .retain(|path, _| found.contains_key(path) || is_hidden(path));
        self.differs |= self.files.len() != before;
        self.suspicious.clear();
        for (path, stamp) in found {
            if self
                .files
                .get(&path)
                .is_none_or(|file| file.stamp != Some(stamp))
            {
                self.read(path, stamp);
            }
        }
        Ok(!self.suspicious.is_empty())
    }

    /// Makes the next scan read every file.
    fn forget_stamps(&mut self) {
        for file in self.files.values_mut() {
            file.stamp = None;
        }
    }

    fn read_again(&mut self) {
        for path in mem::take(&mut self.suspicious) {
            if let Some(stamp) = fs::metadata(&path).ok().map(|metadata| stamp(&metadata)) {
                self.read(path, stamp);
            }
        }
    }

    fn read(&mut self, path: PathBuf, stamp: Stamp) {
        let name = path
            .strip_prefix(&self.directory)
            .unwrap_or(&path)
            .display()
            .to_string();
        let mut failed = false;
        let objects = match text_file::read(&path, MAX_FILE_MIB) {
            Ok(text) => document::documents(&name, &text, self.form, &self.fleet),
            Err(Unreadable::Content(message)) => {
                vec![not_an_object(&name, Reason::UNREADABLE, &message).into()]
            }
            Err(Unreadable::Failed(error)) => {
                failed = true;
                let mut objects = match self.files.get_mut(&path) {
                    Some(file) => mem::take(&mut file.objects),
                    None => Vec::new(),
                };
                objects.retain(|found| found.name().kind != Kind::Document);
                let kept = match objects.len() {
                    0 => "",
                    _ => "; keeping what was read last",
                };
                let message = format!("cannot read file: {error}{kept}");
                objects.push(not_an_object(&name, Reason::UNREADABLE, &message).into());
                objects
            }
        };
        let broken = objects.iter().any(|found| {
            found.name().kind == Kind::Document
                && found
                    .object
                    .problems
                    .iter()
                    .any(|problem| problem.reason == Reason::NOT_YAML)
        });
        if broken {
            self.suspicious.insert(path.clone());
        }
        let stamp = (!failed && is_settled(&stamp)).then_some(stamp);
        self.files.insert(path, File { stamp, objects });
        self.differs = true;
    }

    /// Every object once; a further definition becomes a report.
    fn objects(&self) -> BTreeMap<ObjectRef, Found> {
        let mut objects: BTreeMap<ObjectRef, Found> = BTreeMap::new();
        let mut places: BTreeMap<&ObjectRef, &Path> = BTreeMap::new();
        for (path, file) in &self.files {
            for found in &file.objects {
                let object = found.name();
                if let Some(first) = places.get(object) {
                    let place = |path: &Path| {
                        path.strip_prefix(&self.directory)
                            .unwrap_or(path)
                            .display()
                            .to_string()
                    };
                    let name = format!("{}#{object}", place(path));
                    let message = format!(
                        "duplicate {object}: using the one in {}, this one is ignored",
                        place(first)
                    );
                    let report = not_an_object(&name, Reason::DUPLICATE, &message);
                    objects.insert(report.object.clone(), report.into());
                    continue;
                }
                places.insert(object, path);
                objects.insert(object.clone(), found.clone());
            }
        }
        objects
    }

    /// A complete list per kind.
    fn everything(&mut self) -> Vec<Change> {
        self.differs = false;
        self.sent = self.objects();
        let list = |kind| {
            let all = self.sent.values().filter(|found| found.name().kind == kind);
            let all = all.map(|found| found.object.clone()).collect();
            Change::Replace(self.source, kind, all)
        };
        let annotated = self.sent.values().filter_map(|found| {
            let owned = found.annotated.clone()?;
            Some(Change::ReplaceOwned(Source::Annotation, owned))
        });
        Kind::ALL.into_iter().map(list).chain(annotated).collect()
    }

    /// What differs from the objects that were sent.
    fn differences(&mut self) -> Vec<Change> {
        if !mem::take(&mut self.differs) {
            return Vec::new();
        }
        let objects = self.objects();
        let mut changes = Vec::new();
        for (object, found) in &objects {
            let before = self.sent.get(object);
            if before.is_none_or(|before| before.object != found.object) {
                let found = Box::new(found.object.clone());
                changes.push(Change::Apply(self.source, found));
            }
            let annotated = before.and_then(|before| before.annotated.as_ref());
            if annotated != found.annotated.as_ref() {
                changes.push(annotated_change(object, found.annotated.clone()));
            }
        }
        for (object, found) in &self.sent {
            if !objects.contains_key(object) {
                changes.push(Change::Delete(self.source, object.clone()));
                if found.annotated.is_some() {
                    changes.push(annotated_change(object, None));
                }
            }
        }
        self.sent = objects;
        changes
    }
}

/// What the annotation of an object yields now.
fn annotated_change(owner: &ObjectRef, owned: Option<Owned>) -> Change {
    let owned = owned.unwrap_or_else(|| Owned::nothing(owner));
    Change::ReplaceOwned(Source::Annotation, owned)
}

/// A report about something in a file that is not a known object.
fn not_an_object(name: &str, reason: Reason, message: &str) -> Reconciled {
    Reconciled {
        object: ObjectRef::new(Kind::Document, "", name),
        generation: 0,
        version: ResourceVersion::Unknown,
        fragment: None,
        problems: vec![Problem::invalid(reason, String::new(), message.to_owned())],
        older: Vec::new(),
    }
}

fn stamp(metadata: &fs::Metadata) -> Stamp {
    (
        metadata.ino(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.len(),
    )
}

/// Whether a file was modified so long ago that another modification would have another time.
fn is_settled((_inode, seconds, nanoseconds, _size): &Stamp) -> bool {
    let changed = UNIX_EPOCH
        + Duration::from_secs(u64::try_from(*seconds).unwrap_or_default())
        + Duration::from_nanos(u64::try_from(*nanoseconds).unwrap_or_default());
    // a time in the future proves nothing
    SystemTime::now()
        .duration_since(changed)
        .is_ok_and(|age| age > CLOCK_TICK)
}

/// Manifests below a directory, and what could not be read. Names that begin with a dot are skipped: editors keep their
/// own files there, and mounted ConfigMaps their previous versions.
fn walk(
    directory: &Path,
    form: Form,
) -> io::Result<(BTreeMap<PathBuf, Stamp>, BTreeMap<PathBuf, io::Error>)> {
    // a file in its place, which WalkDir would accept, is an error too
    fs::read_dir(directory)?;
    let (mut found, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
    let entries = WalkDir::new(directory)
        .min_depth(1)
        .follow_links(true)
        .into_iter()
        .filter_entry(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            // a link to a directory above leads nowhere new
            Err(error) if error.loop_ancestor().is_some() => continue,
            Err(error) => {
                let path = error.path().unwrap_or(directory).to_owned();
                let error = io::Error::from(error);
                // deleted between listing and reading, or a link to nothing
                if error.kind() != io::ErrorKind::NotFound {
                    unreadable.insert(path, error);
                }
                continue;
            }
        };
        if form.has(entry.path())
            && !entry.file_type().is_dir()
            && let Ok(metadata) = entry.metadata()
        {
            found.insert(entry.into_path(), stamp(&metadata));
        }
    }
    Ok((found, unreadable))
}

#[cfg(test)]
mod tests;
