//! A transaction that is on its way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use propylon_model::Delta;

use super::{MirrorError, key_of};
use crate::{
    encoded,
    key::ResourceKey,
    message,
    value::{self, Value},
    version::ContentVersion,
};

/// Most payload that a transaction may have, in bytes.
const MAX_BYTES: usize = 1 << 30;

/// A transaction that is on its way: the last word on each name.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) transaction: u64,
    /// Resources that could not be read, and why.
    pub(super) unreadable: Vec<(ResourceKey, String)>,
    known: BTreeMap<ResourceKey, Change>,
    foreign: BTreeMap<(u32, Arc<str>), Option<ContentVersion>>,
    bytes: usize,
}

#[derive(Debug)]
enum Change {
    Put(ContentVersion, Option<Value>),
    Remove,
}

impl Staged {
    pub(super) const fn new(transaction: u64) -> Self {
        Self {
            transaction,
            unreadable: Vec::new(),
            known: BTreeMap::new(),
            foreign: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Adds a part.
    pub(super) fn add(&mut self, part: message::Response) -> Result<(), MirrorError> {
        for resource in part.resources {
            let length = resource.version.len();
            let version = ContentVersion::from_bytes(&resource.version).ok_or(MirrorError::Length(length))?;
            self.bytes = self.bytes.saturating_add(resource.payload.len());
            if self.bytes > MAX_BYTES {
                return Err(MirrorError::TooLarge(MAX_BYTES));
            }
            match key_of(resource.kind, &resource.name) {
                Ok(key) => self.read(key, version, &resource.payload),
                Err(foreign) => drop(self.foreign.insert(foreign, Some(version))),
            }
        }
        for name in part.removed {
            match key_of(name.kind, &name.name) {
                Ok(key) => drop(self.known.insert(key, Change::Remove)),
                Err(foreign) => drop(self.foreign.insert(foreign, None)),
            }
        }
        Ok(())
    }

    fn read(&mut self, key: ResourceKey, version: ContentVersion, payload: &[u8]) {
        let value = match encoded::decode(&key, payload) {
            Ok(value) => Some(value),
            Err(error) => {
                self.unreadable.push((key.clone(), error.to_string()));
                None
            }
        };
        self.known.insert(key, Change::Put(version, value));
    }

    /// Forgets what a later transaction has already brought.
    pub(super) fn supersede(&mut self, later: &Self) {
        self.known.retain(|key, _| !later.known.contains_key(key));
        self.unreadable.retain(|(key, _)| !later.known.contains_key(key));
        self.foreign.retain(|key, _| !later.foreign.contains_key(key));
    }

    /// The names of known kinds.
    pub(super) fn keys(&self) -> impl Iterator<Item = &ResourceKey> {
        self.known.keys()
    }

    /// Whether it brings a readable value of a name.
    pub(super) fn puts(&self, key: &ResourceKey) -> bool {
        matches!(self.known.get(key), Some(Change::Put(..)))
    }

    /// The version of each name before and after.
    pub(super) fn versions<'a>(
        &'a self,
        seen: &'a HashMap<ResourceKey, ContentVersion>,
        foreign: &'a HashMap<(u32, Arc<str>), ContentVersion>,
    ) -> impl Iterator<Item = (Option<ContentVersion>, Option<ContentVersion>)> + 'a {
        let known = self.known.iter().map(|(key, change)| {
            let new = match change {
                Change::Put(version, _) => Some(*version),
                Change::Remove => None,
            };
            (seen.get(key).copied(), new)
        });
        let foreign = self.foreign.iter().map(|(key, new)| (foreign.get(key).copied(), *new));
        known.chain(foreign)
    }

    /// Records the versions as seen.
    pub(super) fn see(
        &self,
        seen: &mut HashMap<ResourceKey, ContentVersion>,
        foreign: &mut HashMap<(u32, Arc<str>), ContentVersion>,
    ) {
        for (key, change) in &self.known {
            match change {
                Change::Put(version, _) => drop(seen.insert(key.clone(), *version)),
                Change::Remove => drop(seen.remove(key)),
            }
        }
        for (key, version) in &self.foreign {
            match version {
                Some(version) => drop(foreign.insert(key.clone(), *version)),
                None => drop(foreign.remove(key)),
            }
        }
    }

    /// The changes that could be read.
    pub(super) fn take_delta(&mut self) -> Delta {
        let mut delta = Delta::default();
        for (key, change) in &mut self.known {
            match change {
                Change::Put(_, value) => {
                    if let Some(value) = value.take() {
                        value::put(&mut delta, key, Some(&value));
                    }
                }
                Change::Remove => value::put(&mut delta, key, None),
            }
        }
        delta
    }
}
