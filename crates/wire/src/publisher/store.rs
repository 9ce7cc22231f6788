//! The published resources, and in which generation each changed last.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    encoded::Encoded,
    key::ResourceKey,
    version::{Generation, StateVersion},
};

/// How many recent states can be told by their version.
const RECENT_STATES: usize = 4096;

/// How many removed names are remembered; a session that is further behind compares names instead.
const TOMBSTONES: usize = 65_536;

/// The published resources. Each name has one place in the order of changes, that of its last change: what a session has
/// not sent yet is the part behind its cursor, so that no session needs a list of its own.
#[derive(Debug)]
pub(crate) struct Store {
    generation: Generation,
    state: StateVersion,
    entries: HashMap<ResourceKey, Entry>,
    changes: BTreeSet<(Generation, ResourceKey)>,
    tombstones: BTreeSet<(Generation, ResourceKey)>,
    /// The newest generation of which a tombstone was forgotten.
    floor: Generation,
    recent: VecDeque<(Generation, StateVersion)>,
    live: usize,
    bytes: usize,
    tombstone_limit: usize,
}

/// A name that is published, or was.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The generation that made it, after none of that name was there.
    pub(crate) born: Generation,
    /// The generation that changed it last.
    pub(crate) changed: Generation,
    /// The resource; none where it is removed.
    pub(crate) encoded: Option<Arc<Encoded>>,
}

impl Default for Store {
    fn default() -> Self {
        Self::with_tombstones(TOMBSTONES)
    }
}

impl Store {
    /// Remembers only so many removed names.
    pub(crate) fn with_tombstones(tombstone_limit: usize) -> Self {
        Self {
            generation: Generation::default(),
            state: StateVersion::EMPTY,
            entries: HashMap::new(),
            changes: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            floor: Generation::default(),
            recent: VecDeque::new(),
            live: 0,
            bytes: 0,
            tombstone_limit,
        }
    }

    /// Applies changes as one generation, and returns the generation that has them.
    pub(crate) fn apply(&mut self, changes: Vec<(ResourceKey, Option<Encoded>)>) -> Generation {
        let next = self.generation.next();
        let mut is_changed = self.generation == Generation::default();
        for (key, encoded) in changes {
            is_changed |= self.change(next, key, encoded);
        }
        if is_changed {
            self.generation = next;
            self.recent.push_back((next, self.state));
            if self.recent.len() > RECENT_STATES {
                self.recent.pop_front();
            }
            self.forget();
        }
        self.generation
    }

    fn change(&mut self, next: Generation, key: ResourceKey, encoded: Option<Encoded>) -> bool {
        let encoded = encoded.map(Arc::new);
        let old = self.entries.get(&key);
        let old_encoded = old.and_then(|entry| entry.encoded.clone());
        let versions = [&old_encoded, &encoded].map(|encoded| encoded.as_ref().map(|encoded| encoded.version));
        if versions[0] == versions[1] {
            return false;
        }
        if let Some(old) = old {
            let place = (old.changed, key.clone());
            self.changes.remove(&place);
            self.tombstones.remove(&place);
        }
        let born = match (old, &old_encoded) {
            (Some(old), Some(_)) => old.born,
            _ => next,
        };
        self.account(old_encoded.as_deref(), encoded.as_deref());
        self.changes.insert((next, key.clone()));
        if encoded.is_none() {
            self.tombstones.insert((next, key.clone()));
        }
        let entry = Entry {
            born,
            changed: next,
            encoded,
        };
        self.entries.insert(key, entry);
        true
    }

    fn account(&mut self, old: Option<&Encoded>, new: Option<&Encoded>) {
        if let Some(old) = old {
            self.state.subtract(old.version);
            self.live -= 1;
            self.bytes -= old.payload.len();
        }
        if let Some(new) = new {
            self.state.add(new.version);
            self.live += 1;
            self.bytes += new.payload.len();
        }
    }

    /// Forgets the oldest tombstones above the limit.
    fn forget(&mut self) {
        while self.tombstones.len() > self.tombstone_limit {
            let Some((generation, key)) = self.tombstones.pop_first() else {
                return;
            };
            self.floor = generation;
            self.entries.remove(&key);
            self.changes.remove(&(generation, key));
        }
    }

    /// The current generation.
    pub(crate) const fn generation(&self) -> Generation {
        self.generation
    }

    /// The version of the current state.
    pub(crate) const fn state(&self) -> StateVersion {
        self.state
    }

    /// Number of resources, and bytes of their payloads.
    pub(crate) const fn size(&self) -> (usize, usize) {
        (self.live, self.bytes)
    }

    /// The newest generation that had this state.
    pub(crate) fn generation_of(&self, version: StateVersion) -> Option<Generation> {
        let found = self.recent.iter().rev().find(|(_, state)| *state == version);
        found.map(|(generation, _)| *generation)
    }

    /// Whether everything that changed after a generation is still known.
    pub(crate) fn reaches(&self, generation: Generation) -> bool {
        generation >= self.floor
    }

    /// What changed after a generation, each name once, in the order of the changes.
    pub(crate) fn after(&self, generation: Generation) -> impl Iterator<Item = (&ResourceKey, &Entry)> {
        let first = (
            generation.next(),
            ResourceKey::new(crate::key::ResourceKind::ALL[0], ""),
        );
        self.changes
            .range(first..)
            .filter_map(|(_, key)| self.entries.get(key).map(|entry| (key, entry)))
    }

    /// Every resource, in no order.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Arc<Encoded>> {
        self.entries.values().filter_map(|entry| entry.encoded.as_ref())
    }
}
