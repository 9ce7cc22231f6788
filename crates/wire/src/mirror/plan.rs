//! What of a delta may come to life, and what must stay alive: the references between resources.

use std::collections::{BTreeSet, HashSet};

use propylon_model::{Delta, Resources};

use crate::{
    key::{ResourceKey, ResourceKind},
    value::{self, Value},
};

/// The route groups of a delta that name a pool which would not be there, and why they cannot be taken.
///
/// # Cost
/// Linear in the groups of the delta.
pub(super) fn without_pools(resources: &Resources, delta: &Delta) -> Vec<(ResourceKey, String)> {
    let has_pool = |name: &str| match delta.pools.get(name) {
        Some(change) => change.is_some(),
        None => resources.pools.contains_key(name),
    };
    let mut homeless = Vec::new();
    for (name, group) in &delta.groups {
        let Some(group) = group else { continue };
        let mut missing = None;
        Value::RouteGroup(group.clone()).for_each_reference(|_, pool| {
            if missing.is_none() && !has_pool(pool) {
                missing = Some(format!(
                    "it names the pool '{pool}', which the proxy has not got or not taken"
                ));
            }
        });
        if let Some(missing) = missing {
            homeless.push((ResourceKey::new(ResourceKind::RouteGroup, name.as_str()), missing));
        }
    }
    homeless
}

/// Takes those removals out of a delta whose resource is still named by one that stays, and returns them.
///
/// # Cost
/// Linear in all resources; only needed while a resource is not taken.
pub(super) fn withhold(resources: &Resources, delta: &mut Delta) -> BTreeSet<ResourceKey> {
    let mut withheld = BTreeSet::new();
    // What refers to others first: a pool that stays keeps its endpoints.
    for kind in [ResourceKind::Pool, ResourceKind::Endpoints, ResourceKind::Certificate] {
        let removed = removals(delta, kind);
        if removed.is_empty() {
            continue;
        }
        let mut after = resources.clone();
        after.apply(delta);
        let needed = referenced(&after);
        for key in removed {
            if needed.contains(&key) && value::find(resources, &key).is_some() {
                value::take_out(delta, &key);
                withheld.insert(key);
            }
        }
    }
    withheld
}

fn removals(delta: &Delta, kind: ResourceKind) -> Vec<ResourceKey> {
    value::changes(delta)
        .filter(|(key, change)| key.kind == kind && change.is_none())
        .map(|(key, _)| key)
        .collect()
}

fn referenced(resources: &Resources) -> HashSet<ResourceKey> {
    let mut needed = HashSet::new();
    for (_, value) in value::all(resources) {
        value.for_each_reference(|kind, name| {
            needed.insert(ResourceKey::new(kind, name));
        });
    }
    needed
}
