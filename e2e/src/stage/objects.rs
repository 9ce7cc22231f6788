//! The API of a cluster, with calls that block.

use std::{
    fmt::Debug,
    io::Write,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::{
    Api, Resource,
    api::{DeleteParams, ListParams},
};
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Runtime};

use crate::lab::Cluster;

/// A client as administrator. Calls block, and panic where the API refuses what a test needs.
pub struct Objects {
    runtime: Runtime,
    client: kube::Client,
    kubectl: Box<dyn Fn() -> Command + Send + Sync>,
}

impl Objects {
    /// Of a cluster whose client's network this process is in.
    pub(super) fn new(cluster: &Cluster) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.context("making a runtime")?;
        let client = runtime.block_on(async { cluster.client() })?;
        let (program, kubeconfig) = (cluster.programs().path("kubectl"), cluster.kubeconfig());
        let kubectl = move || {
            let mut command = Command::new(&program);
            command.env("KUBECONFIG", &kubeconfig);
            command
        };
        Ok(Self {
            runtime,
            client,
            kubectl: Box::new(kubectl),
        })
    }

    /// One object, if it is there.
    ///
    /// # Panics
    /// When the API fails otherwise.
    pub fn get<K>(&self, namespace: &str, name: &str) -> Option<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let found = self.runtime.block_on(api.get_opt(name));
        found.unwrap_or_else(|error| panic!("reading {namespace}/{name}: {error}"))
    }

    /// The objects of a namespace with these labels; all where there are none.
    ///
    /// # Panics
    /// When the API fails.
    pub fn list<K>(&self, namespace: &str, labels: &str) -> Vec<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        self.try_list(namespace, labels)
            .unwrap_or_else(|error| panic!("listing in {namespace} ({labels}): {error}"))
    }

    /// As [`Objects::list`], for while the API server may be away.
    ///
    /// # Errors
    /// When the API fails.
    pub fn try_list<K>(&self, namespace: &str, labels: &str) -> kube::Result<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let found = self.runtime.block_on(api.list(&ListParams::default().labels(labels)))?;
        Ok(found.items)
    }

    /// Begins to delete an object of the cluster; that it is gone already is fine.
    pub(super) fn begin_deletion<K>(&self, name: &str)
    where
        K: Resource<Scope = ClusterResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::all(self.client.clone());
        // What cannot be deleted goes with the cluster.
        drop(self.runtime.block_on(api.delete(name, &DeleteParams::background())));
    }

    /// Whether the API server says that it is ready.
    pub fn is_up(&self) -> bool {
        let request = http::Request::get("/readyz").body(Vec::new());
        request.is_ok_and(|request| self.runtime.block_on(self.client.request_text(request)).is_ok())
    }

    /// Applies YAML or JSON.
    ///
    /// # Panics
    /// When the API refuses it.
    pub fn apply(&self, manifest: &str) {
        self.kubectl_with(&["apply", "-f", "-"], manifest);
    }

    /// Applies YAML or JSON in a namespace.
    ///
    /// # Panics
    /// When the API refuses it.
    pub fn apply_in(&self, namespace: &str, manifest: &str) {
        self.kubectl_with(&["--namespace", namespace, "apply", "-f", "-"], manifest);
    }

    /// Runs kubectl, and gives what it printed.
    ///
    /// # Panics
    /// When it fails.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "")
    }

    fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        let mut command = (self.kubectl)();
        command.args(arguments).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl is built with the lab");
        let mut pipe = child.stdin.take().expect("its input is a pipe");
        let input = input.to_owned();
        // A thread of its own: it may print before it has read everything.
        let writer = std::thread::spawn(move || drop(pipe.write_all(input.as_bytes())));
        let output = child.wait_with_output().expect("kubectl ends");
        writer.join().expect("the writer does not panic");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
