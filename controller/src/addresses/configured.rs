//! Pools of the operator's settings, which the leader applies as custom resources. Pure.

use std::collections::{BTreeMap, BTreeSet};

use propylon_crds::{IPAddressPool, IPAddressPoolSpec};
use serde_json::{Value, json};

use crate::config::NamedSpec;

/// The label of what the leader applies.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "propylon-controller");

/// What to do so that the custom resources are those of the settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// To be applied, by name.
    pub apply: BTreeMap<String, Value>,
    /// To be deleted: the settings had them, and do no longer.
    pub delete: BTreeSet<String>,
    /// What of the settings cannot be read, and why.
    pub errors: Vec<String>,
}

/// Compares what the settings say with what is there.
pub fn changes(wanted: &[NamedSpec], present: &[&IPAddressPool]) -> Changes {
    let mut changes = Changes::default();
    let mut names = BTreeSet::new();
    for pool in wanted {
        names.insert(pool.name.as_str());
        let spec = match serde_json::from_value::<IPAddressPoolSpec>(Value::Object(pool.spec.clone())) {
            Ok(spec) => spec,
            Err(error) => {
                let message = format!(
                    "lb.pools: '{}' is no pool: {error}; the IPAddressPool stays as it is",
                    pool.name
                );
                changes.errors.push(message);
                continue;
            }
        };
        let there = present
            .iter()
            .find(|there| there.metadata.name.as_deref() == Some(&pool.name));
        if !there.is_some_and(|there| there.spec == spec && is_managed(there)) {
            changes.apply.insert(pool.name.clone(), manifest(&pool.name, &spec));
        }
    }
    let gone = present.iter().filter(|there| is_managed(there));
    let gone = gone.filter_map(|there| there.metadata.name.as_deref());
    changes.delete = gone.filter(|name| !names.contains(name)).map(str::to_owned).collect();
    changes
}

fn is_managed(pool: &IPAddressPool) -> bool {
    let labels = pool.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(MANAGED_BY.0)).map(String::as_str) == Some(MANAGED_BY.1)
}

fn manifest(name: &str, spec: &IPAddressPoolSpec) -> Value {
    let (label, value) = MANAGED_BY;
    json!({
        "apiVersion": "propylon.dev/v1alpha1",
        "kind": "IPAddressPool",
        "metadata": {"name": name, "labels": {label: value}},
        "spec": spec,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_custom_resources_follow_the_settings_and_others_are_left_alone() {
        let wanted: Vec<NamedSpec> = serde_json::from_value(json!([
            {"name": "new", "addresses": ["192.0.2.0/24"]},
            {"name": "same", "nodeAddresses": true},
            {"name": "wrong", "addresses": "192.0.2.0/24"},
        ]))
        .unwrap();
        let first = changes(&wanted, &[]);
        assert_eq!(first.apply.keys().collect::<Vec<_>>(), ["new", "same"]);
        assert!(
            first.errors[0].contains("lb.pools: 'wrong' is no pool"),
            "{:?}",
            first.errors
        );
        let mut applied: Vec<IPAddressPool> = first
            .apply
            .into_values()
            .map(|value| serde_json::from_value(value).unwrap())
            .collect();
        applied[0].metadata.name = Some("gone".to_owned());
        let mut of_a_user = IPAddressPool::new("user", IPAddressPoolSpec::default());
        of_a_user.metadata.labels = None;
        let present: Vec<&IPAddressPool> = applied.iter().chain([&of_a_user]).collect();
        let second = changes(&wanted, &present);
        assert_eq!(second.apply.keys().collect::<Vec<_>>(), ["new"]);
        assert_eq!(second.delete.into_iter().collect::<Vec<_>>(), ["gone"]);
    }
}
