//! A resource of any kind, and what it refers to.

use std::{collections::BTreeMap, fmt, sync::Arc};

use propylon_model::{
    Action, Certificate, CertificateName, Delta, Endpoints, EndpointsName, GroupName, L4Service, L4ServiceName,
    Passthrough, Pool, PoolName, Resources, RouteGroup,
};

use crate::key::{ResourceKey, ResourceKind};

/// A resource of one of the kinds.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A certificate.
    Certificate(Arc<Certificate>),
    /// Endpoints.
    Endpoints(Arc<Endpoints>),
    /// A port at layer 4.
    L4Service(Arc<L4Service>),
    /// A host of TLS passthrough.
    Passthrough(Arc<Passthrough>),
    /// A pool.
    Pool(Arc<Pool>),
    /// A route group.
    RouteGroup(Arc<RouteGroup>),
}

/// The kind only: a value may hold a key.
impl fmt::Debug for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Value({})", self.kind().as_str())
    }
}

impl Value {
    /// The kind.
    pub const fn kind(&self) -> ResourceKind {
        match self {
            Self::Certificate(_) => ResourceKind::Certificate,
            Self::Endpoints(_) => ResourceKind::Endpoints,
            Self::L4Service(_) => ResourceKind::L4Service,
            Self::Passthrough(_) => ResourceKind::Passthrough,
            Self::Pool(_) => ResourceKind::Pool,
            Self::RouteGroup(_) => ResourceKind::RouteGroup,
        }
    }

    /// Calls back with each resource that this one refers to; one may come several times.
    pub(crate) fn for_each_reference(&self, mut found: impl FnMut(ResourceKind, &str)) {
        match self {
            Self::Certificate(_) | Self::Endpoints(_) => {}
            Self::L4Service(service) => {
                found(ResourceKind::Endpoints, service.endpoints.as_str());
                if let Some(certificate) = &service.tls {
                    found(ResourceKind::Certificate, certificate.as_str());
                }
            }
            Self::Passthrough(passthrough) => found(ResourceKind::Endpoints, passthrough.endpoints.as_str()),
            Self::Pool(pool) => found(ResourceKind::Endpoints, pool.endpoints.as_str()),
            Self::RouteGroup(group) => {
                let default = group.default_backend.iter().map(|(action, _)| action);
                for action in group.rules.iter().map(|rule| &rule.action).chain(default) {
                    if let Action::Forward(pool) = action {
                        found(ResourceKind::Pool, pool.as_str());
                    }
                }
            }
        }
    }
}

/// The changes of a delta, kind by kind in the order in which they are made.
pub(crate) fn changes(delta: &Delta) -> impl Iterator<Item = (ResourceKey, Option<Value>)> + '_ {
    let certificates = list(&delta.certificates, ResourceKind::Certificate, Value::Certificate);
    let endpoints = list(&delta.endpoints, ResourceKind::Endpoints, Value::Endpoints);
    let pools = list(&delta.pools, ResourceKind::Pool, Value::Pool);
    let groups = list(&delta.groups, ResourceKind::RouteGroup, Value::RouteGroup);
    let passthrough = list(&delta.passthrough, ResourceKind::Passthrough, Value::Passthrough);
    let l4 = list(&delta.l4, ResourceKind::L4Service, Value::L4Service);
    certificates
        .chain(endpoints)
        .chain(pools)
        .chain(groups)
        .chain(passthrough)
        .chain(l4)
}

fn list<N: AsRef<Arc<str>>, T>(
    map: &BTreeMap<N, Option<Arc<T>>>,
    kind: ResourceKind,
    wrap: fn(Arc<T>) -> Value,
) -> impl Iterator<Item = (ResourceKey, Option<Value>)> + '_ {
    map.iter().map(move |(name, value)| {
        let key = ResourceKey::new(kind, Arc::clone(name.as_ref()));
        (key, value.as_ref().map(|value| wrap(Arc::clone(value))))
    })
}

/// Adds a change to a delta.
pub(crate) fn put(delta: &mut Delta, key: &ResourceKey, value: Option<&Value>) {
    let name = Arc::clone(&key.name);
    match (key.kind, value) {
        (ResourceKind::Certificate, None) => drop(delta.certificates.insert(CertificateName::new(name), None)),
        (ResourceKind::Endpoints, None) => drop(delta.endpoints.insert(EndpointsName::new(name), None)),
        (ResourceKind::L4Service, None) => drop(delta.l4.insert(L4ServiceName::new(name), None)),
        (ResourceKind::Passthrough, None) => drop(delta.passthrough.insert(GroupName::new(name), None)),
        (ResourceKind::Pool, None) => drop(delta.pools.insert(PoolName::new(name), None)),
        (ResourceKind::RouteGroup, None) => drop(delta.groups.insert(GroupName::new(name), None)),
        (_, Some(value)) => put_value(delta, name, value),
    }
}

fn put_value(delta: &mut Delta, name: Arc<str>, value: &Value) {
    match value {
        Value::Certificate(value) => {
            let name = CertificateName::new(name);
            drop(delta.certificates.insert(name, Some(Arc::clone(value))));
        }
        Value::Endpoints(value) => {
            let name = EndpointsName::new(name);
            drop(delta.endpoints.insert(name, Some(Arc::clone(value))));
        }
        Value::L4Service(value) => drop(delta.l4.insert(L4ServiceName::new(name), Some(Arc::clone(value)))),
        Value::Passthrough(value) => {
            let name = GroupName::new(name);
            drop(delta.passthrough.insert(name, Some(Arc::clone(value))));
        }
        Value::Pool(value) => drop(delta.pools.insert(PoolName::new(name), Some(Arc::clone(value)))),
        Value::RouteGroup(value) => drop(delta.groups.insert(GroupName::new(name), Some(Arc::clone(value)))),
    }
}

/// Looks a resource up.
pub(crate) fn find(resources: &Resources, key: &ResourceKey) -> Option<Value> {
    let name: &str = &key.name;
    match key.kind {
        ResourceKind::Certificate => resources.certificates.get(name).cloned().map(Value::Certificate),
        ResourceKind::Endpoints => resources.endpoints.get(name).cloned().map(Value::Endpoints),
        ResourceKind::L4Service => resources.l4.get(name).cloned().map(Value::L4Service),
        ResourceKind::Passthrough => resources.passthrough.get(name).cloned().map(Value::Passthrough),
        ResourceKind::Pool => resources.pools.get(name).cloned().map(Value::Pool),
        ResourceKind::RouteGroup => resources.groups.get(name).cloned().map(Value::RouteGroup),
    }
}

/// Every resource of a state.
pub(crate) fn all(resources: &Resources) -> impl Iterator<Item = (ResourceKey, Value)> + '_ {
    fn list<N: AsRef<Arc<str>>, T>(
        map: &BTreeMap<N, Arc<T>>,
        kind: ResourceKind,
        wrap: fn(Arc<T>) -> Value,
    ) -> impl Iterator<Item = (ResourceKey, Value)> + '_ {
        map.iter().map(move |(name, value)| {
            let key = ResourceKey::new(kind, Arc::clone(name.as_ref()));
            (key, wrap(Arc::clone(value)))
        })
    }
    let certificates = list(&resources.certificates, ResourceKind::Certificate, Value::Certificate);
    let endpoints = list(&resources.endpoints, ResourceKind::Endpoints, Value::Endpoints);
    let pools = list(&resources.pools, ResourceKind::Pool, Value::Pool);
    let groups = list(&resources.groups, ResourceKind::RouteGroup, Value::RouteGroup);
    let passthrough = list(&resources.passthrough, ResourceKind::Passthrough, Value::Passthrough);
    let l4 = list(&resources.l4, ResourceKind::L4Service, Value::L4Service);
    certificates
        .chain(endpoints)
        .chain(pools)
        .chain(groups)
        .chain(passthrough)
        .chain(l4)
}

/// Takes a change out of a delta again.
pub(crate) fn take_out(delta: &mut Delta, key: &ResourceKey) {
    let name: &str = &key.name;
    match key.kind {
        ResourceKind::Certificate => drop(delta.certificates.remove(name)),
        ResourceKind::Endpoints => drop(delta.endpoints.remove(name)),
        ResourceKind::L4Service => drop(delta.l4.remove(name)),
        ResourceKind::Passthrough => drop(delta.passthrough.remove(name)),
        ResourceKind::Pool => drop(delta.pools.remove(name)),
        ResourceKind::RouteGroup => drop(delta.groups.remove(name)),
    }
}
