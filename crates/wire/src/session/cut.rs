//! What a transaction holds, in the order make-before-break.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;

use crate::{
    encoded::Encoded,
    key::{ResourceKey, ResourceKind},
    message,
    publisher::store::Store,
    version::{ContentVersion, Generation},
};

/// One change of a transaction.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// A resource that is new or changed.
    Put(Arc<Encoded>),
    /// A name that is gone; the number may be of a kind that this version does not know.
    Remove(u32, Arc<str>),
}

impl Item {
    /// About how many bytes it takes in a message.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Put(encoded) => encoded.payload.len() + encoded.key.name.len() + 40,
            Self::Remove(_, name) => name.len() + 8,
        }
    }

    /// Appends it to a message.
    pub(super) fn write(self, response: &mut message::Response) {
        match self {
            Self::Put(encoded) => response.resources.push(message::Resource {
                kind: encoded.key.kind.number(),
                name: encoded.key.name.as_ref().to_owned(),
                version: Bytes::copy_from_slice(&encoded.version.to_bytes()),
                payload: encoded.payload.clone(),
            }),
            Self::Remove(kind, name) => response.removed.push(message::Name {
                kind,
                name: name.as_ref().to_owned(),
                version: Bytes::new(),
            }),
        }
    }

    /// Whether it is a resource of one of these names.
    pub(super) fn is_put_of(&self, names: &HashMap<ResourceKey, ContentVersion>) -> bool {
        matches!(self, Self::Put(encoded) if names.contains_key(&encoded.key))
    }

    /// First what is made, what is referred to before what refers; then what is removed, the other way round.
    fn order(&self) -> (bool, Option<ResourceKind>, Reverse<u32>, &Arc<str>) {
        match self {
            Self::Put(encoded) => (false, Some(encoded.key.kind), Reverse(0), &encoded.key.name),
            Self::Remove(kind, name) => (true, None, Reverse(*kind), name),
        }
    }
}

/// What changed after a generation, without what the proxy has already.
pub(super) fn changed(store: &Store, after: Generation, sent: &HashMap<ResourceKey, ContentVersion>) -> VecDeque<Item> {
    let is_first = after == Generation::default();
    let items = store.after(after).filter_map(|(key, entry)| match &entry.encoded {
        Some(encoded) if sent.get(key) == Some(&encoded.version) => None,
        Some(encoded) => Some(Item::Put(Arc::clone(encoded))),
        None if is_first => None,
        None => Some(Item::Remove(key.kind.number(), Arc::clone(&key.name))),
    });
    ordered(items.collect())
}

/// What turns the versions that a proxy has into the state of the store.
pub(super) fn difference(store: &Store, mut versions: HashMap<(u32, String), ContentVersion>) -> VecDeque<Item> {
    let mut items = Vec::new();
    for encoded in store.live() {
        let key = (encoded.key.kind.number(), encoded.key.name.as_ref().to_owned());
        if versions.remove(&key) != Some(encoded.version) {
            items.push(Item::Put(Arc::clone(encoded)));
        }
    }
    let gone = versions.into_keys().map(|(kind, name)| Item::Remove(kind, name.into()));
    items.extend(gone);
    ordered(items)
}

fn ordered(mut items: Vec<Item>) -> VecDeque<Item> {
    items.sort_unstable_by(|one, other| one.order().cmp(&other.order()));
    items.into()
}
