//! What compiles remember of each other: the last good version of what turned bad.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use propylon_model::{Kind, ObjectRef};

use crate::{
    annotations::Value,
    tls::pair::{self, Pair},
    world::{Key, World},
};

/// Last good values, by object; an object's are forgotten when it is deleted.
///
/// It also keeps what was read from each Secret, so that certificates are not parsed again in every compile.
#[derive(Default)]
pub struct Memory {
    annotations: BTreeMap<ObjectRef, BTreeMap<&'static str, Value>>,
    secrets: BTreeMap<Key, SecretMemory>,
}

/// How much is remembered; never what, because it holds Secrets.
impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Memory")
            .field("annotated_objects", &self.annotations.len())
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

impl Memory {
    /// Forgets an object that is gone.
    pub(crate) fn forget(&mut self, kind: Kind, key: &Key) {
        if kind == Kind::Secret {
            self.secrets.remove(key);
        } else {
            let object = ObjectRef::new(kind, Arc::clone(&key.namespace), Arc::clone(&key.name));
            self.annotations.remove(&object);
        }
    }

    /// Forgets the objects that are gone.
    pub(crate) fn forget_deleted(&mut self, world: &World) {
        self.secrets.retain(|key, _| world.secrets.contains_key(key));
        self.annotations.retain(|object, _| {
            let key = Key::new(object.namespace.clone(), object.name.clone());
            match object.kind {
                Kind::Ingress => world.ingresses.contains_key(&key),
                Kind::Service => world.services.contains_key(&key),
                _ => false,
            }
        });
    }

    /// Takes out the last good annotation values of an object.
    pub(crate) fn take_values(&mut self, object: &ObjectRef) -> BTreeMap<&'static str, Value> {
        self.annotations.remove(object).unwrap_or_default()
    }

    /// Remembers the annotation values that are in force.
    pub(crate) fn put_values(&mut self, object: &ObjectRef, values: BTreeMap<&'static str, Value>) {
        if !values.is_empty() {
            self.annotations.insert(object.clone(), values);
        }
    }

    /// The certificate and key of a Secret.
    pub(crate) fn pair(&mut self, key: &Key, secret: &Arc<Secret>) -> &Reading<Pair> {
        let memory = self.secret(key, secret);
        memory
            .pair
            .get_or_insert_with(|| Reading::new(pair::read(secret).map(Arc::new), memory.last_pair.take()))
    }

    /// The certificate authorities (DER) of a Secret.
    pub(crate) fn authorities(&mut self, key: &Key, secret: &Arc<Secret>) -> &Reading<[Vec<u8>]> {
        let memory = self.secret(key, secret);
        memory.authorities.get_or_insert_with(|| {
            Reading::new(
                pair::read_authorities(secret).map(Arc::from),
                memory.last_authorities.take(),
            )
        })
    }

    fn secret(&mut self, key: &Key, secret: &Arc<Secret>) -> &mut SecretMemory {
        let memory = self
            .secrets
            .entry(key.clone())
            .or_insert_with(|| SecretMemory::new(secret));
        if !Arc::ptr_eq(&memory.source, secret) {
            if memory.source.data != secret.data {
                memory.last_pair = memory
                    .pair
                    .take()
                    .and_then(Reading::into_usable)
                    .or_else(|| memory.last_pair.take());
                memory.last_authorities = memory
                    .authorities
                    .take()
                    .and_then(Reading::into_usable)
                    .or_else(|| memory.last_authorities.take());
            }
            memory.source = Arc::clone(secret);
        }
        memory
    }
}

/// What was read from a Secret, and what the last good version of it gave.
pub(crate) struct Reading<T: ?Sized> {
    /// What the Secret holds now; else why it is of no use.
    pub(crate) now: Result<Arc<T>, String>,
    last_good: Option<Arc<T>>,
}

impl<T: ?Sized> Reading<T> {
    const fn new(now: Result<Arc<T>, String>, last_good: Option<Arc<T>>) -> Self {
        Self { now, last_good }
    }

    /// What is there, else what was there.
    pub(crate) fn usable(&self) -> Option<&Arc<T>> {
        self.now.as_ref().ok().or(self.last_good.as_ref())
    }

    fn into_usable(self) -> Option<Arc<T>> {
        self.now.ok().or(self.last_good)
    }
}

struct SecretMemory {
    source: Arc<Secret>,
    pair: Option<Reading<Pair>>,
    authorities: Option<Reading<[Vec<u8>]>>,
    /// Last good values while the Secret as it is now was not read yet.
    last_pair: Option<Arc<Pair>>,
    last_authorities: Option<Arc<[Vec<u8>]>>,
}

impl SecretMemory {
    fn new(source: &Arc<Secret>) -> Self {
        Self {
            source: Arc::clone(source),
            pair: None,
            authorities: None,
            last_pair: None,
            last_authorities: None,
        }
    }
}
