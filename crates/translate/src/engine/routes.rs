//! The groups and pools of Ingresses, and what is to be said where several of them meet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::{GroupName, HostPattern, Pool, PoolName, RouteGroup};

use super::{Engine, Index, Part, Run};
use crate::{
    backends::{Backends, Uses, report_idle, service_object},
    conflicts,
    facts::Needs,
    groups, passthrough,
    reports::Reports,
    tls::defaults,
    world::Key,
};

/// What each Ingress gave.
#[derive(Debug, Default)]
pub(super) struct Routes {
    parts: BTreeMap<Key, Routed>,
    services: Index<Key, Key>,
    secrets: Index<Key, Key>,
    names: Index<Arc<str>, Key>,
    /// The Ingresses that need each pool.
    users: Index<PoolName, Key>,
    /// The pools of each Service.
    pools: Index<Key, PoolName>,
    /// The groups on each host.
    groups: Index<HostPattern, GroupName>,
}

/// The names of what one Ingress gave, and what it was made of.
#[derive(Debug, Default)]
struct Routed {
    groups: BTreeMap<GroupName, HostPattern>,
    pools: BTreeSet<PoolName>,
    needs: Needs,
}

/// What one Ingress gives.
#[derive(Default)]
struct Made {
    groups: BTreeMap<GroupName, Arc<RouteGroup>>,
    pools: BTreeMap<PoolName, Arc<Pool>>,
    uses: Uses,
    needs: Needs,
    reports: Reports,
}

impl Routes {
    /// The Ingresses that need a Service.
    pub(super) fn of_service(&self, service: &Key) -> impl Iterator<Item = &Key> {
        self.services.of(service)
    }

    /// The Ingresses whose backends are verified with a Secret.
    pub(super) fn of_secret(&self, secret: &Key) -> impl Iterator<Item = &Key> {
        self.secrets.of(secret)
    }

    /// The Ingresses that looked for a Service among the names of a namespace.
    pub(super) fn with_names(&self, namespace: &Arc<str>) -> impl Iterator<Item = &Key> {
        self.names.of(namespace)
    }

    /// The Secrets that verify backends.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Key> {
        self.secrets.things()
    }
}

impl Engine {
    pub(super) fn make_routes(&mut self, run: &mut Run<'_>) {
        for key in &std::mem::take(&mut run.work.routes) {
            let made = self.made(key, run);
            let part = Part::Routes(key.clone());
            self.book.set(&part, made.uses, &mut run.work.endpoints);
            self.ledger.set(&part, made.reports);
            let before = self.routes.parts.remove(key).unwrap_or_default();
            self.put_groups(&before, &made.groups, run);
            self.put_pools(key, &before, &made.pools, run);
            self.routes.follow_needs(key, &before.needs, &made.needs);
            let groups = made.groups.into_iter().map(|(name, group)| (name, group.host.clone()));
            let now = Routed {
                groups: groups.collect(),
                pools: made.pools.into_keys().collect(),
                needs: made.needs,
            };
            if self.read.heads.contains_key(key) {
                self.routes.parts.insert(key.clone(), now);
            }
        }
    }

    fn made(&self, key: &Key, run: &mut Run<'_>) -> Made {
        let Some(ingress) = self.read.served(key, run.world) else {
            return Made::default();
        };
        let mut reports = Reports::default();
        let mut backends = Backends::new(self.read.facts(run.world, run.options), run.memory);
        let groups = groups::of(&ingress, &mut backends, &self.certificates, &mut reports);
        backends.report_without_tls(&ingress, &mut reports);
        backends.report_idle(&ingress, &mut reports);
        passthrough::report_without_host(&ingress, &mut reports);
        defaults::report(&ingress, &self.certificates, &mut reports);
        Made {
            groups,
            pools: backends.pools,
            uses: backends.uses,
            needs: backends.needs,
            reports,
        }
    }

    fn put_groups(&mut self, before: &Routed, groups: &BTreeMap<GroupName, Arc<RouteGroup>>, run: &mut Run<'_>) {
        for (name, host) in &before.groups {
            if !groups.contains_key(name) {
                self.output.group(name, None);
                self.routes.groups.remove(host, name);
                run.work.conflicts.insert(host.clone());
            }
        }
        for (name, group) in groups {
            if self.output.group(name, Some(Arc::clone(group))) {
                self.routes.groups.insert(group.host.clone(), name.clone());
                run.work.conflicts.insert(group.host.clone());
            }
        }
    }

    fn put_pools(&mut self, key: &Key, before: &Routed, pools: &BTreeMap<PoolName, Arc<Pool>>, run: &mut Run<'_>) {
        self.routes.users.replace(key, &before.pools, pools.keys());
        for name in before.pools.iter().filter(|name| !self.routes.users.has(name)) {
            let service = self.output.resources().pools.get(name).map(|pool| key_of(pool));
            if let Some(service) = service {
                self.routes.pools.remove(&service, name);
                run.work.idle.insert(service);
            }
            self.output.pool(name, None);
        }
        for (name, pool) in pools {
            if self.output.pool(name, Some(Arc::clone(pool))) {
                let service = key_of(pool);
                self.routes.pools.insert(service.clone(), name.clone());
                run.work.idle.insert(service);
            }
        }
    }

    pub(super) fn report_conflicts(&mut self, run: &Run<'_>) {
        for host in &run.work.conflicts {
            let names = self.routes.groups.of(host);
            let groups = names.filter_map(|name| self.output.resources().groups.get(name));
            let groups: Vec<&RouteGroup> = groups.map(AsRef::as_ref).collect();
            let mut reports = Reports::default();
            conflicts::report(&groups, &mut reports);
            self.ledger.set(&Part::Conflicts(host.clone()), reports);
        }
    }

    pub(super) fn report_idle(&mut self, run: &Run<'_>) {
        for service in &run.work.idle {
            let names = self.routes.pools.of(service);
            let pools = names.filter_map(|name| self.output.resources().pools.get(name));
            let pools: Vec<&Pool> = pools.map(AsRef::as_ref).collect();
            let mut reports = Reports::default();
            if let Some(settings) = self.read.services.get(service) {
                report_idle(&service_object(service), settings, &pools, &mut reports);
            }
            self.ledger.set(&Part::Idle(service.clone()), reports);
        }
    }
}

impl Routes {
    fn follow_needs(&mut self, key: &Key, before: &Needs, now: &Needs) {
        self.services.replace(key, &before.services, &now.services);
        self.secrets.replace(key, &before.secrets, &now.secrets);
        self.names.replace(key, &before.names, &now.names);
    }
}

/// The Service of a pool.
fn key_of(pool: &Pool) -> Key {
    Key::new(Arc::clone(&pool.service.namespace), Arc::clone(&pool.service.name))
}
