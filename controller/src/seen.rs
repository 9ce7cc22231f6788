//! Whether a store is there, and whether anything in it changed.

use std::{fmt, sync::Arc, time::Duration};

use kube::runtime::reflector::{Lookup, Store};
use tokio::time::timeout;

/// How often a store is asked again whether it is there.
const ASK: Duration = Duration::from_millis(200);

/// Waits for the first list of a store; whether it can still come.
///
/// Of several tasks that wait for the same store only the one that asked last is woken (`kube_runtime`'s `DelayedInit` has one
/// receiver), so each asks again.
pub(crate) async fn is_listed<K: Lookup<DynamicType = ()> + Clone + 'static>(store: &Store<K>) -> bool {
    loop {
        if let Ok(listed) = timeout(ASK, store.wait_until_ready()).await {
            return listed.is_ok();
        }
    }
}

/// What a store held. Equal are two of the same objects: not of equal ones, so that comparing costs next to nothing. It
/// keeps the objects, so that no other object can come to lie where one of them lay.
pub(crate) struct Seen<K>(Vec<Arc<K>>);

impl<K: Lookup<DynamicType = ()> + Clone + 'static> Seen<K> {
    /// What a store holds now.
    pub(crate) fn of(store: &Store<K>) -> Self {
        Self(store.state())
    }

    /// The objects.
    pub(crate) fn objects(&self) -> &[Arc<K>] {
        &self.0
    }
}

impl<K> PartialEq for Seen<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(one, two)| Arc::ptr_eq(one, two))
    }
}

/// How many there are.
impl<K> fmt::Debug for Seen<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Seen({})", self.0.len())
    }
}
