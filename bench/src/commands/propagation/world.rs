//! A large world on an API server: Ingresses, each with a Service and an `EndpointSlice`, and changes of a few of them.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Resource, ResourceExt as _};
use propylon_e2e::lab::ApiServer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::backends::{self, Backends};
use crate::clock::now_ns;

/// Endpoints of each Service.
pub(crate) const ENDPOINTS: usize = 10;

/// How many objects are created at once.
const AT_ONCE: usize = 32;

/// Ingresses that changes are made to.
const TARGETS: usize = 50;

/// Label of what changes are made to.
const TARGET: &str = "propylon.dev/bench-target";

/// The objects, and the watches that time their changes.
pub(crate) struct World {
    ingresses: Api<Ingress>,
    slices: Api<EndpointSlice>,
    targets: Vec<Target>,
}

/// An Ingress that changes are made to, with its host and the `EndpointSlice` of its Service, all of one name.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    name: String,
    /// The host of the Ingress.
    pub(crate) host: String,
}

impl World {
    /// Creates `count` Ingresses with all that they need; every target's only endpoint is the first backend.
    pub(crate) async fn create(server: &ApiServer, count: usize, backends: &Backends) -> Result<Self> {
        let namespace = server.namespace("scale").await?;
        let client = server.client();
        let world = Self {
            ingresses: Api::namespaced(client.clone(), &namespace),
            slices: Api::namespaced(client.clone(), &namespace),
            targets: (0..TARGETS.min(count)).map(Target::of).collect(),
        };
        let services = Api::<Service>::namespaced(client, &namespace);
        let targets = world.targets.len();
        let numbers = || stream::iter(0..count).map(Ok::<_, anyhow::Error>);
        let create = |number| {
            let (world, services) = (&world, &services);
            async move {
                let is_target = number < targets;
                create(services, service(number)).await?;
                create(&world.slices, slice(number, is_target.then(|| backends.port(0)))).await?;
                create(&world.ingresses, ingress(number, is_target, None)).await
            }
        };
        numbers().try_for_each_concurrent(AT_ONCE, create).await?;
        Ok(world)
    }

    /// How many Ingresses changes are made to.
    pub(crate) fn targets(&self) -> usize {
        self.targets.len()
    }

    /// The target of a change.
    pub(crate) fn target(&self, number: usize) -> Target {
        Target::of(number % self.targets.len().max(1))
    }

    /// Replaces the second path of a target; when the watch event of it came.
    pub(crate) async fn set_path(&self, target: &Target, path: &str) -> Result<u64> {
        let number = target.number()?;
        let patch = json!({"spec": ingress(number, true, Some(path)).get("spec")});
        Self::patch(&self.ingresses, target, &patch).await
    }

    /// Replaces the endpoint of a target; when the watch event of it came.
    pub(crate) async fn set_endpoint(&self, target: &Target, port: u16) -> Result<u64> {
        let patch = json!({"ports": slice(target.number()?, Some(port)).get("ports")});
        Self::patch(&self.slices, target, &patch).await
    }

    async fn patch<K>(api: &Api<K>, target: &Target, patch: &Value) -> Result<u64>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let before = api.get(&target.name).await?.resource_version().context("a version")?;
        let watched = WatchParams::default().fields(&format!("metadata.name={}", target.name));
        let mut events = api.watch(&watched, &before).await?.boxed();
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let changed = api.patch(&target.name, &params, &patch);
        let watching = async {
            while let Some(event) = events.try_next().await? {
                if let WatchEvent::Modified(object) = event {
                    return Ok((object.resource_version(), now_ns()));
                }
            }
            bail!("the watch ended without an event")
        };
        let both = async {
            let (changed, watched) = tokio::join!(changed, watching);
            let ((version, at), changed) = (watched?, changed.context("the change")?);
            ensure!(version == changed.resource_version(), "the event was of another change");
            Ok(at)
        };
        tokio::time::timeout(Duration::from_secs(30), both)
            .await
            .context("no watch event")?
    }
}

impl Target {
    fn of(number: usize) -> Self {
        Self {
            name: name(number),
            host: host(number),
        }
    }

    fn number(&self) -> Result<usize> {
        let digits = self.name.trim_start_matches("app-");
        digits.parse().context("names of targets are numbered")
    }
}

async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Resource + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object = serde_json::from_value(object).context("an object of the world")?;
    api.create(&PostParams::default(), &object)
        .await
        .context("creating an object")?;
    Ok(())
}

fn name(number: usize) -> String {
    format!("app-{number}")
}

fn host(number: usize) -> String {
    format!("app-{number}.scale.example")
}

fn service(number: usize) -> Value {
    json!({
        "metadata": {"name": name(number)},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    })
}

/// Ten endpoints that nobody asks, or the one of a target at a port of the backends.
fn slice(number: usize, target_port: Option<u16>) -> Value {
    let addresses: Vec<String> = match target_port {
        Some(_) => vec![backends::ADDRESS.to_string()],
        None => (0..ENDPOINTS)
            .map(|index| address(number * ENDPOINTS + index).to_string())
            .collect(),
    };
    let ready = json!({"ready": true, "serving": true, "terminating": false});
    let endpoint = |address: &String| json!({"addresses": [address], "conditions": ready});
    json!({
        "metadata": {"name": name(number), "labels": {"kubernetes.io/service-name": name(number)}},
        "addressType": "IPv4",
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": [{"name": "http", "protocol": "TCP", "port": target_port.unwrap_or(8080)}],
    })
}

fn address(number: usize) -> Ipv4Addr {
    let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    Ipv4Addr::from(base + u32::try_from(number + 256).unwrap_or(256))
}

fn ingress(number: usize, is_target: bool, path: Option<&str>) -> Value {
    let backend = json!({"service": {"name": name(number), "port": {"name": "http"}}});
    let rule = |path: &str| json!({"path": path, "pathType": "Prefix", "backend": backend});
    let paths: Vec<Value> = [Some("/base"), path].into_iter().flatten().map(rule).collect();
    json!({
        "metadata": {"name": name(number), "labels": {TARGET: is_target.to_string()}},
        "spec": {
            "ingressClassName": "propylon",
            "rules": [{"host": host(number), "http": {"paths": paths}}],
        },
    })
}
