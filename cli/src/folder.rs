//! A folder of manifests: what it holds now, as a [`World`], and what is wrong with it, as reports.
//!
//! What it is: the counterpart of the API server's watch. [`Watch`] follows it, and
//! reads what changed. What it is not: it makes no decision about traffic; that is `translate`.
//!
//! Nothing that is half written takes anything away: a file is read 20 ms after its last change (250 ms under constant
//! change), and where it gives less than before, or is broken, not before it has stood still for 300 ms.

mod content;
mod ledger;
mod pace;
mod tree;
mod watch;
mod watcher;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use propylon_kit::clock::{self, Monotonic};
use propylon_model::{ObjectRef, Report, ReportReason};
use propylon_translate::World;
use thiserror::Error;

use content::{Admitted, Content, ReadError, Reading, file_object};
use ledger::{Ledger, Presence};
use tree::{DirectoryId, Stamp, Tree};

pub(crate) use content::one_line;
pub(crate) use watch::Watch;

/// A file is left alone until it has stood still for so long.
const SETTLE: Duration = Duration::from_millis(20);

/// A file under constant change is read nevertheless after so long.
const SETTLE_CAP: Duration = Duration::from_millis(250);

/// A change that takes something away is believed once the file has stood still for so long.
const DOUBT: Duration = Duration::from_millis(300);

/// A file that vanished is gone when it did not come back in so long.
const GONE: Duration = Duration::from_millis(100);

/// A file that was read so soon after its last change is read again: its time stamps may be too coarse to tell.
const RACY: Duration = Duration::from_secs(1);

/// Why a folder cannot be served; not retryable without a change of the folder.
#[derive(Debug, Error)]
pub(crate) enum FolderError {
    /// It is something else.
    #[error("{named} {path} is no directory; give the directory that holds the manifests")]
    NotADirectory {
        /// The flag, or what else gave it.
        named: &'static str,
        /// What stands there.
        path: PathBuf,
    },
    /// It is missing, or its permissions forbid.
    #[error("{named} {path} cannot be read: {source}")]
    Unreadable {
        /// The flag, or what else gave it.
        named: &'static str,
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What a look at the folder found.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    /// Whether the world is another one than before.
    changed: bool,
    /// When to look again even if nothing happens: something is still being written.
    again: Option<Duration>,
}

impl Look {
    fn again_in(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |before| before.min(after)));
    }
}

/// A folder of manifests and what it gave so far.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    files: BTreeMap<PathBuf, Record>,
    ledger: Ledger,
    directories: Vec<(PathBuf, DirectoryId)>,
    failures: BTreeMap<PathBuf, String>,
    /// Before the first look nothing can be taken away: every file is read at once.
    is_new: bool,
}

/// What is known of one file.
#[derive(Debug)]
struct Record {
    path: Arc<Path>,
    presence: Presence,
    /// Since when it is missing, where it is.
    gone_since: Option<Monotonic>,
    /// What was last read.
    read: Option<Read>,
    /// A version that was seen and is not read yet.
    pending: Option<Pending>,
    objects: BTreeMap<ObjectRef, Admitted>,
    reports: Vec<Report>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    stamp: Stamp,
    hash: Option<u64>,
    is_racy: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    stamp: Stamp,
    stamp_since: Monotonic,
    since: Monotonic,
}

impl Folder {
    /// Opens the folder of `--manifests`; nothing is read before the first [`Folder::look`].
    ///
    /// # Errors
    /// When it is missing, no directory, or not readable.
    pub(crate) fn open(root: &Path) -> Result<Self, FolderError> {
        Self::open_named("--manifests", root)
    }

    /// As [`Folder::open`], of another argument than `--manifests`, which errors name.
    ///
    /// # Errors
    /// Those of [`Folder::open`].
    pub(crate) fn open_named(named: &'static str, root: &Path) -> Result<Self, FolderError> {
        let path = root.to_path_buf();
        let unreadable = |source| FolderError::Unreadable {
            named,
            path: path.clone(),
            source,
        };
        if !fs::metadata(root).map_err(unreadable)?.is_dir() {
            return Err(FolderError::NotADirectory { named, path });
        }
        fs::read_dir(root).map_err(unreadable)?;
        Ok(Self::empty(path))
    }

    /// A folder with one file, of a text that did not come from one.
    pub(crate) fn of_text(name: &Path, text: &str) -> Self {
        let mut folder = Self::empty(PathBuf::new());
        let mut record = Record::new(name);
        record.accept(Content::of(text), &mut folder.ledger);
        folder.files.insert(name.to_path_buf(), record);
        folder
    }

    fn empty(root: PathBuf) -> Self {
        Self {
            root,
            files: BTreeMap::new(),
            ledger: Ledger::default(),
            directories: Vec::new(),
            failures: BTreeMap::new(),
            is_new: true,
        }
    }

    /// The texts of the files as they are now, by their paths within the folder, in order; those that cannot be read have
    /// a report.
    pub(crate) fn texts(&self) -> Vec<(PathBuf, String)> {
        let files = self.files.keys();
        let texts = files.filter_map(|path| Some((path.clone(), content::read(&self.root.join(path)).ok()?.text)));
        texts.collect()
    }

    /// Reads everything, for a folder that is not followed.
    pub(crate) fn read(&mut self) {
        self.look();
    }

    /// Reads what changed since the last look.
    ///
    /// # Cost
    /// One `stat` per file and directory; files that changed are read.
    fn look(&mut self) -> Look {
        let tree = Tree::walk(&self.root);
        let root = self.root.clone();
        let visit = Visit {
            root: &root,
            now: clock::now(),
            unix_now: clock::unix_now(),
            trust: if self.is_new {
                Trust::AsItStands
            } else {
                Trust::OnceStill
            },
        };
        let mut look = Look::default();
        self.find_missing(&tree, visit.now, &mut look);
        for (path, stamp) in &tree.files {
            let record = self.files.entry(path.clone()).or_insert_with(|| Record::new(path));
            record.look(*stamp, visit, &mut self.ledger, &mut look);
        }
        self.directories = tree.directories;
        self.failures = tree.failures;
        self.is_new = false;
        look
    }

    /// The objects of the folder, admitted.
    pub(crate) fn world(&self) -> &World {
        self.ledger.world()
    }

    /// What is wrong with the folder, in the order of the files.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let failures = self
            .failures
            .iter()
            .map(|(path, message)| Report::new(file_object(path), ReportReason::InvalidManifest, message.clone()));
        let files = self.files.values().flat_map(|record| record.reports.iter().cloned());
        failures.chain(files).chain(self.ledger.reports()).collect()
    }

    /// The directories that hold the manifests, relative to the root.
    fn directories(&self) -> (&Path, &[(PathBuf, DirectoryId)]) {
        (&self.root, &self.directories)
    }

    /// Drops the objects of files that are gone for good.
    fn find_missing(&mut self, tree: &Tree, now: Monotonic, look: &mut Look) {
        let ledger = &mut self.ledger;
        self.files.retain(|path, record| {
            if tree.files.contains_key(path) || tree.hides(path) {
                return true;
            }
            let since = *record.gone_since.get_or_insert(now);
            let gone_for = now.since(since);
            if gone_for < GONE {
                look.again_in(GONE.saturating_sub(gone_for));
                look.changed |= record.set(ledger, Presence::Vanished, record.objects.clone());
                return true;
            }
            look.changed |= record.set(ledger, Presence::Vanished, BTreeMap::new());
            false
        });
    }
}

/// The circumstances of a look.
#[derive(Clone, Copy)]
struct Visit<'a> {
    root: &'a Path,
    now: Monotonic,
    unix_now: Duration,
    trust: Trust,
}

/// Whether a file is read as it stands, or only when it has stood still.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    AsItStands,
    OnceStill,
}

impl Record {
    fn new(path: &Path) -> Self {
        Self {
            path: Arc::from(path),
            presence: Presence::Present,
            gone_since: None,
            read: None,
            pending: None,
            objects: BTreeMap::new(),
            reports: Vec::new(),
        }
    }

    /// Looks at a file that is there.
    fn look(&mut self, stamp: Stamp, visit: Visit<'_>, ledger: &mut Ledger, look: &mut Look) {
        if self.gone_since.take().is_some() {
            look.changed |= self.set(ledger, Presence::Present, self.objects.clone());
        }
        if self.read.is_some_and(|read| read.stamp == stamp && !read.is_racy) {
            self.pending = None;
            return;
        }
        let pending = self.pend(stamp, visit.now);
        let still_for = visit.now.since(pending.stamp_since).max(stamp.age(visit.unix_now));
        let is_same = self.read.is_some_and(|read| read.stamp == stamp);
        let waited = visit.now.since(pending.since);
        if visit.trust == Trust::OnceStill && !is_same && still_for < SETTLE && waited < SETTLE_CAP {
            look.again_in(SETTLE.saturating_sub(still_for));
            return;
        }
        let path = visit.root.join(&*self.path);
        let reading = content::read(&path);
        if visit.trust == Trust::OnceStill && version_of(&reading, &path) != Some(stamp) {
            // It changed since the walk: what is known of its age does not hold for this text.
            look.again_in(SETTLE);
            return;
        }
        let is_doubtful = visit.trust == Trust::OnceStill && still_for < DOUBT;
        match reading {
            Ok(reading) if self.read.is_some_and(|read| read.hash == Some(reading.hash)) => {
                self.remember(reading.stamp, Some(reading.hash), visit.unix_now);
            }
            Ok(reading) => {
                let content = Content::of(&reading.text);
                if is_doubtful && self.takes_away(&content) {
                    look.again_in(DOUBT.saturating_sub(still_for).max(SETTLE));
                    return;
                }
                look.changed |= self.accept(content, ledger);
                self.remember(reading.stamp, Some(reading.hash), visit.unix_now);
            }
            Err(_) if is_doubtful => look.again_in(DOUBT.saturating_sub(still_for).max(SETTLE)),
            Err(error) => {
                let message = format!("{error}; what it last gave stays in force");
                self.reports = vec![Report::new(
                    file_object(&self.path),
                    ReportReason::InvalidManifest,
                    message,
                )];
                self.remember(stamp, None, visit.unix_now);
            }
        }
    }

    /// Notes that a version was seen that is not read yet.
    fn pend(&mut self, stamp: Stamp, now: Monotonic) -> Pending {
        let fresh = Pending {
            stamp,
            stamp_since: now,
            since: now,
        };
        let pending = match self.pending {
            Some(before) if before.stamp == stamp => before,
            Some(before) => Pending {
                since: before.since,
                ..fresh
            },
            None => fresh,
        };
        self.pending = Some(pending);
        pending
    }

    fn remember(&mut self, stamp: Stamp, hash: Option<u64>, unix_now: Duration) {
        self.read = Some(Read {
            stamp,
            hash,
            is_racy: stamp.age(unix_now) < RACY,
        });
        self.pending = None;
    }

    /// Whether the content is broken, or lacks an object that the file gave before.
    fn takes_away(&self, content: &Content) -> bool {
        let is_broken = !content.mistakes.is_empty() || !content.refused.is_empty();
        is_broken || content.objects.is_empty() || !self.objects.keys().all(|object| content.names(object))
    }

    /// Takes the content over; what is broken keeps its last good version.
    fn accept(&mut self, content: Content, ledger: &mut Ledger) -> bool {
        self.reports = content.reports(&self.path);
        let is_kept = |object: &ObjectRef| !content.mistakes.is_empty() || content.refused.contains_key(object);
        let kept: Vec<_> = self.objects.iter().filter(|(object, _)| is_kept(object)).collect();
        let mut objects: BTreeMap<ObjectRef, Admitted> = kept
            .into_iter()
            .map(|(object, admitted)| (object.clone(), Arc::clone(admitted)))
            .collect();
        objects.extend(content.objects);
        self.set(ledger, Presence::Present, objects)
    }

    fn set(&mut self, ledger: &mut Ledger, presence: Presence, objects: BTreeMap<ObjectRef, Admitted>) -> bool {
        if presence == self.presence && objects.is_empty() && self.objects.is_empty() {
            return false;
        }
        let changed = ledger.replace(&self.path, (self.presence, &self.objects), (presence, &objects));
        self.presence = presence;
        self.objects = objects;
        changed
    }
}

/// The version of a file that was read, or that cannot be.
fn version_of(reading: &Result<Reading, ReadError>, path: &Path) -> Option<Stamp> {
    match reading {
        Ok(reading) => Some(reading.stamp),
        Err(ReadError::Changing) => None,
        Err(_) => fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata)),
    }
}

#[cfg(test)]
mod tests;
