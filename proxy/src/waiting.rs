//! Requests that wait for room at an endpoint: bounded, first come first served, woken directly when room is made.
//!
//! The queue is shared by all workers. It is locked only by requests that wait and by those that end while others wait;
//! where no endpoint is full nobody comes near it.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll, Waker},
    thread::{self, ThreadId},
};

/// The requests that wait for one list of endpoints.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// How many places are taken.
    count: AtomicU32,
    next_id: AtomicU64,
    queue: Mutex<VecDeque<Waiter>>,
}

/// What a request waits for: where one finds no room, another that needs the same finds none either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Need {
    /// Most requests of an endpoint with which it has room.
    pub(crate) max_requests: Option<u32>,
    /// Most connections.
    pub(crate) max_connections: Option<u32>,
    /// Whether a connection is needed that nothing else uses.
    pub(crate) own_connection: bool,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    need: Need,
    thread: ThreadId,
    waker: Waker,
}

impl Waiting {
    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(SeqCst) == 0
    }

    /// Takes a place, behind all others; none where `most` are taken.
    pub(crate) fn join(&self, most: u32, need: Need) -> Option<Place<'_>> {
        let taken = self
            .count
            .fetch_update(SeqCst, SeqCst, |count| (count < most).then_some(count + 1));
        taken.ok().map(|_| Place {
            waiting: self,
            id: self.next_id.fetch_add(1, Relaxed),
            need,
            stage: Cell::new(Stage::New),
        })
    }

    /// Wakes who waits longest, if anybody does: room was made, or may have been.
    pub(crate) fn wake_next(&self) {
        if self.is_empty() {
            return;
        }
        let next = self.lock().pop_front();
        if let Some(waiter) = next {
            waiter.waker.wake();
        }
    }

    /// Whether who waits longest belongs to this thread, so that a connection of this thread is of use.
    pub(crate) fn is_next_here(&self) -> bool {
        let here = thread::current().id();
        self.lock().front().is_some_and(|waiter| waiter.thread == here)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue; given up when it is dropped.
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    id: u64,
    need: Need,
    stage: Cell<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    Queued,
}

impl Place<'_> {
    /// Tries when it is this one's turn; what `attempt` gives ends the wait.
    pub(crate) fn poll<T>(&self, context: &Context<'_>, mut attempt: impl FnMut() -> Option<T>) -> Poll<T> {
        let was_queued = self.stage.get() == Stage::Queued;
        if was_queued && !self.is_turn(context) {
            return Poll::Pending;
        }
        if was_queued && let Some(taken) = attempt() {
            return Poll::Ready(taken);
        }
        let is_first = self.enqueue(context);
        // Room that was made before the place was in the queue woke nobody.
        if let Some(taken) = is_first.then(attempt).flatten() {
            return Poll::Ready(taken);
        }
        if was_queued {
            self.wake_other();
        }
        Poll::Pending
    }

    /// The room that this one was woken for is none for it: wakes the first one behind it that needs something that
    /// nobody before needs.
    fn wake_other(&self) {
        let mut queue = self.waiting.lock();
        let Some(own) = queue.iter().position(|waiter| waiter.id == self.id) else {
            return;
        };
        let other = (own + 1..queue.len()).find(|place| {
            let need = queue.get(*place).map(|waiter| waiter.need);
            need != Some(self.need) && queue.iter().take(own).all(|before| Some(before.need) != need)
        });
        let other = other.and_then(|place| queue.remove(place));
        drop(queue);
        if let Some(other) = other {
            other.waker.wake();
        }
    }

    /// Whether somebody took this one from the queue to wake it; else only renews whom to wake.
    fn is_turn(&self, context: &Context<'_>) -> bool {
        let mut queue = self.waiting.lock();
        match queue.iter_mut().find(|waiter| waiter.id == self.id) {
            Some(waiter) => {
                waiter.waker.clone_from(context.waker());
                false
            }
            None => true,
        }
    }

    /// Goes to the end of the queue, or back to its place where it was there; whether it stands first of those with its
    /// need.
    fn enqueue(&self, context: &Context<'_>) -> bool {
        let waiter = Waiter {
            id: self.id,
            need: self.need,
            thread: thread::current().id(),
            waker: context.waker().clone(),
        };
        let mut queue = self.waiting.lock();
        // Who was woken in vain meanwhile may stand behind: the order is that of coming.
        let place = queue.partition_point(|other| other.id < self.id);
        let is_first = queue.iter().take(place).all(|before| before.need != self.need);
        queue.insert(place, waiter);
        self.stage.set(Stage::Queued);
        is_first
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.lock().retain(|waiter| waiter.id != self.id);
        self.waiting.count.fetch_sub(1, SeqCst);
        // Served, there may be room for another; given up, the wake-up may have been for another.
        self.waiting.wake_next();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn room(slots: &AtomicUsize) -> Option<()> {
        slots
            .fetch_update(SeqCst, SeqCst, |slots| slots.checked_sub(1))
            .ok()
            .map(drop)
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let waiting = Waiting::default();
        let first = waiting.join(2, Need::default());
        let second = waiting.join(2, Need::default());
        assert!(first.is_some() && second.is_some() && waiting.join(2, Need::default()).is_none());
        drop(first);
        assert!(waiting.join(2, Need::default()).is_some());
        drop(second);
        assert!(waiting.is_empty());
        assert!(waiting.join(0, Need::default()).is_none());
    }

    #[test]
    fn first_come_first_served() {
        let (waiting, slots) = (Waiting::default(), AtomicUsize::new(0));
        let wakes: Vec<Arc<Count>> = (0..3).map(|_| Arc::default()).collect();
        let wakers: Vec<Waker> = wakes.iter().map(|count| Waker::from(Arc::clone(count))).collect();
        let poll = |place: &Place<'_>, index: usize| {
            place
                .poll(&Context::from_waker(&wakers[index]), || room(&slots))
                .is_ready()
        };
        let mut places: Vec<Option<Place<'_>>> = (0..3).map(|_| waiting.join(9, Need::default())).collect();
        for (index, place) in places.iter().enumerate() {
            assert!(!poll(place.as_ref().unwrap(), index));
        }
        slots.store(1, SeqCst);
        assert!(!poll(places[2].as_ref().unwrap(), 2), "it is not its turn");
        waiting.wake_next();
        assert_eq!(wakes[0].0.load(SeqCst), 1);
        assert!(poll(places[0].as_ref().unwrap(), 0));
        places[0] = None;
        assert_eq!(wakes[1].0.load(SeqCst), 1, "the next one may look too");
        assert!(!poll(places[1].as_ref().unwrap(), 1), "and finds no room");
        slots.store(1, SeqCst);
        waiting.wake_next();
        assert_eq!(wakes[1].0.load(SeqCst), 2, "it kept its place");
        places[1] = None;
        assert_eq!(wakes[2].0.load(SeqCst), 1, "who goes hands its turn on");
        assert!(poll(places[2].as_ref().unwrap(), 2));
    }

    #[test]
    fn room_that_was_made_just_before_is_found() {
        let (waiting, slots) = (Waiting::default(), AtomicUsize::new(1));
        let place = waiting.join(1, Need::default()).unwrap();
        let context = Context::from_waker(Waker::noop());
        assert!(place.poll(&context, || room(&slots)).is_ready());
    }

    #[test]
    fn room_that_is_none_for_the_first_is_offered_to_those_that_need_less() {
        let waiting = Waiting::default();
        let (strict, lax) = (
            Need::default(),
            Need {
                max_requests: Some(9),
                ..Need::default()
            },
        );
        let wakes: Vec<Arc<Count>> = (0..4).map(|_| Arc::default()).collect();
        let wakers: Vec<Waker> = wakes.iter().map(|count| Waker::from(Arc::clone(count))).collect();
        let needs = [strict, lax, strict, lax];
        let places: Vec<Place<'_>> = needs.iter().map(|need| waiting.join(9, *need).unwrap()).collect();
        let poll = |index: usize, slots: &AtomicUsize| {
            let context = Context::from_waker(&wakers[index]);
            places[index].poll(&context, || room(slots)).is_ready()
        };
        let (none, one) = (AtomicUsize::new(0), AtomicUsize::new(1));
        assert!((0..3).all(|index| !poll(index, &none)));
        assert!(!poll(3, &one), "one with the same need came before");
        waiting.wake_next();
        assert!(!poll(0, &none));
        let counts = || wakes.iter().map(|count| count.0.load(SeqCst)).collect::<Vec<_>>();
        assert_eq!(counts(), [1, 1, 0, 0], "the other need is asked, once");
        assert!(!poll(1, &none));
        assert_eq!(counts(), [1, 1, 0, 0], "and nobody in a circle");
        let newcomer = waiting
            .join(
                9,
                Need {
                    own_connection: true,
                    ..strict
                },
            )
            .unwrap();
        let context = Context::from_waker(Waker::noop());
        assert!(
            newcomer.poll(&context, || room(&one)).is_ready(),
            "need not wait behind others"
        );
    }

    /// Threads that take and give back a few slots, each wait ended by a wake-up: nobody is forgotten.
    #[test]
    fn nobody_is_forgotten() {
        let (waiting, slots) = (Waiting::default(), AtomicUsize::new(2));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    for _ in 0..200 {
                        runtime.block_on(async {
                            let place = waiting.join(8, Need::default()).unwrap();
                            std::future::poll_fn(|context| place.poll(context, || room(&slots))).await;
                        });
                        slots.fetch_add(1, SeqCst);
                        waiting.wake_next();
                    }
                });
            }
        });
        assert_eq!((slots.load(SeqCst), waiting.is_empty()), (2, true));
    }
}
