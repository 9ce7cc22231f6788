//! The custom resources of Propylon, group `propylon.dev`, version `v1alpha1`, and the values that their fields are parsed into.
//!
//! Not here: what is done with them (the controller and the agent). Start at [`IPAddressPool`]; its addresses are
//! [`AddressRange`]s. The files in `crds/yaml` are generated from these types, and a test fails where they differ
//! (`UPDATE_GOLDEN=1 cargo test -p propylon-crds` writes them anew).

mod address_range;
mod pool;
mod selector;
mod yaml;

pub use address_range::{AddressRange, AddressRangeError, Family};
pub use pool::{FamilyCount, IPAddressPool, IPAddressPoolSpec, IPAddressPoolStatus, PoolReason, condition};
pub use selector::{Expression, Operator, PoolSelector};

use kube::CustomResourceExt as _;

/// Every custom resource: the name of its file in `crds/yaml`, and its definition as YAML.
pub fn definitions() -> Vec<(String, String)> {
    [IPAddressPool::crd()]
        .into_iter()
        .map(|crd| {
            let name = format!("{}.yaml", crd.metadata.name.clone().unwrap_or_default());
            let value = serde_json::to_value(crd).unwrap_or_default();
            (name, yaml::document(&value))
        })
        .collect()
}
