//! How the other duties hand in what there is to say.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::record::Record;

/// Records that are said once and wait to be taken; of more, the oldest are dropped.
const MOST: usize = 4096;

/// Takes in Events; clones are handles of the same.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    inbox: Mutex<Inbox>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inbox {
    holds: BTreeMap<&'static str, Arc<[Record]>>,
    once: VecDeque<Record>,
}

impl Recorder {
    /// Everything that a duty has to say as long as it holds; it takes the place of what that duty said before.
    pub fn hold(&self, duty: &'static str, records: Vec<Record>) {
        let mut inbox = self.lock();
        let before = inbox.holds.get(duty).map(|records| &**records).unwrap_or_default();
        if *before == *records {
            return;
        }
        inbox.holds.insert(duty, records.into());
        drop(inbox);
        self.0.changed.notify_one();
    }

    /// Something that happened once.
    pub fn once(&self, record: Record) {
        let mut inbox = self.lock();
        if inbox.once.len() >= MOST {
            inbox.once.pop_front();
        }
        inbox.once.push_back(record);
        drop(inbox);
        self.0.changed.notify_one();
    }

    /// What holds, of every duty, and what happened since the last call.
    pub(super) fn take(&self) -> (Vec<Arc<[Record]>>, VecDeque<Record>) {
        let mut inbox = self.lock();
        let once = std::mem::take(&mut inbox.once);
        (inbox.holds.values().cloned().collect(), once)
    }

    /// Waits until there is something new.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.0.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
