//! Propylon in a cluster of the lab: installed by Helm from `charts/` as shipped, with applications beside it.
//!
//! What it is: what the tests of the multi-node tier and the faults of `lab` share. It runs inside of the client's
//! network (`lab exec cl -- ...`), so that every node and the API server are reached by plain sockets. What it is not: a
//! way around Helm, kubectl or the API.
//!
//! Start from [`Stage::around`].

mod objects;
mod processes;
mod release;
mod workload;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use propylon_testkit::{
    raw::{RawClient, RawResponse},
    wait,
};
use serde_json::json;

pub use objects::Objects;
pub use processes::kill_container;
pub use release::{NAMESPACE, RELEASE};
pub use workload::{App, ingress, tls_secret};

use crate::{
    image::catalog,
    lab::{Cluster, Node},
};

/// How long the cluster may take for what takes a second or two when the machine is idle.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A cluster with the images that tests need, and a client of its API.
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// Its API, as administrator.
    pub objects: Objects,
}

impl Stage {
    /// The cluster in whose client's network this process runs; the echo image is imported.
    ///
    /// # Errors
    /// When there is no cluster around, or the echo server is not built.
    pub fn around() -> Result<Self> {
        let cluster = Cluster::around()?;
        let objects = Objects::new(&cluster)?;
        let stage = Self { cluster, objects };
        let echo = propylon_testkit::process::binary("echo-server").context("the echo server")?;
        let folder = stage.cluster.folder().join("images");
        let echo = catalog::stripped(&echo, &folder.join("stripped"))?;
        let archive = catalog::echo(&echo)?.store(&folder, "echo")?;
        stage.cluster.load_image(&archive)?;
        Ok(stage)
    }

    /// A new namespace whose name begins so.
    ///
    /// # Panics
    /// When the API refuses it.
    pub fn namespace(&self, prefix: &str) -> Space<'_> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}-{}-{number}", std::process::id());
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.objects.apply(&namespace.to_string());
        Space { stage: self, name }
    }

    /// Port 80 of every node's first address.
    pub fn http(&self) -> Vec<SocketAddr> {
        self.of_nodes(80)
    }

    /// Port 443 of every node's first address.
    pub fn https(&self) -> Vec<SocketAddr> {
        self.of_nodes(443)
    }

    fn of_nodes(&self, port: u16) -> Vec<SocketAddr> {
        let nodes = self.cluster.nodes();
        nodes.iter().map(|node| (IpAddr::V4(node.ipv4), port).into()).collect()
    }

    /// The node on which a pod runs.
    ///
    /// # Panics
    /// When it is on none.
    pub fn node_of(&self, pod: &Pod) -> Node {
        let name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let nodes = self.cluster.nodes().into_iter();
        let node = nodes.into_iter().find(|node| Some(&node.name) == name.as_ref());
        node.unwrap_or_else(|| panic!("{:?} is on no node of the cluster: {name:?}", pod.metadata.name))
    }

    /// Waits until every node answers for `host` and `path` with this status.
    ///
    /// # Panics
    /// When one does not; with its last answer and the state of the release.
    pub fn until_status(&self, host: &str, path: &str, status: u16) {
        for address in self.http() {
            let mut last = None;
            let came = wait::until(PATIENCE, || {
                let answer = get(address, host, path);
                let is_it = answer.as_ref().is_ok_and(|answer| answer.status == status);
                last = Some(answer.map(|answer| (answer.status, answer.text())));
                is_it
            });
            assert!(
                came.is_some(),
                "{address} does not answer {host}{path} with {status}; at last {last:?}\n{}",
                self.diagnosis()
            );
        }
    }

    /// Waits for something.
    ///
    /// # Panics
    /// When it does not come; with the state of the release.
    pub fn until(&self, what: &str, patience: Duration, condition: impl FnMut() -> bool) -> Duration {
        wait::until(patience, condition)
            .unwrap_or_else(|| panic!("{what}: not within {patience:?}\n{}", self.diagnosis()))
    }
}

/// One GET over a connection of its own.
///
/// # Errors
/// When the connection fails.
pub fn get(address: SocketAddr, host: &str, path: &str) -> std::io::Result<RawResponse> {
    RawClient::connect(address)?.get(host, path)
}

/// A namespace of a test. Its removal begins when this is dropped.
pub struct Space<'a> {
    stage: &'a Stage,
    /// Its name.
    pub name: String,
}

impl Space<'_> {
    /// Applies YAML or JSON in this namespace.
    ///
    /// # Panics
    /// When the API refuses it.
    pub fn apply(&self, manifest: &str) {
        self.stage.objects.apply_in(&self.name, manifest);
    }

    /// Applies an application and waits until all of its pods are ready.
    ///
    /// # Panics
    /// When they do not become ready.
    pub fn deploy(&self, app: &App) {
        self.apply(&app.manifest());
        self.until_ready(app);
    }

    /// Waits until all pods of an application are ready.
    ///
    /// # Panics
    /// When they do not become ready.
    pub fn until_ready(&self, app: &App) {
        self.stage.until(&format!("pods of {}", app.name), PATIENCE, || {
            let pods = self.pods(app);
            pods.len() == app.replicas && pods.iter().all(is_ready)
        });
    }

    /// The pods of an application that are not being deleted.
    pub fn pods(&self, app: &App) -> Vec<Pod> {
        let mut pods: Vec<Pod> = self.stage.objects.list(&self.name, &format!("app={}", app.name));
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods
    }

    /// Type, reason and message of every Event about an object of this namespace.
    pub fn events(&self, kind: &str, name: &str) -> Vec<(String, String, String)> {
        let events: Vec<k8s_openapi::api::core::v1::Event> = self.stage.objects.list(&self.name, "");
        let about = events.into_iter().filter(|event| {
            let object = &event.involved_object;
            object.kind.as_deref() == Some(kind) && object.name.as_deref() == Some(name)
        });
        let parts = about.map(|event| {
            (
                event.type_.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default(),
            )
        });
        parts.collect()
    }

    /// The addresses in the status of an Ingress.
    pub fn addresses(&self, ingress: &str) -> Vec<String> {
        let found: Option<k8s_openapi::api::networking::v1::Ingress> = self.stage.objects.get(&self.name, ingress);
        let status = found.and_then(|ingress| ingress.status?.load_balancer?.ingress);
        let entries = status.unwrap_or_default().into_iter();
        entries.filter_map(|entry| entry.ip.or(entry.hostname)).collect()
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        self.stage.objects.begin_deletion::<Namespace>(&self.name);
    }
}

/// Whether a pod has the condition `Ready`.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// How many times each value came.
pub fn count<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
}
