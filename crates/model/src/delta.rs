//! What changed between two states of the IR.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    certificate::Certificate,
    endpoint::Endpoints,
    l4::{L4Service, Passthrough},
    name::{CertificateName, EndpointsName, GroupName, L4ServiceName, PoolName},
    pool::Pool,
    resources::Resources,
    route::RouteGroup,
};

/// Changed resources by name: `Some` replaces or adds, `None` removes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Delta {
    /// Changed route groups.
    pub groups: BTreeMap<GroupName, Option<Arc<RouteGroup>>>,
    /// Changed pools.
    pub pools: BTreeMap<PoolName, Option<Arc<Pool>>>,
    /// Changed endpoints.
    pub endpoints: BTreeMap<EndpointsName, Option<Arc<Endpoints>>>,
    /// Changed certificates.
    pub certificates: BTreeMap<CertificateName, Option<Arc<Certificate>>>,
    /// Changed L4 ports.
    pub l4: BTreeMap<L4ServiceName, Option<Arc<L4Service>>>,
    /// Changed hosts of TLS passthrough.
    pub passthrough: BTreeMap<GroupName, Option<Arc<Passthrough>>>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        let routes = self.groups.is_empty() && self.pools.is_empty();
        let layer4 = self.l4.is_empty() && self.passthrough.is_empty();
        routes && layer4 && self.endpoints.is_empty() && self.certificates.is_empty()
    }

    /// What turns `old` into `new`. Equal values are left out, whether or not they are the same allocation.
    ///
    /// # Cost
    /// Linear in both; unchanged values that share their allocation are not compared.
    pub fn between(old: &Resources, new: &Resources) -> Self {
        Self {
            groups: map_between(&old.groups, &new.groups),
            pools: map_between(&old.pools, &new.pools),
            endpoints: map_between(&old.endpoints, &new.endpoints),
            certificates: map_between(&old.certificates, &new.certificates),
            l4: map_between(&old.l4, &new.l4),
            passthrough: map_between(&old.passthrough, &new.passthrough),
        }
    }
}

impl Resources {
    /// Applies a delta: afterwards `Delta::between(self, target)` is empty when the delta was made for `target`.
    pub fn apply(&mut self, delta: &Delta) {
        map_apply(&mut self.groups, &delta.groups);
        map_apply(&mut self.pools, &delta.pools);
        map_apply(&mut self.endpoints, &delta.endpoints);
        map_apply(&mut self.certificates, &delta.certificates);
        map_apply(&mut self.l4, &delta.l4);
        map_apply(&mut self.passthrough, &delta.passthrough);
    }
}

fn map_between<K: Ord + Clone, T: Eq>(
    old: &BTreeMap<K, Arc<T>>,
    new: &BTreeMap<K, Arc<T>>,
) -> BTreeMap<K, Option<Arc<T>>> {
    let changed = new.iter().filter(|(name, value)| {
        old.get(*name)
            .is_none_or(|before| !Arc::ptr_eq(before, value) && before != *value)
    });
    let removed = old.keys().filter(|name| !new.contains_key(*name));
    changed
        .map(|(name, value)| (name.clone(), Some(Arc::clone(value))))
        .chain(removed.map(|name| (name.clone(), None)))
        .collect()
}

fn map_apply<K: Ord + Clone, T>(map: &mut BTreeMap<K, Arc<T>>, changes: &BTreeMap<K, Option<Arc<T>>>) {
    for (name, change) in changes {
        match change {
            Some(value) => map.insert(name.clone(), Arc::clone(value)),
            None => map.remove(name),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(names: &[(&str, usize)]) -> Resources {
        let endpoints = names.iter().map(|(name, count)| {
            let endpoint = crate::Endpoint::new(([10, 0, 0, 1], 80).into());
            (
                EndpointsName::new(*name),
                Arc::new(Endpoints::new(vec![endpoint; *count])),
            )
        });
        Resources {
            endpoints: endpoints.collect(),
            ..Resources::default()
        }
    }

    #[test]
    fn applying_the_delta_gives_the_new_state() {
        let mut state = resources(&[("a", 1), ("b", 1), ("c", 1)]);
        let target = resources(&[("a", 1), ("b", 2), ("d", 1)]);
        let delta = Delta::between(&state, &target);
        assert_eq!(delta.endpoints.len(), 3);
        state.apply(&delta);
        assert_eq!(state, target);
        assert!(Delta::between(&state, &target).is_empty());
    }
}
