//! Route groups to route tables, only touched hosts rebuilt.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use propylon_model::{Action, GroupName, HostPattern, PoolName, RouteGroup};

use crate::{host_table::HostTable, route::Claim, table::RouteTable};

/// Keeps the route groups by host and makes a new [`RouteTable`] of each change.
///
/// The newest table is kept here too: a caller that wants old tables freed elsewhere has to drop its own clones last.
pub struct Compiler<T> {
    groups: HashMap<GroupName, Arc<RouteGroup>, foldhash::fast::RandomState>,
    hosts: HashMap<HostPattern, Vec<GroupName>, foldhash::fast::RandomState>,
    /// Hosts still to be rebuilt; left over only where `make` panicked, and then built by the next call.
    touched: BTreeSet<HostPattern>,
    table: RouteTable<T>,
}

impl<T> Compiler<T> {
    /// Without any group; the table finds no host.
    pub fn new() -> Self {
        Self {
            groups: HashMap::default(),
            hosts: HashMap::default(),
            touched: BTreeSet::new(),
            table: RouteTable::default(),
        }
    }

    /// Takes changed groups (`None` removes) and rebuilds their hosts; `make` gives the target of each of their routes.
    ///
    /// A group without rules and default backend still claims its host: requests for it are not found, rather than
    /// taken by a wildcard or by the rules without a host.
    ///
    /// # Cost
    /// Linear in the rules of the touched hosts, plus a few microseconds for each, whatever the size of the table.
    pub fn apply(
        &mut self,
        groups: &BTreeMap<GroupName, Option<Arc<RouteGroup>>>,
        make: &mut dyn FnMut(&RouteGroup, Claim<'_>) -> T,
    ) -> RouteTable<T> {
        for (name, group) in groups {
            if let Some(old) = self.groups.remove(name) {
                self.unlink(name, &old.host);
                self.touched.insert(old.host.clone());
            }
            if let Some(group) = group {
                self.hosts.entry(group.host.clone()).or_default().push(name.clone());
                self.groups.insert(name.clone(), Arc::clone(group));
                self.touched.insert(group.host.clone());
            }
        }
        self.rebuild(make)
    }

    /// Rebuilds the hosts whose groups name one of the pools, so that `make` can give their routes new targets.
    ///
    /// # Cost
    /// Looks at all rules.
    pub fn refresh_pools(
        &mut self,
        pools: &BTreeSet<PoolName>,
        make: &mut dyn FnMut(&RouteGroup, Claim<'_>) -> T,
    ) -> RouteTable<T> {
        let names = |action: &Action| matches!(action, Action::Forward(pool) if pools.contains(pool));
        let affected = self.groups.values().filter(|group| {
            group.rules.iter().any(|rule| names(&rule.action))
                || group.default_backend.as_ref().is_some_and(|(action, _)| names(action))
        });
        self.touched.extend(affected.map(|group| group.host.clone()));
        self.rebuild(make)
    }

    /// The table of the last change.
    pub fn table(&self) -> &RouteTable<T> {
        &self.table
    }

    fn unlink(&mut self, name: &GroupName, host: &HostPattern) {
        if let Some(names) = self.hosts.get_mut(host) {
            names.retain(|other| other != name);
            if names.is_empty() {
                self.hosts.remove(host);
            }
        }
    }

    fn rebuild(&mut self, make: &mut dyn FnMut(&RouteGroup, Claim<'_>) -> T) -> RouteTable<T> {
        // Taken out before it is built: a host that makes `make` panic keeps its last table and holds up no other.
        while let Some(host) = self.touched.pop_first() {
            let table = self.hosts.get(&host).map(|names| {
                let groups = names.iter().filter_map(|name| self.groups.get(name).map(Arc::as_ref));
                Arc::new(HostTable::new(&host, groups, make))
            });
            self.table.set(&host, table);
        }
        self.table.clone()
    }
}

impl<T> Default for Compiler<T> {
    fn default() -> Self {
        Self::new()
    }
}
