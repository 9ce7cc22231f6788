//! The resources, and what became others since the last step.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use propylon_model::{
    Certificate, CertificateName, Delta, Endpoints, EndpointsName, GroupName, L4Service, L4ServiceName, Passthrough,
    Pool, PoolName, Resources, RouteGroup,
};

/// Resources that are changed one by one.
#[derive(Debug, Default)]
pub(crate) struct Output {
    resources: Resources,
    /// What stood where something was changed since the last step.
    before: Delta,
}

impl Output {
    pub(crate) const fn resources(&self) -> &Resources {
        &self.resources
    }

    /// Restores what stood there after the last delta was taken.
    pub(crate) fn roll_back(&mut self) {
        self.resources.apply(&std::mem::take(&mut self.before));
    }

    pub(crate) fn into_resources(self) -> Resources {
        self.resources
    }

    /// Sets or removes a group; whether that changed anything.
    pub(crate) fn group(&mut self, name: &GroupName, value: Option<Arc<RouteGroup>>) -> bool {
        put(&mut self.resources.groups, &mut self.before.groups, name, value)
    }

    pub(crate) fn pool(&mut self, name: &PoolName, value: Option<Arc<Pool>>) -> bool {
        put(&mut self.resources.pools, &mut self.before.pools, name, value)
    }

    pub(crate) fn endpoints(&mut self, name: &EndpointsName, value: Option<Arc<Endpoints>>) -> bool {
        put(&mut self.resources.endpoints, &mut self.before.endpoints, name, value)
    }

    pub(crate) fn certificate(&mut self, name: &CertificateName, value: Option<Arc<Certificate>>) -> bool {
        put(
            &mut self.resources.certificates,
            &mut self.before.certificates,
            name,
            value,
        )
    }

    pub(crate) fn l4(&mut self, name: &L4ServiceName, value: Option<Arc<L4Service>>) -> bool {
        put(&mut self.resources.l4, &mut self.before.l4, name, value)
    }

    pub(crate) fn passthrough(&mut self, name: &GroupName, value: Option<Arc<Passthrough>>) -> bool {
        put(
            &mut self.resources.passthrough,
            &mut self.before.passthrough,
            name,
            value,
        )
    }

    /// What turns the resources of the last step into those of now.
    pub(crate) fn take_delta(&mut self) -> Delta {
        let before = std::mem::take(&mut self.before);
        let resources = &self.resources;
        Delta {
            groups: changed(before.groups, &resources.groups),
            pools: changed(before.pools, &resources.pools),
            endpoints: changed(before.endpoints, &resources.endpoints),
            certificates: changed(before.certificates, &resources.certificates),
            l4: changed(before.l4, &resources.l4),
            passthrough: changed(before.passthrough, &resources.passthrough),
        }
    }
}

fn put<K: Ord + Clone, T: Eq>(
    map: &mut BTreeMap<K, Arc<T>>,
    before: &mut BTreeMap<K, Option<Arc<T>>>,
    name: &K,
    value: Option<Arc<T>>,
) -> bool {
    let old = map.get(name);
    if old == value.as_ref() {
        return false;
    }
    if let Entry::Vacant(first) = before.entry(name.clone()) {
        first.insert(old.cloned());
    }
    match value {
        Some(value) => map.insert(name.clone(), value),
        None => map.remove(name),
    };
    true
}

fn changed<K: Ord, T: Eq>(
    before: BTreeMap<K, Option<Arc<T>>>,
    map: &BTreeMap<K, Arc<T>>,
) -> BTreeMap<K, Option<Arc<T>>> {
    let with_now = before.into_iter().map(|(name, old)| {
        let now = map.get(&name).cloned();
        (name, old, now)
    });
    let changed = with_now.filter(|(_, old, now)| old != now);
    changed.map(|(name, _, now)| (name, now)).collect()
}
