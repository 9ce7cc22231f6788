//! Who needs what, read backwards.

use std::collections::{BTreeMap, BTreeSet};

/// The users of each thing.
#[derive(Debug)]
pub(crate) struct Index<T, U>(BTreeMap<T, BTreeSet<U>>);

impl<T, U> Default for Index<T, U> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Clone, U: Ord + Clone> Index<T, U> {
    /// Replaces what a user needs.
    pub(crate) fn replace<'t>(
        &mut self,
        user: &U,
        old: impl IntoIterator<Item = &'t T>,
        new: impl IntoIterator<Item = &'t T>,
    ) where
        T: 't,
    {
        for thing in old {
            self.remove(thing, user);
        }
        for thing in new {
            self.insert(thing.clone(), user.clone());
        }
    }

    /// Adds a user.
    pub(crate) fn insert(&mut self, thing: T, user: U) {
        self.0.entry(thing).or_default().insert(user);
    }

    /// Takes a user away; a thing without users is forgotten.
    pub(crate) fn remove(&mut self, thing: &T, user: &U) {
        if let Some(users) = self.0.get_mut(thing) {
            users.remove(user);
            if users.is_empty() {
                self.0.remove(thing);
            }
        }
    }

    /// The users of a thing, in order.
    pub(crate) fn of(&self, thing: &T) -> impl Iterator<Item = &U> {
        self.0.get(thing).into_iter().flatten()
    }

    /// Whether a thing has users.
    pub(crate) fn has(&self, thing: &T) -> bool {
        self.0.contains_key(thing)
    }

    /// Everything that has users, in order.
    pub(crate) fn things(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
    }
}
