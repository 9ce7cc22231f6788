//! The way from the watches to the compile loop: a bounded queue, numbered.

use std::sync::{Arc, Mutex, PoisonError};

use propylon_kit::clock::{self, Monotonic};
use propylon_model::{Kind, ObjectRef};
use propylon_translate::{Key, manifest::Object};
use tokio::sync::mpsc;

use super::{health::Scope, references::Wanted};

/// Inputs that may wait; watches wait in turn when the compile loop is behind.
const QUEUE: usize = 4096;

/// What a watch has to say.
#[derive(Clone, Debug)]
pub enum What {
    /// An object is new, or other than it was.
    Set(Object),
    /// An object is gone.
    Remove(Kind, Key),
    /// An object exists and does not decode.
    Malformed(ObjectRef, String),
    /// A Secret or config map that was watched because something names it is not watched any more.
    Dropped(Kind, Key),
    /// Everything that exists in this scope has been set.
    Listed(Scope),
    /// These are watched or read one by one now: those that are waited for are known to [`super::Health`].
    Kept(Wanted),
}

/// One thing to say, when it was heard, and its number.
#[derive(Clone, Debug)]
pub struct Input {
    /// What.
    pub what: What,
    /// When it came from the API server.
    pub at: Monotonic,
    /// 1 for the first of the process; inputs come in order.
    pub sequence: u64,
}

/// The end of the queue that watches hold.
#[derive(Clone, Debug)]
pub struct Inputs {
    sender: mpsc::Sender<Input>,
    last: Arc<Mutex<u64>>,
}

/// Makes the queue.
pub fn queue() -> (Inputs, mpsc::Receiver<Input>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let last = Arc::new(Mutex::new(0));
    (Inputs { sender, last }, receiver)
}

impl Inputs {
    /// Puts something in; waits while the queue is full. After the end of the compile loop it is lost.
    pub async fn send(&self, what: What) {
        let at = clock::now();
        let Ok(permit) = self.sender.reserve().await else {
            return;
        };
        // The number and the place in the queue are given together, so that both tell the same order.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last += 1;
        permit.send(Input {
            what,
            at,
            sequence: *last,
        });
    }

    /// The number of the last input so far: whatever a store holds now has this number at most.
    pub fn sequence(&self) -> u64 {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
