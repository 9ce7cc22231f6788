//! What the controller publishes, and who has it.

pub(crate) mod store;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use propylon_kit::clock;
use propylon_model::Delta;
use tokio::sync::watch;

use self::store::Store;
use crate::{
    encoded::Encoded,
    key::ResourceKey,
    proxy::{ProxyIdentity, ProxyState, Rejection},
    session::Event,
    value,
    version::{Generation, StateVersion},
};

/// The resources, their versions, and the proxies that follow them. Clones are handles of the same one.
///
/// Nothing is served before the first [`Publisher::publish`], so that a controller that has not seen the cluster yet takes
/// nothing away from a proxy. What is published must be whole: a group comes with its pools, or after them.
#[derive(Clone)]
pub struct Publisher(Arc<Shared>);

struct Shared {
    store: Mutex<Store>,
    generation: watch::Sender<Generation>,
    proxies: Mutex<BTreeMap<ProxyIdentity, (u64, ProxyState)>>,
    acknowledged: watch::Sender<u64>,
    next_connection: AtomicU64,
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Publisher({})", self.generation())
    }
}

impl Publisher {
    /// Publishes nothing yet.
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            store: Mutex::default(),
            generation: watch::Sender::new(Generation::default()),
            proxies: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            next_connection: AtomicU64::new(1),
        }))
    }

    /// Publishes changes; every connected proxy gets them, each as fast as it reads. Neither waits nor blocks.
    ///
    /// Returns the generation that has them. The first call makes generation 1, even of an empty delta; a later one that
    /// changes no content makes none.
    ///
    /// # Cost
    /// Linear in the delta: each changed resource is encoded and hashed once, whatever the number of proxies.
    pub fn publish(&self, delta: &Delta) -> Generation {
        let changes: Vec<_> = value::changes(delta).filter_map(encode).collect();
        let generation = self.store().apply(changes);
        self.0.generation.send_if_modified(|published| {
            let is_new = *published < generation;
            *published = generation.max(*published);
            is_new
        });
        generation
    }

    /// The current generation; 0 before the first publication.
    pub fn generation(&self) -> Generation {
        *self.0.generation.borrow()
    }

    /// The version of the current state: equal on every replica that has the same world.
    pub fn version(&self) -> StateVersion {
        self.store().state()
    }

    /// The newest generation whose state has this version: places what a proxy acknowledged to another replica. None
    /// where it is not among the 4,096 most recent ones.
    pub fn generation_of(&self, version: StateVersion) -> Option<Generation> {
        self.store().generation_of(version)
    }

    /// The proxies that are connected, in the order of their names.
    pub fn proxies(&self) -> Vec<ProxyState> {
        self.proxy_map().values().map(|(_, state)| state.clone()).collect()
    }

    /// Changes whenever a proxy connects, acknowledges or is gone; the number means nothing.
    pub fn acknowledged(&self) -> watch::Receiver<u64> {
        self.0.acknowledged.subscribe()
    }

    /// How many resources there are, and how many bytes they take encoded.
    pub fn size(&self) -> (usize, usize) {
        self.store().size()
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.0.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn generations(&self) -> watch::Receiver<Generation> {
        self.0.generation.subscribe()
    }

    /// Enters a proxy; it is forgotten when the connection is dropped. A second connection of a proxy replaces the first.
    pub(crate) fn connect(&self, identity: ProxyIdentity) -> Connection {
        let number = self.0.next_connection.fetch_add(1, Ordering::Relaxed);
        let state = ProxyState {
            identity: identity.clone(),
            acknowledged: Generation::default(),
            version: StateVersion::EMPTY,
            rejected: Vec::new(),
            connected_unix_s: i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX),
        };
        self.proxy_map().insert(identity.clone(), (number, state));
        self.notify();
        Connection {
            publisher: self.clone(),
            identity,
            number,
        }
    }

    fn proxy_map(&self) -> MutexGuard<'_, BTreeMap<ProxyIdentity, (u64, ProxyState)>> {
        self.0.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.0.acknowledged.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// A connected proxy.
pub(crate) struct Connection {
    publisher: Publisher,
    identity: ProxyIdentity,
    number: u64,
}

impl Connection {
    /// Records what a session learned.
    pub(crate) fn record(&self, event: Event) {
        match event {
            Event::Acknowledged(generation, state, rejected) => self.update(|proxy| {
                proxy.acknowledged = generation;
                proxy.version = state;
                proxy.rejected = rejected;
            }),
            Event::Nothing => {}
            Event::Rejected(rejected) => self.reject(rejected),
        }
    }

    fn reject(&self, rejected: Vec<Rejection>) {
        self.update(|proxy| proxy.rejected = rejected);
    }

    fn update(&self, change: impl FnOnce(&mut ProxyState)) {
        if let Some((number, state)) = self.publisher.proxy_map().get_mut(&self.identity)
            && *number == self.number
        {
            change(state);
        }
        self.publisher.notify();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut proxies = self.publisher.proxy_map();
        if proxies
            .get(&self.identity)
            .is_some_and(|(number, _)| *number == self.number)
        {
            proxies.remove(&self.identity);
        }
        drop(proxies);
        self.publisher.notify();
    }
}

fn encode((key, value): (ResourceKey, Option<value::Value>)) -> Option<(ResourceKey, Option<Encoded>)> {
    let Some(value) = value else {
        return Some((key, None));
    };
    match Encoded::new(key.clone(), &value) {
        Ok(encoded) => Some((key, Some(encoded))),
        Err(error) => {
            tracing::error!(%error, "a resource is not published");
            None
        }
    }
}
