//! What the workers read, and the control side that changes it: one pointer for the routes, one per list of endpoints.

mod l4;
mod passthrough;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use arc_swap::ArcSwap;
use propylon_kit::metrics::{Registry, RouteId, RouteLabels};
use propylon_model::{
    Action, Delta, EndpointsName, HostPattern, ObjectRef, PathMatch, Pool, PoolName, Report, Resources, RouteGroup,
    TrafficDistribution,
};
use propylon_routing::{Claim, Compiler, RouteTable};
use tokio::sync::watch;

use crate::{
    duties::{Duties, Ledger},
    endpoint_state::EndpointsHandle,
    l4::{LiveL4, Series},
    pool::PoolHandle,
    rule_stats::RuleStats,
    sockets::Sockets,
    tls::{CertTable, TlsContext},
};

pub use self::l4::L4Listener;
#[cfg(test)]
pub(crate) use self::l4::pool_of as l4_pool_of;
pub(crate) use self::l4::render as render_l4;
use self::{l4::L4Tables, passthrough::PassthroughTables};

/// What a route leads to, resolved when the table is built.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The pool; none where requests are refused.
    pub(crate) pool: Option<Arc<PoolHandle>>,
    /// The series of its metrics.
    pub(crate) metrics: RouteId,
    /// What the rule has served, and its labels.
    pub(crate) stats: Arc<RuleStats>,
}

/// What a worker pins for a request.
pub(crate) struct Tables {
    pub(crate) routes: RouteTable<Target>,
    pub(crate) generation: u64,
}

/// The shared pointers.
pub(crate) struct Live {
    pub(crate) tables: Arc<ArcSwap<Tables>>,
    pub(crate) certificates: Arc<ArcSwap<CertTable>>,
    /// Requests that no rule matched.
    pub(crate) unmatched: RuleStats,
    pub(crate) l4: Arc<LiveL4>,
}

/// The control side: holds the resources, applies deltas, swaps, and frees what is old.
pub(crate) struct Applier {
    live: Arc<Live>,
    registry: Arc<Registry>,
    resources: Resources,
    compiler: Compiler<Target>,
    pools: HashMap<PoolName, Arc<PoolHandle>>,
    endpoints: HashMap<EndpointsName, Arc<EndpointsHandle>>,
    rules: Rules,
    ledger: Ledger,
    context: Arc<TlsContext>,
    next_pool_id: u32,
    generation: u64,
    series_dirty: bool,
    graveyard: Vec<Arc<Tables>>,
    l4: L4Tables,
    passthrough: PassthroughTables,
}

/// What an applied delta touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Generation of the table that is live now.
    pub generation: u64,
    /// Whether the route table was swapped.
    pub routes: bool,
    /// How many lists of endpoints were swapped.
    pub endpoints: usize,
}

impl Applier {
    /// Serves nothing yet; `workers` threads will count what they serve.
    pub(crate) fn new(registry: Arc<Registry>, context: Arc<TlsContext>, workers: usize) -> Self {
        let certificates = CertTable::build(&Resources::default().certificates, &context, None);
        let tables = Tables {
            routes: RouteTable::default(),
            generation: 0,
        };
        let l4 = L4Tables::new(workers);
        let passthrough = PassthroughTables::new(l4.live(), workers);
        let live = Live {
            l4: l4.live(),
            tables: Arc::new(ArcSwap::from_pointee(tables)),
            certificates: Arc::new(ArcSwap::from_pointee(certificates)),
            unmatched: RuleStats::new(RouteLabels::new("", "__unmatched__", ""), workers),
        };
        Self {
            live: Arc::new(live),
            registry,
            resources: Resources::default(),
            compiler: Compiler::new(),
            pools: HashMap::new(),
            endpoints: HashMap::new(),
            rules: Rules {
                workers,
                stats: HashMap::new(),
            },
            ledger: Ledger::new(),
            context,
            next_pool_id: 0,
            generation: 0,
            series_dirty: false,
            graveyard: Vec::new(),
            l4,
            passthrough,
        }
    }

    /// The pointers that the workers read.
    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Applies a delta in the order make-before-break: certificates, endpoints, pools, routes, then removals.
    ///
    /// # Cost
    /// Proportional to what changed.
    pub(crate) fn apply(&mut self, delta: &Delta) -> Applied {
        self.resources.apply(delta);
        if !delta.certificates.is_empty() {
            self.swap_certificates();
        }
        let endpoints = self.apply_endpoints(delta);
        let replaced = self.apply_pools(delta);
        let routes = !delta.groups.is_empty() || !replaced.is_empty();
        if routes {
            self.swap_routes(delta, &replaced);
        }
        self.apply_l4(delta);
        self.remove_unused(delta);
        self.ledger.apply(delta, &self.resources, &self.endpoints);
        self.bury();
        Applied {
            generation: self.generation,
            routes,
            endpoints,
        }
    }

    /// Frees old tables that no worker reads any more; to be called now and then from the control thread.
    pub(crate) fn bury(&mut self) {
        self.graveyard.retain(|tables| Arc::strong_count(tables) > 1);
    }

    /// What the background thread follows.
    pub(crate) fn duties(&self) -> watch::Receiver<Arc<Duties>> {
        self.ledger.subscribe()
    }

    /// The endpoints that are in use, as the workers see them.
    pub(crate) fn endpoints(&self) -> &HashMap<EndpointsName, Arc<EndpointsHandle>> {
        &self.endpoints
    }

    /// Gives the sockets, and tells where the process itself listens.
    pub(crate) fn start_l4(&mut self, sockets: Arc<Sockets>, own: Vec<(&'static str, SocketAddr)>) {
        self.l4.start(sockets, own);
    }

    /// A number that grows whenever listeners or their problems change.
    pub(crate) fn l4_generation(&self) -> u64 {
        self.l4.generation()
    }

    /// What could not be done at layer 4, by Service.
    pub(crate) fn l4_problems(&self) -> &[Report] {
        self.l4.problems()
    }

    /// The listeners of Services.
    pub(crate) fn l4_listeners(&self) -> Vec<L4Listener> {
        self.l4.listeners()
    }

    /// The counts of layer 4.
    pub(crate) fn l4_series(&self) -> Vec<Arc<Series>> {
        let passthrough = self.passthrough.series().map(Arc::clone);
        self.l4.series().into_iter().chain(passthrough).collect()
    }

    /// Tries again what could not be bound; to be called now and then from the control thread.
    pub(crate) fn retry_l4(&mut self) {
        self.l4.retry(&self.resources);
    }

    /// The present resources.
    pub(crate) fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The live lists of endpoints, by name.
    pub(crate) fn endpoint_lists(&self) -> Vec<(EndpointsName, Arc<EndpointsHandle>)> {
        let lists = self.endpoints.iter();
        let mut lists: Vec<_> = lists.map(|(name, handle)| (name.clone(), Arc::clone(handle))).collect();
        lists.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        lists
    }

    fn swap_certificates(&self) {
        let before = self.live.certificates.load_full();
        let table = CertTable::build(&self.resources.certificates, &self.context, Some(&before));
        self.live.certificates.store(Arc::new(table));
    }

    /// Swaps the lists that changed; what is removed waits until no route leads there any more.
    fn apply_endpoints(&mut self, delta: &Delta) -> usize {
        for (name, endpoints) in &delta.endpoints {
            let Some(endpoints) = endpoints else { continue };
            match self.endpoints.get(name) {
                // Until the name is resolved, what was there before stays.
                Some(_) if endpoints.external.is_some() => {}
                Some(handle) => handle.replace(&endpoints.endpoints, endpoints.distribution),
                None => {
                    let handle = Arc::new(EndpointsHandle::new(endpoints));
                    self.endpoints.insert(name.clone(), handle);
                }
            }
        }
        delta.endpoints.len()
    }

    /// Makes handles of new and changed pools; a removed pool stays until the routes are swapped.
    fn apply_pools(&mut self, delta: &Delta) -> BTreeSet<PoolName> {
        let mut replaced = BTreeSet::new();
        for (name, pool) in &delta.pools {
            let Some(pool) = pool else { continue };
            let handle = self.new_pool(pool);
            if let Some(old) = self.pools.insert(name.clone(), handle) {
                old.retired.store(true, Ordering::Relaxed);
            }
            replaced.insert(name.clone());
        }
        replaced
    }

    fn new_pool(&mut self, pool: &Arc<Pool>) -> Arc<PoolHandle> {
        make_pool((&mut self.endpoints, &mut self.next_pool_id), pool)
    }

    fn apply_l4(&mut self, delta: &Delta) {
        let pools = (&mut self.endpoints, &mut self.next_pool_id);
        let mut make = |pool: &Arc<Pool>| make_pool((&mut *pools.0, &mut *pools.1), pool);
        self.l4.apply(delta, &self.resources, &mut make);
        self.passthrough.apply(delta, &self.resources, &mut make);
    }

    fn swap_routes(&mut self, delta: &Delta, replaced: &BTreeSet<PoolName>) {
        let (pools, registry, rules) = (&self.pools, &self.registry, &mut self.rules);
        let mut make = |group: &RouteGroup, claim: Claim<'_>| make_target(pools, registry, rules, (group, claim));
        let mut routes = self.compiler.apply(&delta.groups, &mut make);
        if !replaced.is_empty() {
            routes = self.compiler.refresh_pools(replaced, &mut make);
        }
        self.generation += 1;
        let tables = Arc::new(Tables {
            routes,
            generation: self.generation,
        });
        self.graveyard.push(self.live.tables.swap(tables));
    }

    fn remove_unused(&mut self, delta: &Delta) {
        for name in delta
            .pools
            .iter()
            .filter(|(_, pool)| pool.is_none())
            .map(|(name, _)| name)
        {
            if let Some(handle) = self.pools.remove(name) {
                handle.retired.store(true, Ordering::Relaxed);
            }
        }
        for name in delta
            .endpoints
            .iter()
            .filter(|(_, endpoints)| endpoints.is_none())
            .map(|(name, _)| name)
        {
            // Requests that pinned the table before go on with the list that they know; a pool that stays has none now.
            match self.endpoints.get(name) {
                Some(handle)
                    if self.l4.uses(name)
                        || self.passthrough.uses(name)
                        || self.pools.values().any(|pool| pool.spec.endpoints == *name) =>
                {
                    handle.replace(&[], TrafficDistribution::Any);
                }
                _ => {
                    if let Some(handle) = self.endpoints.remove(name) {
                        handle.retire();
                    }
                }
            }
        }
        self.series_dirty |= !delta.groups.is_empty();
    }

    /// Removes the metrics of routes that are gone; to be called now and then from the control thread.
    pub(crate) fn retire_series(&mut self) {
        if std::mem::take(&mut self.series_dirty) {
            let tables = self.live.tables.load();
            let targets = || tables.routes.routes().map(|route| &route.target);
            let live: HashSet<RouteId> = targets().map(|target| target.metrics).collect();
            self.registry.set_live(&live);
            let live: HashSet<*const RuleStats> = targets().map(|target| Arc::as_ptr(&target.stats)).collect();
            self.rules.stats.retain(|_, stats| live.contains(&Arc::as_ptr(stats)));
        }
    }
}

/// What the rules have served, by source, host and path; kept over changes of everything else.
struct Rules {
    workers: usize,
    stats: HashMap<(ObjectRef, HostPattern, Option<PathMatch>), Arc<RuleStats>>,
}

impl Rules {
    /// The cells of a rule; new ones where it now leads to another Service.
    fn stats(&mut self, group: &RouteGroup, path: Option<&PathMatch>, labels: RouteLabels) -> Arc<RuleStats> {
        let key = (group.source.clone(), group.host.clone(), path.cloned());
        match self.stats.get(&key) {
            Some(stats) if stats.labels == labels => Arc::clone(stats),
            _ => {
                let stats = Arc::new(RuleStats::new(labels, self.workers));
                self.stats.insert(key, Arc::clone(&stats));
                stats
            }
        }
    }
}

fn make_pool(
    (endpoints, next_id): (&mut HashMap<EndpointsName, Arc<EndpointsHandle>>, &mut u32),
    pool: &Arc<Pool>,
) -> Arc<PoolHandle> {
    let endpoints = endpoints.entry(pool.endpoints.clone()).or_default();
    *next_id += 1;
    Arc::new(PoolHandle::new(*next_id, Arc::clone(pool), Arc::clone(endpoints)))
}

fn make_target(
    pools: &HashMap<PoolName, Arc<PoolHandle>>,
    registry: &Registry,
    rules: &mut Rules,
    (group, claim): (&RouteGroup, Claim<'_>),
) -> Target {
    let pool = match claim.action {
        Action::Forward(name) => pools.get(name).map(Arc::clone),
        Action::Refuse(_) => None,
    };
    let service = pool
        .as_ref()
        .map_or_else(|| Arc::from(""), |pool| Arc::clone(&pool.spec.service.name));
    let labels = RouteLabels {
        namespace: Arc::clone(&group.source.namespace),
        ingress: Arc::clone(&group.source.name),
        service,
    };
    Target {
        pool,
        metrics: registry.route(&labels),
        stats: rules.stats(group, claim.path, labels),
    }
}

#[cfg(test)]
mod tests;
