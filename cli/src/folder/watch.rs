//! Following a folder: wait for the file system, look, say what was found.

use std::time::Duration;

use propylon_kit::clock;

use super::{
    Folder,
    pace::Pace,
    watcher::{Wake, Watcher},
};

/// Follows a folder on the thread that calls it.
#[derive(Debug)]
pub(crate) struct Watch {
    folder: Folder,
    watcher: Watcher,
    pace: Pace,
    /// The first event whose change was perhaps not seen to its end.
    began: Option<clock::Monotonic>,
}

/// What a look of [`Watch::next`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Whether the world is another one than before.
    pub(crate) changed: bool,
    /// When the first event of the change came, or the look began that found it.
    pub(crate) began: clock::Monotonic,
}

impl Watch {
    /// Follows a folder that was not looked at yet; the first look is made here.
    pub(crate) fn start(folder: Folder) -> Self {
        let mut watch = Self {
            folder,
            watcher: Watcher::new(),
            pace: Pace::new(clock::now()),
            began: None,
        };
        watch.look();
        watch
    }

    /// The folder as it was last seen.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Waits until there is something to look at, at most `patience`, and looks. Returns what was found; `None` when
    /// there was nothing to look at in that time.
    pub(crate) fn next(&mut self, patience: Duration) -> Option<Found> {
        let start = clock::now();
        loop {
            let now = clock::now();
            let wait = self.pace.wait(now);
            if wait.is_zero() {
                return Some(self.look());
            }
            let left = patience.saturating_sub(now.since(start));
            if left.is_zero() {
                return None;
            }
            if self.watcher.wait(wait.min(left)) == Wake::Event {
                let now = clock::now();
                self.pace.event(now);
                self.began.get_or_insert(now);
            }
        }
    }

    fn look(&mut self) -> Found {
        let start = clock::now();
        let began = self.began.unwrap_or(start);
        let mut look = self.folder.look();
        let (root, directories) = self.folder.directories();
        if self.watcher.watch(root, directories) {
            // What was written between the look and the watch.
            look.again_in(Duration::ZERO);
        }
        let now = clock::now();
        self.pace.looked(now, now.since(start), look.again);
        if look.again.is_none() || look.changed {
            self.began = None;
        }
        Found {
            changed: look.changed,
            began,
        }
    }
}
