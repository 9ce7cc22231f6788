//! An `IPAddressPool` as the plan reads it.

use std::{collections::BTreeMap, net::IpAddr};

use propylon_crds::{AddressRange, Family, IPAddressPool, PoolSelector};

use super::facts::ServiceFacts;

/// A pool of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the custom resource")]
pub struct Pool {
    /// The name.
    pub name: String,
    /// `metadata.creationTimestamp`, Unix seconds.
    pub created_unix_s: Option<i64>,
    /// The addresses, in the order written; none with `nodeAddresses`.
    pub ranges: Vec<AddressRange>,
    /// Whether its addresses are those of the nodes with a ready proxy.
    pub node_addresses: bool,
    /// Whether a Service that names neither the pool nor an address of it can get one.
    pub auto_assign: bool,
    /// Whether IPv4 addresses that end in .0 and .255 are left out.
    pub avoid_buggy: bool,
    /// Higher goes first.
    pub priority: i32,
    /// Whether no other Service gets an address.
    pub drain: bool,
    /// The namespaces of the Services.
    pub namespaces: Option<PoolSelector>,
    /// The Services.
    pub services: Option<PoolSelector>,
    /// What of `spec.addresses` cannot be read, and why.
    pub errors: Vec<String>,
}

/// Labels of namespaces, by name.
pub type NamespaceLabels = BTreeMap<String, BTreeMap<String, String>>;

impl Pool {
    /// Reads the object; entries that are wrong become [`Pool::errors`].
    pub fn read(object: &IPAddressPool) -> Self {
        let spec = &object.spec;
        let mut ranges = Vec::new();
        let mut errors = Vec::new();
        for (index, text) in spec.addresses.iter().enumerate() {
            match text.parse::<AddressRange>() {
                // An address in two entries counts once.
                Ok(range) if ranges.iter().any(|other| range.overlaps(other)) => {
                    errors.push(format!(
                        "spec.addresses[{index}]: '{text}' repeats addresses of another entry"
                    ));
                }
                Ok(range) => ranges.push(range),
                Err(error) => errors.push(format!("spec.addresses[{index}]: {error}")),
            }
        }
        let created = object.metadata.creation_timestamp.as_ref();
        Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            created_unix_s: created.map(|time| time.0.as_second()),
            ranges,
            node_addresses: spec.node_addresses,
            auto_assign: spec.auto_assign,
            avoid_buggy: spec.avoid_buggy_ips,
            priority: spec.priority,
            drain: spec.drain,
            namespaces: spec.namespace_selector.clone(),
            services: spec.service_selector.clone(),
            errors,
        }
    }

    /// Whether an address is one of its ranges', whether it is given out or not.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(address))
    }

    /// Whether both have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.ranges
            .iter()
            .any(|range| other.ranges.iter().any(|other| range.overlaps(other)))
    }

    /// Whether a Service is one that the pool is for.
    pub fn is_for(&self, service: &ServiceFacts, namespaces: &NamespaceLabels) -> bool {
        let none = BTreeMap::new();
        let namespace = &*service.key.namespace;
        let labels = namespaces.get(namespace).unwrap_or(&none);
        self.namespaces
            .as_ref()
            .is_none_or(|selector| selector.chooses(namespace, labels))
            && self
                .services
                .as_ref()
                .is_none_or(|selector| selector.chooses(&service.key.name, &service.labels))
    }

    /// Whether an address is one that the pool leaves out.
    pub fn is_avoided(&self, address: IpAddr) -> bool {
        self.avoid_buggy && is_buggy(address)
    }

    /// How many addresses of a family it can give out.
    pub fn count(&self, family: Family) -> u128 {
        let ranges = self.ranges.iter().filter(|range| range.family() == family);
        ranges.fold(0_u128, |sum, range| {
            let avoided = if self.avoid_buggy { buggy_in(range) } else { 0 };
            sum.saturating_add(range.count() - avoided)
        })
    }
}

/// Whether an address ends in .0 or .255.
fn is_buggy(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if matches!(address.octets(), [.., 0 | 255]))
}

/// How many addresses of a range end in .0 or .255.
fn buggy_in(range: &AddressRange) -> u128 {
    let (IpAddr::V4(first), IpAddr::V4(last)) = (range.first(), range.last()) else {
        return 0;
    };
    // How many of 0 to n, n not included, end so.
    let below = |n: u64| n.div_ceil(256) + n / 256;
    u128::from(below(u64::from(last.to_bits()) + 1) - below(u64::from(first.to_bits())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buggy_addresses_are_not_counted() {
        for text in [
            "192.0.2.0/24",
            "192.0.2.255-192.0.4.1",
            "192.0.2.1-192.0.2.254",
            "192.0.2.0",
            "192.0.2.255",
            "10.0.0.0/14",
        ] {
            let range: AddressRange = text.parse().unwrap();
            let slow = (0..range.count())
                .filter(|offset| range.nth(*offset).is_some_and(is_buggy))
                .count();
            assert_eq!(buggy_in(&range), slow as u128, "{text}");
        }
        assert_eq!(buggy_in(&"2001:db8::/120".parse().unwrap()), 0);
    }

    #[test]
    fn wrong_entries_leave_the_others_in_use() {
        let object: IPAddressPool = serde_json::from_value(serde_json::json!({
            "apiVersion": "propylon.dev/v1alpha1", "kind": "IPAddressPool", "metadata": {"name": "a"},
            "spec": {"addresses": ["192.0.2.0/30", "192.0.2.9-192.0.2.8", "192.0.2.2", "2001:db8::/127"]},
        }))
        .unwrap();
        let pool = Pool::read(&object);
        assert_eq!((pool.count(Family::Ipv4), pool.count(Family::Ipv6)), (4, 2));
        assert!(pool.auto_assign, "the default");
        assert_eq!(pool.errors.len(), 2, "{:?}", pool.errors);
        assert!(pool.errors[0].starts_with("spec.addresses[1]: "), "{:?}", pool.errors);
    }
}
