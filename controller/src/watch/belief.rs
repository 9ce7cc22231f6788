//! What one list-and-watch is believed to hold: events of the API server in, believed changes out.
//!
//! Nothing goes from many to none on one signal. A list that came back empty, or with less than half of what was known,
//! removes nothing until a second list agrees with it; the first list of all is asked for twice where it is empty. What
//! such a list adds or changes counts at once, and an object whose deletion is an event of its own is gone at once.
//! Pure: no clock, no socket.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use kube::runtime::watcher::Event;
use propylon_translate::Key;

/// An object as it comes from a watch, or what is known of one that does not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<K> {
    /// Namespace and name.
    pub key: Key,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// The object; else what is wrong with it.
    pub object: Result<K, String>,
}

/// A change that is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<K> {
    /// The object is new, or other than it was.
    Set(Key, K),
    /// The object is there but does not decode; the last good version of it stays in force.
    Malformed(Key, String),
    /// The object is gone.
    Remove(Key),
}

/// What an event came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<K> {
    /// Nothing is different.
    Nothing,
    /// One object is.
    Changed(Change<K>),
    /// A list ended and is believed: these objects are gone, and everything that exists has been set.
    Listed {
        /// Those that are gone.
        removed: Vec<Key>,
    },
    /// A list ended that is not believed before a second one agrees: ask for it.
    Doubted {
        /// Those whose removal is believed, because the list before missed them too.
        removed: Vec<Key>,
        /// How many objects stay although the list missed them.
        held: usize,
        /// How many were known before the list.
        known: usize,
    },
}

/// The state of one list-and-watch.
#[derive(Debug, Default)]
pub struct Belief {
    /// Every object that exists, with its version.
    known: HashMap<Key, Box<str>>,
    /// What the list that is under way brought so far.
    listing: Option<Listing>,
    /// What the last list missed and was not believed.
    doubted: Option<HashSet<Key>>,
    is_listed: bool,
}

#[derive(Debug, Default)]
struct Listing {
    seen: HashSet<Key>,
    known_before: usize,
}

impl Belief {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a list was believed.
    pub const fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// Whether a list is under way.
    pub const fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// Whether a list waits for a second one.
    pub const fn is_doubting(&self) -> bool {
        self.doubted.is_some()
    }

    /// How many objects are believed to exist.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is believed to exist.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The objects that are believed to exist.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.known.keys()
    }

    /// Takes an event.
    pub fn step<K>(&mut self, event: Event<Seen<K>>) -> Outcome<K> {
        match event {
            Event::Init => {
                self.listing = Some(Listing {
                    seen: HashSet::new(),
                    known_before: self.known.len(),
                });
                Outcome::Nothing
            }
            Event::InitApply(seen) => {
                if let Some(listing) = &mut self.listing {
                    listing.seen.insert(seen.key.clone());
                }
                self.set(seen)
            }
            Event::Apply(seen) => self.set(seen),
            Event::Delete(seen) => self.remove(seen.key),
            Event::InitDone => {
                let listing = self.listing.take().unwrap_or_default();
                self.listed(&listing)
            }
        }
    }

    fn set<K>(&mut self, seen: Seen<K>) -> Outcome<K> {
        let Seen { key, version, object } = seen;
        if let Some(doubted) = &mut self.doubted {
            doubted.remove(&key);
        }
        let before = self.known.insert(key.clone(), version.clone().into_boxed_str());
        if before.is_some_and(|before| *before == *version) {
            return Outcome::Nothing;
        }
        Outcome::Changed(match object {
            Ok(object) => Change::Set(key, object),
            Err(message) => Change::Malformed(key, message),
        })
    }

    fn remove<K>(&mut self, key: Key) -> Outcome<K> {
        if let Some(doubted) = &mut self.doubted {
            doubted.remove(&key);
        }
        if self.known.remove(&key).is_none() {
            return Outcome::Nothing;
        }
        Outcome::Changed(Change::Remove(key))
    }

    fn listed<K>(&mut self, listing: &Listing) -> Outcome<K> {
        let missing: HashSet<Key> = self
            .known
            .keys()
            .filter(|key| !listing.seen.contains(*key))
            .cloned()
            .collect();
        let before = mem::take(&mut self.doubted);
        let is_empty_start = !self.is_listed && listing.seen.is_empty() && before.is_none();
        let is_halved = missing.len() * 2 > listing.known_before && !missing.is_empty();
        if !is_empty_start && !is_halved {
            return self.believe(missing);
        }
        // What the list before missed too is gone; what only this one misses waits for the next.
        let (agreed, held): (HashSet<Key>, HashSet<Key>) = missing
            .into_iter()
            .partition(|key| before.as_ref().is_some_and(|before| before.contains(key)));
        if held.is_empty() && !is_empty_start {
            return self.believe(agreed);
        }
        let outcome = Outcome::Doubted {
            removed: self.forget(agreed),
            held: held.len(),
            known: listing.known_before,
        };
        self.doubted = Some(held);
        outcome
    }

    fn believe<K>(&mut self, missing: HashSet<Key>) -> Outcome<K> {
        self.is_listed = true;
        Outcome::Listed {
            removed: self.forget(missing),
        }
    }

    fn forget(&mut self, keys: HashSet<Key>) -> Vec<Key> {
        for key in &keys {
            self.known.remove(key);
        }
        keys.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
