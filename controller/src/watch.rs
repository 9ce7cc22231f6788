//! What Kubernetes holds: one shared watch per kind, guarded, trimmed, and believed before it is handed on.
//!
//! [`follow::follow`] runs one watch. [`belief::Belief`] decides what is believed, [`strategy::Strategy`] how the next list is
//! asked for; both are pure. [`Health`] says how each fares.

pub mod belief;
pub mod follow;
mod grant;
pub mod health;
pub mod inputs;
mod references;
pub mod strategy;
mod targets;
pub mod trim;

use std::fmt::Debug;

use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Namespace, Node, Pod, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    serde::de::DeserializeOwned,
};
use kube::{Api, Client, Resource, runtime::reflector::Store};
use propylon_crds::IPAddressPool;
use propylon_kit::tasks::Tasks;
use propylon_model::Kind;
use propylon_translate::manifest::Object;

use follow::{Follow, Target, follow};
use grant::Grant;
use health::{Health, Need, Scope};
use inputs::Inputs;
use targets::{IntoCompile, IntoStore};
use trim::Trim;

pub use references::{Wanted, keep as keep_references};

/// Labels of our own proxies' pods.
const PROXY_LABELS: &str = "app.kubernetes.io/name=propylon,app.kubernetes.io/component=proxy";
/// Only certificates, of all Secrets.
const TLS_SECRETS: &str = "type=kubernetes.io/tls";
/// Only pods on the network of their node: those alone may have its addresses.
const HOST_NETWORK: &str = "spec.hostNetwork=true";

/// What others than the compile read of Kubernetes: each store is kept up to date by the one watch of its kind.
///
/// [`Store::wait_until_ready`] waits for the first list. A store never empties because of one list, see [`belief`].
#[derive(Clone, Debug)]
pub struct Stores {
    /// Ingresses of all classes.
    pub ingresses: Store<Ingress>,
    /// Ingress classes of all controllers.
    pub ingress_classes: Store<IngressClass>,
    /// Services.
    pub services: Store<Service>,
    /// Namespaces, with their labels.
    pub namespaces: Store<Namespace>,
    /// Nodes: labels, addresses, conditions, taints.
    pub nodes: Store<Node>,
    /// The pods of our own proxies, in the namespace of the release: node, addresses, conditions.
    pub proxy_pods: Store<Pod>,
    /// Pools of addresses; not ready while the definition of the kind is not installed.
    pub pools: Store<IPAddressPool>,
    /// The Leases of the namespace of the release.
    pub leases: Store<Lease>,
    inputs: Inputs,
}

impl Stores {
    /// The number of the last change that was handed to the compile: what a store holds now is compiled once
    /// `Compiled::sequence` has this number or a higher one.
    pub fn sequence(&self) -> u64 {
        self.inputs.sequence()
    }
}

/// What every watch needs.
#[derive(Clone, Copy)]
pub struct Start<'s> {
    /// The API server.
    pub client: &'s Client,
    /// Where the watches run.
    pub tasks: &'s Tasks,
    /// Where they say how they fare.
    pub health: &'s Health,
    /// The way to the compile loop.
    pub inputs: &'s Inputs,
    /// The namespace of the release.
    pub namespace: &'s str,
    /// Namespaces in which Secrets are read; empty: all.
    pub secrets_scope: &'s [String],
}

impl Start<'_> {
    /// Starts every watch that does not depend on what others bring.
    pub fn all(&self) -> Stores {
        self.slices();
        self.secrets();
        self.host_network_pods();
        self.grants();
        Stores {
            ingresses: self
                .compiled_and_stored("ingresses", Kind::Ingress, |ingress| Object::Ingress(Box::new(ingress))),
            ingress_classes: self.compiled_and_stored("ingressclasses", Kind::IngressClass, |class| {
                Object::IngressClass(Box::new(class))
            }),
            services: self.compiled_and_stored("services", Kind::Service, |service| Object::Service(Box::new(service))),
            nodes: self.nodes(),
            namespaces: self.stored(
                cluster::<Namespace>("Namespace", "namespaces"),
                Api::all(self.client.clone()),
                None,
            ),
            pools: self.stored(
                cluster::<IPAddressPool>("IPAddressPool", "ipaddresspools"),
                Api::all(self.client.clone()),
                None,
            ),
            proxy_pods: self.stored(
                self.of_release("Pod", "pods", ""),
                Api::namespaced(self.client.clone(), self.namespace),
                Some(PROXY_LABELS),
            ),
            leases: self.stored(
                self.of_release("Lease", "leases", "coordination.k8s.io"),
                Api::namespaced(self.client.clone(), self.namespace),
                None,
            ),
            inputs: self.inputs.clone(),
        }
    }

    fn of_release(&self, kind: &'static str, resource: &'static str, group: &'static str) -> Scope {
        Scope {
            kind,
            resource,
            group,
            namespace: Some(self.namespace.to_owned()),
            name: None,
        }
    }

    /// A kind that the compile needs and others read.
    fn compiled_and_stored<K>(&self, resource: &'static str, kind: Kind, object: fn(K) -> Object) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Trim + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let scope = cluster::<K>(kind.as_str(), resource);
        let (target, store) = IntoStore::new(scope.clone(), self.health.clone());
        let target = IntoCompile::new(kind, scope.clone(), self.inputs.clone(), object).with(target);
        self.begin(self.follow(scope, Need::Required), target);
        store
    }

    fn slices(&self) {
        let scope = cluster::<EndpointSlice>("EndpointSlice", "endpointslices");
        let target = IntoCompile::new(Kind::EndpointSlice, scope.clone(), self.inputs.clone(), |slice| {
            Object::EndpointSlice(Box::new(slice))
        });
        self.begin(self.follow::<EndpointSlice>(scope, Need::Required), target);
    }

    fn secrets(&self) {
        let namespaces = self.secrets_scope.iter().map(|namespace| Some(namespace.clone()));
        let everywhere = self.secrets_scope.is_empty().then_some(None);
        for namespace in namespaces.chain(everywhere) {
            let api = namespace.as_deref().map_or_else(
                || Api::all(self.client.clone()),
                |namespace| Api::namespaced(self.client.clone(), namespace),
            );
            let scope = Scope {
                namespace,
                ..cluster::<Secret>("Secret", "secrets")
            };
            let target = IntoCompile::new(Kind::Secret, scope.clone(), self.inputs.clone(), |secret| {
                Object::Secret(Box::new(secret))
            });
            let mut follow = self.follow::<Secret>(scope, Need::Awaited);
            follow.api = api;
            follow.fields = Some(TLS_SECRETS.to_owned());
            self.begin(follow, target);
        }
    }

    fn nodes(&self) -> Store<Node> {
        let scope = cluster::<Node>("Node", "nodes");
        let (target, store) = IntoStore::new(scope.clone(), self.health.clone());
        let object = |node: Node| Object::Node(Box::new(propylon_translate::cluster::Node::from(&node)));
        let target = IntoCompile::new(Kind::Node, scope.clone(), self.inputs.clone(), object).with(target);
        self.begin(self.follow(scope, Need::Awaited), target);
        store
    }

    fn host_network_pods(&self) {
        let scope = cluster::<Pod>("Pod", "pods");
        let object = |pod: Pod| Object::Pod(Box::new(propylon_translate::cluster::Pod::from(&pod)));
        let target = IntoCompile::new(Kind::Pod, scope.clone(), self.inputs.clone(), object);
        let mut follow = self.follow::<Pod>(scope, Need::Awaited);
        follow.fields = Some(HOST_NETWORK.to_owned());
        self.begin(follow, target);
    }

    fn grants(&self) {
        let scope = cluster::<Grant>("ReferenceGrant", "referencegrants");
        let object = |grant: Grant| Object::ReferenceGrant(Box::new(grant.into()));
        let target = IntoCompile::new(Kind::ReferenceGrant, scope.clone(), self.inputs.clone(), object);
        self.begin(self.follow::<Grant>(scope, Need::Awaited), target);
    }

    /// A kind that the compile does not need.
    pub fn stored<K>(&self, scope: Scope, api: Api<kube::core::DeserializeGuard<K>>, labels: Option<&str>) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Trim + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (target, store) = IntoStore::new(scope.clone(), self.health.clone());
        let follow = Follow {
            api,
            scope,
            fields: None,
            labels: labels.map(ToOwned::to_owned),
            need: Need::Optional,
            health: self.health.clone(),
        };
        self.begin(follow, target);
        store
    }

    fn follow<K>(&self, scope: Scope, need: Need) -> Follow<K>
    where
        K: Resource<DynamicType = ()>,
    {
        Follow {
            api: Api::all(self.client.clone()),
            scope,
            fields: None,
            labels: None,
            need,
            health: self.health.clone(),
        }
    }

    fn begin<K>(&self, what: Follow<K>, target: impl Target<K> + 'static)
    where
        K: Resource<DynamicType = ()> + Trim + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        // Known before any other watch ends its list: nothing is published too early.
        self.health.update(&what.scope, |report| report.need = what.need);
        self.tasks
            .spawn("watch", follow(what, target, self.tasks.stop_signal()));
    }
}

/// The scope of a kind in the whole cluster.
pub fn cluster<K: Resource<DynamicType = ()>>(kind: &'static str, resource: &'static str) -> Scope {
    let group = match K::group(&()) {
        std::borrow::Cow::Borrowed(group) => group,
        std::borrow::Cow::Owned(_) => "",
    };
    Scope {
        kind,
        resource,
        group,
        namespace: None,
        name: None,
    }
}
