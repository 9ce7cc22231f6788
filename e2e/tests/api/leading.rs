//! Controllers in the process of the test, with exactly the rights of the chart's controller, beside one API server of their
//! own: whoever leads writes to everything in it, so that only one of these tests runs at a time.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::{Args as _, FromArgMatches as _};
use k8s_openapi::api::{core::v1::Service, events::v1::Event, networking::v1::Ingress};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use propylon_controller::{config::ControllerArgs, run::Running};
use propylon_crds::IPAddressPool;
use propylon_e2e::lab::{ApiServer, Release};
use propylon_model::Delta;
use propylon_testkit::wait;
use propylon_wire::{ClientConfig, Mirror, ProxyIdentity, Rejection};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);
const NAMESPACE: &str = "propylon";

static SERVER: OnceLock<ApiServer> = OnceLock::new();
static INSTALLED: OnceCell<()> = OnceCell::const_new();
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// An API server with the chart's rights and custom resources, for one test.
pub(crate) struct Stand {
    pub(crate) client: Client,
    /// A namespace that only this test has.
    pub(crate) namespace: String,
    server: &'static ApiServer,
    _turn: MutexGuard<'static, ()>,
}

/// A proxy that takes whatever it is given.
pub(crate) struct Proxy(tokio::task::JoinHandle<()>);

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stand {
    /// Waits until it is this test's turn; without pools and with the class `propylon`.
    pub(crate) async fn new() -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let server = tokio::task::spawn_blocking(|| {
            SERVER
                .get_or_init(|| ApiServer::start(propylon_e2e::lab::Options::default()).expect("an API server starts"))
        });
        let server = server.await.unwrap();
        let install = || async {
            // Only what the chart renders without workloads; no binary is started here.
            drop(
                Release::install(server, Path::new("/nonexistent"), &["ingressClass.name=propylon"])
                    .await
                    .unwrap(),
            );
        };
        INSTALLED.get_or_init(install).await;
        let client = server.client();
        let pools: Api<IPAddressPool> = Api::all(client.clone());
        pools
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await
            .unwrap();
        let stand = Self {
            namespace: server.namespace("leading").await.unwrap(),
            client,
            server,
            _turn: turn,
        };
        stand
            .until("no pool is left", async || {
                Api::<IPAddressPool>::all(stand.client.clone())
                    .list(&ListParams::default())
                    .await
                    .unwrap()
                    .items
                    .is_empty()
            })
            .await;
        stand
    }

    /// Starts a controller.
    pub(crate) async fn controller(&self, pod: &str, flags: &[&str]) -> Running {
        let identity = self
            .server
            .service_account(NAMESPACE, "propylon-controller")
            .await
            .unwrap();
        let kubeconfig = format!("--kubeconfig={}", identity.kubeconfig.display());
        let own = [
            "test",
            &kubeconfig,
            "--namespace=propylon",
            "--stream=127.0.0.1:0",
            "--status=127.0.0.1:0",
            "--admin=127.0.0.1:0",
        ];
        let pod_name = format!("--pod-name={pod}");
        let command = ControllerArgs::augment_args(clap::Command::new("test"));
        let matches = command.get_matches_from(own.iter().chain([&pod_name.as_str()]).chain(flags));
        let args = ControllerArgs::from_arg_matches(&matches).unwrap();
        Running::start(args.into_config(pod)).await.unwrap()
    }

    /// Connects a proxy to a controller.
    pub(crate) fn proxy(&self, controller: &Running, pod: &str, node: &str) -> Proxy {
        let publisher = controller.context().publisher.clone();
        let identity = ProxyIdentity {
            namespace: NAMESPACE.into(),
            pod: pod.into(),
            node: node.into(),
            uid: "uid".into(),
        };
        let runtime = tokio::runtime::Handle::current();
        Proxy(runtime.clone().spawn(async move {
            let mut connect = || {
                let (near, far) = tokio::io::duplex(1 << 16);
                let (publisher, identity) = (publisher.clone(), identity.clone());
                runtime.spawn(async move { drop(propylon_wire::serve(far, identity, &publisher).await) });
                async move { Ok(near) }
            };
            let mut take = Take;
            let mut client = propylon_wire::Client::new(Mirror::new(), ClientConfig::default());
            match client.run(&mut connect, &mut take).await {}
        }))
    }

    pub(crate) fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) fn ingresses(&self) -> Api<Ingress> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Makes a pool.
    pub(crate) async fn pool(&self, name: &str, spec: Value) {
        let object = json!({"apiVersion": "propylon.dev/v1alpha1", "kind": "IPAddressPool", "metadata": {"name": name}, "spec": spec});
        let pools: Api<IPAddressPool> = Api::all(self.client.clone());
        pools
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
    }

    pub(crate) async fn pool_status(&self, name: &str) -> Value {
        let pools: Api<IPAddressPool> = Api::all(self.client.clone());
        json!(pools.get(name).await.unwrap().status)
    }

    /// Makes a Service of type `LoadBalancer`.
    pub(crate) async fn service(&self, name: &str, annotations: Value, port: u16) {
        let object = json!({
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"type": "LoadBalancer", "ports": [{"port": port}], "selector": {"app": name}, "allocateLoadBalancerNodePorts": false},
        });
        self.services()
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
    }

    /// The addresses in the status of a Service.
    pub(crate) async fn addresses(&self, name: &str) -> Vec<String> {
        let service = self.services().get(name).await.unwrap();
        let entries = service
            .status
            .and_then(|status| status.load_balancer?.ingress)
            .unwrap_or_default();
        entries.into_iter().filter_map(|entry| entry.ip).collect()
    }

    /// Makes an Ingress of our class with one path to a Service that need not exist.
    pub(crate) async fn ingress(&self, name: &str, class: &str) {
        let object = json!({
            "metadata": {"name": name},
            "spec": {"ingressClassName": class, "rules": [{"host": format!("{name}.example.com"), "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"number": 80}}}},
            ]}}]},
        });
        self.ingresses()
            .create(&PostParams::default(), &serde_json::from_value(object).unwrap())
            .await
            .unwrap();
    }

    /// The addresses in the status of an Ingress.
    pub(crate) async fn ingress_addresses(&self, name: &str) -> Vec<String> {
        let ingress = self.ingresses().get(name).await.unwrap();
        let entries = ingress
            .status
            .and_then(|status| status.load_balancer?.ingress)
            .unwrap_or_default();
        entries
            .into_iter()
            .filter_map(|entry| entry.ip.or(entry.hostname))
            .collect()
    }

    /// Writes the status of an Ingress as another controller does.
    pub(crate) async fn write_status(&self, name: &str, manager: &str, address: &str) {
        let patch = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        let params = PatchParams {
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        self.ingresses()
            .patch_status(name, &params, &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// The Events on an object, by reason, with their notes.
    pub(crate) async fn events(&self, namespace: &str, name: &str) -> BTreeMap<String, Vec<String>> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in events.list(&ListParams::default()).await.unwrap() {
            if event.regarding.and_then(|regarding| regarding.name).as_deref() == Some(name) {
                let notes = found.entry(event.reason.unwrap_or_default()).or_default();
                notes.push(event.note.unwrap_or_default());
            }
        }
        found
    }

    /// Waits until something holds.
    pub(crate) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let waited = wait::some_async(PATIENCE, async || holds().await.then_some(()));
        assert!(waited.await.is_some(), "not within {PATIENCE:?}: {what}");
    }
}

struct Take;

impl propylon_wire::Apply for Take {
    fn apply(&mut self, _delta: &Delta) -> Vec<Rejection> {
        Vec::new()
    }
}

/// The text of the metrics of a controller.
pub(crate) fn metrics(controller: &Running) -> String {
    Arc::clone(&controller.context().registry).render()
}
