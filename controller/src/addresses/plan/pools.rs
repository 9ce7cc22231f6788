//! What is said of the pools.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use propylon_crds::{Family, PoolReason};

use super::{Decision, Path, Planner, Pool};

/// What a pool's status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReport {
    /// Whether it is used, and why.
    pub ready: (bool, PoolReason, String),
    /// Whether a family is used up, and which.
    pub exhausted: (bool, PoolReason, String),
    /// The addresses of each family that it has.
    pub counts: BTreeMap<Family, PoolCount>,
}

/// Addresses of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCount {
    /// Those that a Service could have.
    pub total: u128,
    /// Those that a Service has, or that are not to be had for another reason.
    pub assigned: u128,
    /// Those that are free.
    pub available: u128,
}

/// The pools that have addresses of an older one, and that one.
pub(super) fn overlapped<'a>(pools: &[&'a Pool]) -> BTreeMap<&'a str, &'a str> {
    let mut by_age: Vec<&Pool> = pools.to_vec();
    by_age.sort_by_key(|pool| (pool.created_unix_s.unwrap_or(i64::MAX), &pool.name));
    let mut used: Vec<&Pool> = Vec::new();
    let mut overlapped = BTreeMap::new();
    for pool in by_age {
        match used.iter().find(|older| older.overlaps(pool)) {
            Some(older) => {
                overlapped.insert(pool.name.as_str(), older.name.as_str());
            }
            None => used.push(pool),
        }
    }
    overlapped
}

impl Planner<'_> {
    /// What the status of each pool is to say.
    pub(super) fn report_pools(&self) -> BTreeMap<String, PoolReport> {
        let on_nodes = self.on_nodes();
        let reports = self.pools.iter().map(|pool| {
            let counts = if pool.node_addresses {
                self.count_nodes(&on_nodes)
            } else {
                self.count(pool)
            };
            let report = PoolReport {
                ready: self.ready(pool, &counts),
                exhausted: exhausted(&counts),
                counts,
            };
            (pool.name.clone(), report)
        });
        reports.collect()
    }

    fn ready(&self, pool: &Pool, counts: &BTreeMap<Family, PoolCount>) -> (bool, PoolReason, String) {
        if let Some(older) = self.overlapped.get(pool.name.as_str()) {
            let message = format!(
                "IPAddressPool {older}, which is older, has some of these addresses; remove them from one of the two"
            );
            return (false, PoolReason::Overlap, message);
        }
        if !pool.errors.is_empty() {
            let message = format!("{}; the other addresses are used", pool.errors.join("; "));
            return (false, PoolReason::InvalidAddresses, message);
        }
        if pool.drain {
            let message = "spec.drain: no other Service gets an address; those that have one keep it".to_owned();
            return (false, PoolReason::Draining, message);
        }
        if pool.node_addresses && counts.is_empty() {
            let message = "spec.nodeAddresses: no node runs a ready proxy on the host's network".to_owned();
            return (false, PoolReason::NoReadyProxy, message);
        }
        (true, PoolReason::Ready, "the pool is used".to_owned())
    }

    fn count(&self, pool: &Pool) -> BTreeMap<Family, PoolCount> {
        let families = [Family::Ipv4, Family::Ipv6].into_iter();
        let counts = families.map(|family| {
            let total = pool.count(family);
            let assigned = self.ledger.count(pool, family).min(total);
            let available = total - assigned;
            (
                family,
                PoolCount {
                    total,
                    assigned,
                    available,
                },
            )
        });
        counts.filter(|(_, count)| count.total > 0).collect()
    }

    /// Services share the nodes' addresses, so all of them are free.
    fn count_nodes(&self, assigned: &BTreeSet<IpAddr>) -> BTreeMap<Family, PoolCount> {
        let mut counts: BTreeMap<Family, PoolCount> = BTreeMap::new();
        let ready = self.input.nodes.iter().filter(|node| node.is_ready);
        let ready: BTreeSet<IpAddr> = ready.flat_map(|node| node.published.iter().copied()).collect();
        for address in ready {
            let count = counts.entry(Family::of(address)).or_default();
            count.total += 1;
            count.available += 1;
            count.assigned += u128::from(assigned.contains(&address));
        }
        counts
    }

    fn on_nodes(&self) -> BTreeSet<IpAddr> {
        let assigned = self.plan.services.values().filter_map(|decision| match decision {
            Decision::Assign(assignment) if assignment.path == Path::Proxy => Some(&assignment.addresses),
            _ => None,
        });
        assigned.flatten().copied().collect()
    }
}

fn exhausted(counts: &BTreeMap<Family, PoolCount>) -> (bool, PoolReason, String) {
    let empty: Vec<&str> = counts
        .iter()
        .filter(|(_, count)| count.available == 0)
        .map(|(family, _)| family.as_str())
        .collect();
    if empty.is_empty() {
        return (false, PoolReason::AddressesAvailable, "addresses are free".to_owned());
    }
    let message = format!(
        "every {} address is in use; add addresses to spec.addresses",
        empty.join(" and every ")
    );
    (true, PoolReason::Exhausted, message)
}
