//! Who has which address while a plan is made.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
};

use propylon_crds::Family;

use crate::addresses::{facts::ServiceFacts, pool::Pool};

/// Addresses that are taken.
#[derive(Default)]
pub(super) struct Ledger<'a> {
    taken: BTreeMap<IpAddr, Holders<'a>>,
    /// Where to look for the next free address, by pool and family: everything before it is taken or left out.
    cursors: BTreeMap<(&'a str, Family), Cursor>,
}

/// Who has an address.
#[derive(Default)]
struct Holders<'a> {
    /// Those that have it; none: nobody of ours.
    services: Vec<&'a ServiceFacts>,
}

#[derive(Clone, Copy, Default)]
struct Cursor {
    range: usize,
    offset: u128,
}

impl<'a> Ledger<'a> {
    /// Takes those of the addresses that are free, so that no other Service of ours can have them.
    pub(super) fn reserve(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            self.taken.entry(address).or_default();
        }
    }

    /// Takes an address for a Service; what stands against it, else.
    pub(super) fn take(&mut self, address: IpAddr, service: &'a ServiceFacts) -> Result<(), String> {
        match self.taken.entry(address) {
            Entry::Vacant(entry) => {
                entry.insert(Holders {
                    services: vec![service],
                });
                Ok(())
            }
            Entry::Occupied(mut entry) => entry.get_mut().join(service),
        }
    }

    /// What stands against a Service having an address.
    pub(super) fn obstacle(&self, address: IpAddr, service: &ServiceFacts) -> Option<String> {
        self.taken.get(&address).and_then(|holders| holders.obstacle(service))
    }

    /// An address of a pool that a Service can share with those of its key.
    pub(super) fn shareable(&self, pool: &Pool, family: Family, service: &ServiceFacts) -> Option<IpAddr> {
        service.sharing.as_ref()?;
        let ranges = pool.ranges.iter().filter(|range| range.family() == family);
        let mut taken = ranges.flat_map(|range| self.taken.range(range.first()..=range.last()));
        taken
            .find(|(_, holders)| !holders.services.is_empty() && holders.obstacle(service).is_none())
            .map(|(address, _)| *address)
    }

    /// The next free address of a pool; it is not taken yet.
    pub(super) fn next_free(&mut self, pool: &'a Pool, family: Family) -> Option<IpAddr> {
        let cursor = self.cursors.entry((pool.name.as_str(), family)).or_default();
        while let Some(range) = pool.ranges.get(cursor.range) {
            if range.family() == family {
                while let Some(address) = range.nth(cursor.offset) {
                    if !self.taken.contains_key(&address) && !pool.is_avoided(address) {
                        return Some(address);
                    }
                    cursor.offset += 1;
                }
            }
            *cursor = Cursor {
                range: cursor.range + 1,
                offset: 0,
            };
        }
        None
    }

    /// How many addresses of a pool are taken, and not left out anyway.
    pub(super) fn count(&self, pool: &Pool, family: Family) -> u128 {
        let ranges = pool.ranges.iter().filter(|range| range.family() == family);
        let taken = ranges.flat_map(|range| self.taken.range(range.first()..=range.last()));
        taken.filter(|(address, _)| !pool.is_avoided(**address)).count() as u128
    }
}

impl<'a> Holders<'a> {
    fn join(&mut self, service: &'a ServiceFacts) -> Result<(), String> {
        if let Some(obstacle) = self.obstacle(service) {
            return Err(obstacle);
        }
        if self.services.iter().all(|holder| holder.key != service.key) {
            self.services.push(service);
        }
        Ok(())
    }

    fn obstacle(&self, service: &ServiceFacts) -> Option<String> {
        let Some(first) = self.services.first() else {
            return Some("is a node's, or in use by a Service of another controller".to_owned());
        };
        if self.services.iter().any(|holder| holder.key == service.key) {
            return None;
        }
        let has = |why: &str| Some(format!("is the address of Service {}{why}", first.key));
        if service.sharing.is_none() || service.sharing != first.sharing {
            return has(", and the two have no allow-shared-ip key in common");
        }
        if service.is_local != first.is_local || (service.is_local && service.selector != first.selector) {
            return has(
                ", and they cannot share it: externalTrafficPolicy must be Cluster for both, or the selectors the same",
            );
        }
        let holder = self.services.iter().find_map(|holder| {
            let port = service.ports.iter().find(|port| holder.ports.contains(port))?;
            Some((port, &holder.key))
        });
        holder.map(|(port, holder)| format!("has port {port} in use by Service {holder}, which shares it"))
    }
}
