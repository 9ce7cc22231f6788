//! What one worker has of layer 4: its sockets, its connections, the buffer and the pipes that they share.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
};

use propylon_model::L4Protocol;
use slab::Slab;
use tokio::{net::TcpListener, task::spawn_local};

use super::{End, Listener, accept::accept_loop, lifetime::Lifetime, splice::Pipes, udp};
use crate::{
    listener::Reserve,
    sockets::Door,
    worker::{Stage, Worker},
};

/// One worker's part of layer 4.
pub(crate) struct LocalL4 {
    /// Which worker this is.
    index: usize,
    /// What reads go into.
    pub(super) buffer: RefCell<Box<[u8]>>,
    pub(super) pipes: Pipes,
    /// Of all accept loops.
    pub(super) reserve: RefCell<Reserve>,
    /// Connections before they copy: looked at by every sweep.
    opening: RefCell<Slab<Rc<Lifetime>>>,
    /// Connections that copy: each is looked at by every [`STRIPES`]th sweep.
    open: RefCell<Slab<Rc<Lifetime>>>,
    stripe: Cell<usize>,
    accepting: RefCell<HashMap<u64, Rc<Stop>, foldhash::fast::RandomState>>,
    /// Accept loops that have not ended.
    loops: Cell<usize>,
    /// Made with the first UDP listener.
    udp: RefCell<Option<Rc<udp::Engine>>>,
}

/// Tells the accept loops of a listener to end.
#[derive(Default)]
pub(super) struct Stop {
    is_set: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        self.is_set.get()
    }

    /// Remembers whom to wake.
    pub(super) fn register(&self, context: &Context<'_>) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
    }

    pub(super) fn set(&self) {
        self.is_set.set(true);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }
}

impl LocalL4 {
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            buffer: RefCell::new(vec![0; BUFFER].into_boxed_slice()),
            pipes: Pipes::default(),
            reserve: RefCell::default(),
            opening: RefCell::default(),
            open: RefCell::default(),
            stripe: Cell::new(0),
            accepting: RefCell::default(),
            loops: Cell::new(0),
            udp: RefCell::default(),
        }
    }

    /// Which worker this is.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// The sessions of UDP.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(super) fn udp_engine(&self, worker: &Rc<Worker>) -> io::Result<Rc<udp::Engine>> {
        let mut place = self.udp.borrow_mut();
        if let Some(engine) = &*place {
            return Ok(Rc::clone(engine));
        }
        let engine = Rc::new(udp::Engine::new()?);
        drop(spawn_local(Rc::clone(&engine).run(Rc::clone(worker))));
        *place = Some(Rc::clone(&engine));
        Ok(engine)
    }

    /// Whether nothing is open, and nothing more can come.
    pub(crate) fn is_empty(&self) -> bool {
        let sessions = self.udp.borrow().as_ref().map_or(0, |engine| engine.len());
        self.loops.get() == 0 && sessions == 0 && self.opening.borrow().is_empty() && self.open.borrow().is_empty()
    }

    /// Fires what is too late.
    pub(crate) fn sweep(&self, now_ms: u64) {
        // The wakers run later, as tasks: nothing below changes the lists while they are walked.
        self.opening
            .borrow()
            .iter()
            .for_each(|(_, lifetime)| lifetime.sweep(now_ms));
        let stripe = (self.stripe.get() + 1) % STRIPES;
        self.stripe.set(stripe);
        let open = self.open.borrow();
        for slot in (stripe..open.capacity()).step_by(STRIPES) {
            if let Some(lifetime) = open.get(slot) {
                lifetime.sweep(now_ms);
            }
        }
        if let Some(engine) = &*self.udp.borrow() {
            engine.sweep(now_ms, stripe);
        }
    }

    /// Takes over a stage of the drain.
    pub(crate) fn enter(&self, stage: Stage) {
        if stage == Stage::Aborting {
            for list in [&self.opening, &self.open] {
                list.borrow()
                    .iter()
                    .for_each(|(_, lifetime)| lifetime.fire(End::DrainTimeout));
            }
            if let Some(engine) = &*self.udp.borrow() {
                engine.abort();
            }
        }
    }

    /// Ends the accept loops.
    fn close(&self) {
        for (_, stop) in self.accepting.borrow_mut().drain() {
            stop.set();
        }
    }

    /// Begins to accept for listeners that are new and ends it for those that are gone.
    fn follow(&self, worker: &Rc<Worker>, listeners: &[Arc<Listener>]) {
        let mut accepting = self.accepting.borrow_mut();
        accepting.retain(|id, stop| {
            let stays = listeners.iter().any(|listener| listener.id == *id);
            if !stays {
                stop.set();
            }
            stays
        });
        for listener in listeners {
            if accepting.contains_key(&listener.id) {
                continue;
            }
            let stop = Rc::new(Stop::default());
            accepting.insert(listener.id, Rc::clone(&stop));
            match listener.protocol {
                L4Protocol::Tcp => begin_tcp(worker, listener, &stop),
                L4Protocol::Udp => udp::begin(worker, listener, &stop),
            }
        }
    }
}

fn begin_tcp(worker: &Rc<Worker>, listener: &Arc<Listener>, stop: &Rc<Stop>) {
    for socket in listener.take_tcp(worker.l4.index()) {
        match TcpListener::from_std(socket) {
            Ok(socket) => drop(spawn_local(accept_loop(
                Looping::new(worker),
                Arc::clone(listener),
                socket,
                Rc::clone(stop),
            ))),
            Err(error) => tracing::error!(%error, address = %listener.address, "cannot listen"),
        }
    }
}

/// Follows the listeners from when the door opens until it closes.
pub(crate) async fn follow(worker: Rc<Worker>) {
    let shared = &worker.shared;
    let live = Arc::clone(&shared.live.l4);
    let mut changes = live.follow();
    shared.until_door(|door| door != Door::Waiting).await;
    let mut closed = pin!(shared.until_door(|door| door == Door::Closed));
    while shared.is_door_open() {
        worker.l4.follow(&worker, &live.listeners());
        // Both are cancel safe: a change that was not taken is seen the next time.
        let change = tokio::select! {
            change = changes.changed() => change,
            () = &mut closed => break,
        };
        if change.is_err() {
            break;
        }
    }
    worker.l4.close();
}

/// Counts an accept loop while it lives.
pub(super) struct Looping(Rc<Worker>);

impl Looping {
    pub(super) fn new(worker: &Rc<Worker>) -> Self {
        let loops = &worker.l4.loops;
        loops.set(loops.get() + 1);
        Self(Rc::clone(worker))
    }

    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.0
    }
}

impl Drop for Looping {
    fn drop(&mut self) {
        let loops = &self.0.l4.loops;
        loops.set(loops.get().saturating_sub(1));
    }
}

/// A connection's place under the sweep.
pub(super) struct Enlisted {
    worker: Rc<Worker>,
    lifetime: Rc<Lifetime>,
    slot: Cell<usize>,
    is_open: Cell<bool>,
}

impl Enlisted {
    pub(super) fn new(worker: &Rc<Worker>) -> Self {
        let lifetime = Rc::new(Lifetime::new(Rc::clone(&worker.now_ms)));
        let slot = worker.l4.opening.borrow_mut().insert(Rc::clone(&lifetime));
        Self {
            worker: Rc::clone(worker),
            lifetime,
            slot: Cell::new(slot),
            is_open: Cell::new(false),
        }
    }

    pub(super) fn lifetime(&self) -> &Rc<Lifetime> {
        &self.lifetime
    }

    /// The connection copies from now on.
    pub(super) fn opened(&self) {
        if !self.is_open.replace(true) {
            let local = &self.worker.l4;
            drop(local.opening.borrow_mut().try_remove(self.slot.get()));
            self.slot.set(local.open.borrow_mut().insert(Rc::clone(&self.lifetime)));
        }
    }
}

impl Drop for Enlisted {
    fn drop(&mut self) {
        let local = &self.worker.l4;
        let list = if self.is_open.get() {
            &local.open
        } else {
            &local.opening
        };
        drop(list.borrow_mut().try_remove(self.slot.get()));
    }
}

/// What one read may bring. A stream that fills it is worth splicing.
const BUFFER: usize = 32 * 1024;
/// Sweeps in which every open connection is looked at once: idle timeouts are met up to a second late.
pub(super) const STRIPES: usize = 10;
