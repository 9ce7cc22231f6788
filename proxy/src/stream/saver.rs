//! Writing down what is live, beside everything else: a change waits for others, and a large state is written more rarely.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use propylon_kit::clock;
use propylon_wire::snapshot;

use crate::ProxyHandle;

/// The thread that writes.
pub(super) struct Saver {
    notes: SyncSender<Note>,
    thread: JoinHandle<()>,
}

enum Note {
    Changed,
    Stop,
}

impl Saver {
    /// Begins to wait for changes.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn spawn(path: PathBuf, proxy: Arc<ProxyHandle>) -> io::Result<Self> {
        // One note says as much as many.
        let (notes, receiver) = sync_channel(1);
        let thread = thread::Builder::new().name("snapshot".to_owned()).spawn(move || {
            // Linux reads this as the niceness of the calling thread: writing must not delay the workers.
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "the snapshot's thread keeps its priority");
            }
            run(&receiver, || save(&path, &proxy));
        })?;
        Ok(Self { notes, thread })
    }

    /// Something is live that is not written yet.
    pub(super) fn note(&self) {
        if let Err(TrySendError::Disconnected(_)) = self.notes.try_send(Note::Changed) {
            tracing::debug!("the snapshot's thread has ended");
        }
    }

    /// Writes what is not written yet, and ends.
    pub(super) fn stop(self) {
        if self.notes.send(Note::Stop).is_err() {
            tracing::debug!("the snapshot's thread has ended");
        }
        if self.thread.join().is_err() {
            tracing::error!("the snapshot's thread ended in a panic");
        }
    }
}

/// Saves after each change, but waits for more before; a save that takes long is followed by a longer wait.
fn run(notes: &Receiver<Note>, mut save: impl FnMut()) {
    let mut gather = GATHER;
    while let Ok(Note::Changed) = notes.recv() {
        let began = clock::now();
        let is_last = loop {
            match notes.recv_timeout(gather.saturating_sub(began.elapsed())) {
                Ok(Note::Changed) => {}
                Ok(Note::Stop) | Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        let began = clock::now();
        save();
        if is_last {
            return;
        }
        gather = (began.elapsed() * SHARE).max(GATHER);
    }
}

fn save(path: &std::path::Path, proxy: &ProxyHandle) {
    let began = clock::now();
    match snapshot::write_resources(path, &proxy.resources()) {
        Ok(()) => tracing::debug!(took_us = began.elapsed_us(), "snapshot written"),
        Err(error) => tracing::warn!(%error, "the last good state is not kept over a restart"),
    }
}

/// How long changes are gathered at least.
const GATHER: Duration = Duration::from_secs(1);
/// Writing takes at most one part in so many of the thread's time.
const SHARE: u32 = 20;
/// How far the thread stands back.
const NICENESS: i32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_before_the_stop_is_saved_once() {
        let (notes, receiver) = sync_channel(8);
        for _ in 0..3 {
            notes.send(Note::Changed).unwrap();
        }
        notes.send(Note::Stop).unwrap();
        let mut saves = 0;
        run(&receiver, || saves += 1);
        assert_eq!(saves, 1);
    }

    #[test]
    fn nothing_is_saved_where_nothing_changed() {
        let (notes, receiver) = sync_channel(8);
        notes.send(Note::Stop).unwrap();
        run(&receiver, || panic!("nothing to save"));
    }
}
