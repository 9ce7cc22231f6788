//! What of a delta may come to life, and what must stay alive: the references between resources.

use std::{collections::BTreeSet, sync::Arc};

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

/// Whether a delta takes something away that may still be named: a pool, or anything while there are rejections.
pub(super) fn may_break(delta: &Delta, has_rejections: bool) -> bool {
    has_rejections || delta.pools.values().any(Option::is_none)
}

/// Takes those removals out of a delta whose resource is still named by one that stays, and returns them.
///
/// # Cost
/// Linear in all resources, where the delta removes any that can be named.
pub(super) fn withhold(resources: &Resources, delta: &mut Delta) -> BTreeSet<ResourceKey> {
    let mut withheld = BTreeSet::new();
    // What refers to others first: a pool that stays keeps its endpoints.
    for kind in [ResourceKind::Pool, ResourceKind::Endpoints, ResourceKind::Certificate] {
        let removed = removals(resources, delta, kind);
        if removed.is_empty() {
            continue;
        }
        let mut after = resources.clone();
        after.apply(delta);
        for name in named(&after, kind, &removed) {
            let key = ResourceKey { kind, name };
            value::take_out(delta, &key);
            withheld.insert(key);
        }
    }
    withheld
}

/// The names of a kind that a delta takes away.
fn removals(resources: &Resources, delta: &Delta, kind: ResourceKind) -> BTreeSet<Arc<str>> {
    value::changes(delta)
        .filter(|(key, change)| key.kind == kind && change.is_none() && value::find(resources, key).is_some())
        .map(|(key, _)| key.name)
        .collect()
}

/// Those of the names that some resource refers to.
fn named(resources: &Resources, kind: ResourceKind, names: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
    let mut found = BTreeSet::new();
    for (_, value) in value::all(resources) {
        value.for_each_reference(|referred, name| {
            if referred == kind
                && let Some(name) = names.get(name)
            {
                found.insert(Arc::clone(name));
            }
        });
    }
    found
}
