//! The Kubernetes objects that are compiled, and the operator's settings that compiling depends on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{ConfigMap, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::{Ingress, IngressClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use propylon_model::{Kind, ObjectRef};

use crate::{
    cluster::{Node, Pod, ReferenceGrant},
    engine::Changes,
    manifest::Object,
};

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace, empty where the kind has none.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Key {
    /// Makes a key of its parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of a namespaced object; the namespace `default` where none is given, as the API server does it.
    pub(crate) fn of_namespaced(metadata: &ObjectMeta) -> Self {
        let namespace = metadata
            .namespace
            .as_deref()
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or("default");
        Self::new(namespace, metadata.name.as_deref().unwrap_or_default())
    }

    /// The key of a cluster-scoped object.
    pub(crate) fn of_cluster(metadata: &ObjectMeta) -> Self {
        Self::new("", metadata.name.as_deref().unwrap_or_default())
    }
}

/// `NAMESPACE/NAME`, or `NAME` without a namespace.
impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(formatter, "{}/", self.namespace)?;
        }
        formatter.write_str(&self.name)
    }
}

/// Every object that is compiled, admitted ([`crate::admit::admit`]) before it is inserted.
///
/// Its `Debug` form is the names only, because Secrets must not get into a log.
#[derive(Clone, Default, PartialEq)]
pub struct World {
    /// Config maps; only those that a flag names are read.
    pub config_maps: BTreeMap<Key, Arc<ConfigMap>>,
    /// Ingresses, of every class.
    pub ingresses: BTreeMap<Key, Arc<Ingress>>,
    /// Ingress classes, of every controller; their keys have no namespace.
    pub ingress_classes: BTreeMap<Key, Arc<IngressClass>>,
    /// Nodes: no endpoint may have an address of one, unless a pod proves that it is its own; keys have no namespace.
    pub nodes: BTreeMap<Key, Arc<Node>>,
    /// The pods that endpoints with the address of a node name.
    pub pods: BTreeMap<Key, Arc<Pod>>,
    /// Grants to name something of another namespace.
    pub reference_grants: BTreeMap<Key, Arc<ReferenceGrant>>,
    /// Services.
    pub services: BTreeMap<Key, Arc<Service>>,
    /// Endpoint slices, of every Service.
    pub endpoint_slices: BTreeMap<Key, Arc<EndpointSlice>>,
    /// Secrets; only those that an Ingress, a Service or a flag names are read.
    pub secrets: BTreeMap<Key, Arc<Secret>>,
}

impl World {
    /// Adds an object, or replaces the one of its kind, namespace and name; [`Object::Other`] is ignored.
    pub fn insert(&mut self, object: Object) {
        self.put(object);
    }

    /// As [`Self::insert`]; the object's kind and key where something is there now that was not there before.
    pub(crate) fn put(&mut self, object: Object) -> Option<(Kind, Key)> {
        let ObjectRef { kind, namespace, name } = object.key()?;
        let key = Key { namespace, name };
        let changed = match object {
            Object::ConfigMap(config_map) => put(&mut self.config_maps, &key, config_map),
            Object::EndpointSlice(slice) => put(&mut self.endpoint_slices, &key, slice),
            Object::Ingress(ingress) => put(&mut self.ingresses, &key, ingress),
            Object::IngressClass(class) => put(&mut self.ingress_classes, &key, class),
            Object::Node(node) => put(&mut self.nodes, &key, node),
            Object::Other { .. } => false,
            Object::Pod(pod) => put(&mut self.pods, &key, pod),
            Object::ReferenceGrant(grant) => put(&mut self.reference_grants, &key, grant),
            Object::Secret(secret) => put(&mut self.secrets, &key, secret),
            Object::Service(service) => put(&mut self.services, &key, service),
        };
        changed.then_some((kind, key))
    }

    /// Takes over a whole world, and notes every object that is another one then.
    pub(crate) fn follow(&mut self, world: &Self, changes: &mut Changes) {
        follow(&mut self.config_maps, &world.config_maps, &mut changes.config_maps);
        follow(&mut self.ingresses, &world.ingresses, &mut changes.ingresses);
        follow(
            &mut self.ingress_classes,
            &world.ingress_classes,
            &mut changes.ingress_classes,
        );
        follow(&mut self.nodes, &world.nodes, &mut changes.nodes);
        follow(&mut self.pods, &world.pods, &mut changes.pods);
        follow(
            &mut self.reference_grants,
            &world.reference_grants,
            &mut changes.reference_grants,
        );
        follow(&mut self.services, &world.services, &mut changes.services);
        follow(
            &mut self.endpoint_slices,
            &world.endpoint_slices,
            &mut changes.endpoint_slices,
        );
        follow(&mut self.secrets, &world.secrets, &mut changes.secrets);
    }

    /// Removes an object; whether it was there.
    pub fn remove(&mut self, kind: Kind, key: &Key) -> bool {
        match kind {
            Kind::ConfigMap => self.config_maps.remove(key).is_some(),
            Kind::EndpointSlice => self.endpoint_slices.remove(key).is_some(),
            Kind::File => false,
            Kind::Ingress => self.ingresses.remove(key).is_some(),
            Kind::IngressClass => self.ingress_classes.remove(key).is_some(),
            Kind::Node => self.nodes.remove(key).is_some(),
            Kind::Pod => self.pods.remove(key).is_some(),
            Kind::ReferenceGrant => self.reference_grants.remove(key).is_some(),
            Kind::Secret => self.secrets.remove(key).is_some(),
            Kind::Service => self.services.remove(key).is_some(),
        }
    }

    /// Whether an object is there.
    pub fn contains(&self, kind: Kind, key: &Key) -> bool {
        match kind {
            Kind::ConfigMap => self.config_maps.contains_key(key),
            Kind::EndpointSlice => self.endpoint_slices.contains_key(key),
            Kind::File => false,
            Kind::Ingress => self.ingresses.contains_key(key),
            Kind::IngressClass => self.ingress_classes.contains_key(key),
            Kind::Node => self.nodes.contains_key(key),
            Kind::Pod => self.pods.contains_key(key),
            Kind::ReferenceGrant => self.reference_grants.contains_key(key),
            Kind::Secret => self.secrets.contains_key(key),
            Kind::Service => self.services.contains_key(key),
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("World")
            .field("config_maps", &self.config_maps.keys())
            .field("ingresses", &self.ingresses.keys())
            .field("ingress_classes", &self.ingress_classes.keys())
            .field("nodes", &self.nodes.keys())
            .field("pods", &self.pods.keys())
            .field("reference_grants", &self.reference_grants.keys())
            .field("services", &self.services.keys())
            .field("endpoint_slices", &self.endpoint_slices.keys())
            .field("secrets", &self.secrets.keys())
            .finish()
    }
}

/// Puts an object in its place; an equal one that is there stays, with what was made of it.
fn put<T: PartialEq>(objects: &mut BTreeMap<Key, Arc<T>>, key: &Key, object: Box<T>) -> bool {
    let changed = objects.get(key).is_none_or(|before| **before != *object);
    if changed {
        objects.insert(key.clone(), Arc::from(object));
    }
    changed
}

fn follow<T: PartialEq>(to: &mut BTreeMap<Key, Arc<T>>, from: &BTreeMap<Key, Arc<T>>, changed: &mut BTreeSet<Key>) {
    to.retain(|key, _| {
        let stays = from.contains_key(key);
        if !stays {
            changed.insert(key.clone());
        }
        stays
    });
    for (key, object) in from {
        let before = to.get(key);
        if before.is_some_and(|before| Arc::ptr_eq(before, object) || before == object) {
            continue;
        }
        to.insert(key.clone(), Arc::clone(object));
        changed.insert(key.clone());
    }
}

/// A Service port by name or by number.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortRef {
    /// The port's name.
    Name(Arc<str>),
    /// The port's number, 1 to 65535.
    Number(u16),
}

/// The name, or the number.
impl fmt::Display for PortRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Number(number) => write!(formatter, "{number}"),
        }
    }
}

/// One `--map NS/SVC[:PORT]=HOST:PORT`: the endpoints of a Service are replaced by one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceMap {
    /// The Service's namespace.
    pub namespace: Arc<str>,
    /// The Service's name; the Service need not exist.
    pub service: Arc<str>,
    /// The Service port; none: all of them. A map with a port goes before one without.
    pub port: Option<PortRef>,
    /// Where requests go; loopback is allowed here, whatever [`Options::allow_local_endpoints`] says.
    pub address: SocketAddr,
}

/// The operator's settings that compiling depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--ingress-class`: when not empty, exactly these classes are served, whatever their controller.
    pub ingress_classes: Vec<String>,
    /// `--default-tls-secret`: the certificate where nothing matches; may lie in any namespace.
    pub default_tls_secret: Option<Key>,
    /// `--map`, in the order given; the first that fits is used.
    pub maps: Vec<ServiceMap>,
    /// Whether endpoints may be loopback or link-local addresses.
    pub allow_local_endpoints: bool,
    /// `--external-name`: whether Services of type `ExternalName` are served.
    pub external_name: bool,
    /// The cluster's DNS domain, whose names no external name may have; `cluster.local` is always refused. Default none.
    pub cluster_domain: String,
    /// `--lb-bind`: where the ports of `LoadBalancer` Services listen that name no address of [`Options::local_addresses`].
    /// None: they are not served then, and the ports of config maps listen everywhere.
    pub lb_bind: Option<IpAddr>,
    /// Whether `LoadBalancer` Services are served as their status says, which the controller wrote: at entries of `ipMode`
    /// `Proxy`, the ports that have no error, on every address of the proxy's machine. For a cluster, whose proxies are on the
    /// network of their nodes. Default no.
    pub lb_by_status: bool,
    /// Those of [`World::load_balancer_addresses`] that are the machine's; look again before each compile.
    pub local_addresses: BTreeSet<IpAddr>,
    /// Where the proxy itself listens (TCP); no Service gets one of these.
    pub taken: Vec<SocketAddr>,
    /// `--tcp-services-configmap`.
    pub tcp_services: Option<Key>,
    /// `--udp-services-configmap`.
    pub udp_services: Option<Key>,
    /// The time of this compile, Unix seconds: for expired and expiring certificates. Compile again from time to time
    /// (every hour is enough), so that a certificate that ends is noticed without a change of any object.
    pub now_unix_s: i64,
}
