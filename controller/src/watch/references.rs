//! Secrets of other types than `kubernetes.io/tls`, and config maps: watched one by one, where something names them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    time::Duration,
};

use futures_util::StreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret},
    serde::de::DeserializeOwned,
};
use kube::{Api, Client, Resource};
use propylon_kit::tasks::StopSignal;
use propylon_model::Kind;
use propylon_translate::{Key, manifest::Object};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
};

use super::{
    cluster,
    follow::{Follow, follow},
    health::{Health, Need, Scope},
    inputs::{Inputs, What},
    targets::IntoCompile,
    trim::Trim,
};

/// Objects that have a watch of their own; each is a connection.
const WATCHED: usize = 32;
/// How often those beyond that are read.
const POLL: Duration = Duration::from_secs(30);
/// How soon again, where some could not be read.
const RETRY: Duration = Duration::from_secs(2);
/// Objects that are read at a time.
const AT_A_TIME: usize = 16;

/// Secrets and config maps that something names and no other watch brings.
pub type Wanted = BTreeSet<(Kind, Key)>;

struct Keeper {
    client: Client,
    inputs: Inputs,
    health: Health,
    stop: StopSignal,
    watches: JoinSet<()>,
    watched: BTreeMap<(Kind, Key), AbortHandle>,
    /// Versions of those that are read from time to time.
    polled: BTreeMap<(Kind, Key), Option<String>>,
}

/// Watches what is wanted, until it is told to stop.
pub async fn keep(
    client: Client,
    inputs: Inputs,
    health: Health,
    mut wanted: watch::Receiver<Wanted>,
    mut stop: StopSignal,
) {
    let mut keeper = Keeper {
        client,
        inputs,
        health,
        stop: stop.clone(),
        watches: JoinSet::new(),
        watched: BTreeMap::new(),
        polled: BTreeMap::new(),
    };
    loop {
        let now = wanted.borrow_and_update().clone();
        keeper.adapt(&now).await;
        let pause = if keeper.poll().await {
            keeper.inputs.send(What::Kept(now)).await;
            POLL
        } else {
            RETRY
        };
        tokio::select! {
            () = stop.stopped() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause), if !keeper.polled.is_empty() => {}
        }
        // Forget those that were aborted.
        while keeper.watches.try_join_next().is_some() {}
    }
}

impl Keeper {
    async fn adapt(&mut self, wanted: &Wanted) {
        let unwanted: Vec<(Kind, Key)> = self
            .watched
            .keys()
            .chain(self.polled.keys())
            .filter(|object| !wanted.contains(*object))
            .cloned()
            .collect();
        for object in unwanted {
            if let Some(watch) = self.watched.remove(&object) {
                watch.abort();
                self.health.forget(&scope(&object));
            }
            self.polled.remove(&object);
            self.inputs.send(What::Dropped(object.0, object.1)).await;
        }
        for object in wanted {
            if self.watched.contains_key(object) || self.polled.contains_key(object) {
                continue;
            }
            if self.watched.len() < WATCHED {
                let watch = self.watch(object);
                self.watched.insert(object.clone(), watch);
            } else {
                self.polled.insert(object.clone(), None);
            }
        }
    }

    fn watch(&mut self, object: &(Kind, Key)) -> AbortHandle {
        match object.0 {
            Kind::ConfigMap => self.watch_one::<ConfigMap>(object, config_map),
            _ => self.watch_one::<Secret>(object, secret),
        }
    }

    fn watch_one<K>(&mut self, object: &(Kind, Key), into: fn(K) -> Object) -> AbortHandle
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Trim
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
    {
        let scope = scope(object);
        let target = IntoCompile::new(object.0, scope.clone(), self.inputs.clone(), into);
        let what = Follow::<K> {
            api: Api::namespaced(self.client.clone(), &object.1.namespace),
            scope,
            fields: Some(format!("metadata.name={}", object.1.name)),
            labels: None,
            need: Need::Awaited,
            health: self.health.clone(),
        };
        // Known before the answer that it is kept.
        self.health.update(&what.scope, |report| report.need = what.need);
        self.watches.spawn(follow(what, target, self.stop.clone()))
    }

    /// Reads those that have no watch of their own; whether all could be read, or never can.
    async fn poll(&mut self) -> bool {
        let objects: Vec<(Kind, Key)> = self.polled.keys().cloned().collect();
        let client = &self.client;
        let reads = objects.into_iter().map(|object| async move {
            let read = match object.0 {
                Kind::ConfigMap => read::<ConfigMap>(client, &object.1, config_map).await,
                _ => read::<Secret>(client, &object.1, secret).await,
            };
            (object, read)
        });
        let mut reads = futures_util::stream::iter(reads).buffer_unordered(AT_A_TIME);
        let mut are_read = true;
        while let Some((object, read)) = reads.next().await {
            let read = match read {
                Ok(read) => read,
                Err(kube::Error::Api(status)) if status.is_forbidden() => continue,
                // What cannot be read stays as it is.
                Err(error) => {
                    tracing::debug!(%error, kind = object.0.as_str(), object = %object.1, "an object cannot be read");
                    are_read = false;
                    continue;
                }
            };
            let (version, what) = match read {
                Some((version, object)) => (Some(version), What::Set(object)),
                None => (None, What::Remove(object.0, object.1.clone())),
            };
            let before = self.polled.insert(object, version.clone());
            if before != Some(version) {
                self.inputs.send(what).await;
            }
        }
        are_read
    }
}

async fn read<K>(client: &Client, key: &Key, into: fn(K) -> Object) -> kube::Result<Option<(String, Object)>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Trim + Clone + Debug + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), &key.namespace);
    let object = api.get_opt(&key.name).await?;
    Ok(object.map(|mut object| {
        let version = object.meta().resource_version.clone().unwrap_or_default();
        object.trim();
        (version, into(object))
    }))
}

fn scope(object: &(Kind, Key)) -> Scope {
    let (kind, key) = object;
    let scope = match kind {
        Kind::ConfigMap => cluster::<ConfigMap>("ConfigMap", "configmaps"),
        _ => cluster::<Secret>("Secret", "secrets"),
    };
    Scope {
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        ..scope
    }
}

fn config_map(config_map: ConfigMap) -> Object {
    Object::ConfigMap(Box::new(config_map))
}

fn secret(secret: Secret) -> Object {
    Object::Secret(Box::new(secret))
}
