//! Events of the file system, by inotify.

use std::{
    collections::{HashMap, HashSet},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

use super::tree::DirectoryId;

/// What is watched for. Not `MODIFY`: a file is read when its writer has closed it, or when the poll finds it changed.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Whether something happened in the watched directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Something did.
    Event,
    /// Nothing did in the time given.
    Timeout,
}

/// Watches directories. Where the kernel gives no inotify, every wait is a timeout, and polling is what remains.
#[derive(Debug)]
pub(super) struct Watcher {
    inotify: Option<OwnedFd>,
    watched: HashMap<DirectoryId, i32>,
}

impl Watcher {
    /// Makes a watcher that watches nothing yet.
    pub(super) fn new() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        if let Err(error) = &inotify {
            tracing::warn!(%error, "no inotify; the folder is polled");
        }
        Self {
            inotify: inotify.ok(),
            watched: HashMap::new(),
        }
    }

    /// Watches these directories and no others. Returns whether any is new: then it must be looked at once more, as it
    /// may have changed before it was watched.
    pub(super) fn watch(&mut self, root: &Path, directories: &[(PathBuf, DirectoryId)]) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let wanted: HashSet<DirectoryId> = directories.iter().map(|(_, id)| *id).collect();
        self.watched.retain(|id, watch| {
            let keep = wanted.contains(id);
            if !keep && let Err(error) = inotify::remove_watch(inotify, *watch) {
                tracing::trace!(%error, "the kernel removed the watch with its directory");
            }
            keep
        });
        let mut added = false;
        for (path, id) in directories {
            if self.watched.contains_key(id) {
                continue;
            }
            match inotify::add_watch(inotify, root.join(path), EVENTS) {
                Ok(watch) => {
                    self.watched.insert(*id, watch);
                    added = true;
                }
                Err(Errno::NOENT) => {}
                // Out of watches: the poll covers this directory.
                Err(error) => tracing::debug!(%error, path = %path.display(), "directory is not watched"),
            }
        }
        added
    }

    /// Waits until something happens, at most so long, and forgets what happened.
    pub(super) fn wait(&mut self, patience: Duration) -> Wake {
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(patience.subsec_nanos()),
        };
        let mut descriptors: Vec<PollFd<'_>> = self
            .inotify
            .iter()
            .map(|inotify| PollFd::new(inotify, PollFlags::IN))
            .collect();
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(0) | Err(_) => Wake::Timeout,
            Ok(_) => {
                self.drain();
                Wake::Event
            }
        }
    }

    fn drain(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        // It ends when the kernel has no more events (AGAIN).
        while let Ok(event) = events.next() {
            if event.events().contains(ReadFlags::IGNORED) {
                let gone = event.wd();
                self.watched.retain(|_, watch| *watch != gone);
            }
        }
    }
}
