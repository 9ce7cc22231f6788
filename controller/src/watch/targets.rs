//! Where believed changes go: into a store that others read, into the compile loop, or both.

use std::{fmt::Debug, hash::Hash};

use kube::{
    Resource,
    runtime::{
        reflector::{ObjectRef as StoreRef, Store, store::Writer},
        watcher::Event,
    },
};
use propylon_model::{Kind, ObjectRef};
use propylon_translate::{Key, manifest::Object};

use super::{
    belief::Change,
    follow::Target,
    health::{Health, Scope},
    inputs::{Inputs, What},
};

/// Writes into a store. It becomes ready with the first list.
pub(super) struct IntoStore<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer: Writer<K>,
    is_ready: bool,
    scope: Scope,
    health: Health,
}

impl<K> IntoStore<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    (): Eq + Hash,
{
    /// A target and the store that it writes.
    pub(super) fn new(scope: Scope, health: Health) -> (Self, Store<K>) {
        let writer = Writer::<K>::default();
        let store = writer.as_reader();
        let target = Self {
            writer,
            is_ready: false,
            scope,
            health,
        };
        (target, store)
    }

    fn set(&mut self, object: K) {
        self.writer.apply_watcher_event(&Event::Apply(object));
    }

    fn remove(&mut self, key: &Key) {
        let reader = self.writer.as_reader();
        let namespace = Some(&*key.namespace).filter(|namespace| !namespace.is_empty());
        let mut name = StoreRef::<K>::new(&key.name);
        name.namespace = namespace.map(ToOwned::to_owned);
        if let Some(object) = reader.get(&name) {
            self.writer.apply_watcher_event(&Event::Delete((*object).clone()));
        }
    }

    /// Lets those go on that wait for the first list.
    fn ready(&mut self) {
        if std::mem::replace(&mut self.is_ready, true) {
            return;
        }
        let objects = self.writer.as_reader().state();
        self.writer.apply_watcher_event(&Event::Init);
        for object in objects {
            self.writer.apply_watcher_event(&Event::InitApply((*object).clone()));
        }
        self.writer.apply_watcher_event(&Event::InitDone);
    }
}

impl<K> Target<K> for IntoStore<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    async fn change(&mut self, change: Change<K>) {
        match change {
            Change::Set(_, object) => self.set(object),
            Change::Remove(key) => self.remove(&key),
            Change::Malformed(..) => {}
        }
    }

    async fn listed(&mut self) {
        self.ready();
        self.health.update(&self.scope, |report| report.is_listed = true);
    }
}

/// Hands on to the compile loop, after writing into a store where there is one.
pub(super) struct IntoCompile<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    kind: Kind,
    scope: Scope,
    inputs: Inputs,
    object: fn(K) -> Object,
    store: Option<IntoStore<K>>,
}

impl<K> IntoCompile<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// A target without a store.
    pub(super) const fn new(kind: Kind, scope: Scope, inputs: Inputs, object: fn(K) -> Object) -> Self {
        Self {
            kind,
            scope,
            inputs,
            object,
            store: None,
        }
    }

    /// With a store.
    pub(super) fn with(self, store: IntoStore<K>) -> Self {
        Self {
            store: Some(store),
            ..self
        }
    }
}

impl<K> Target<K> for IntoCompile<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    async fn change(&mut self, change: Change<K>) {
        let what = match change {
            Change::Set(_, object) => {
                if let Some(store) = &mut self.store {
                    store.set(object.clone());
                }
                What::Set((self.object)(object))
            }
            Change::Remove(key) => {
                if let Some(store) = &mut self.store {
                    store.remove(&key);
                }
                What::Remove(self.kind, key)
            }
            Change::Malformed(key, message) => {
                What::Malformed(ObjectRef::new(self.kind, key.namespace, key.name), message)
            }
        };
        self.inputs.send(what).await;
    }

    async fn listed(&mut self) {
        if let Some(store) = &mut self.store {
            store.ready();
        }
        // Behind all that it brought; the compile loop marks the scope as listed when it has come so far.
        self.inputs.send(What::Listed(self.scope.clone())).await;
    }
}
