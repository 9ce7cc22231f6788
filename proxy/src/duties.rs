//! What the background thread has to do, as the configuration wants it: names to resolve, endpoints to check.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use propylon_model::{
    BackendProtocol, BackendTls, Delta, EndpointsName, ExternalName, HealthCheck, L4ServiceName, Pool, PoolName,
    Resources, TrafficDistribution,
};
use tokio::sync::watch;

use crate::endpoint_state::EndpointsHandle;

/// All duties of a moment; never changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Duties {
    /// Names to resolve.
    pub(crate) names: BTreeMap<EndpointsName, NameDuty>,
    /// Endpoints to check.
    pub(crate) checks: BTreeMap<EndpointsName, CheckDuty>,
}

/// A name to resolve.
#[derive(Clone, Debug)]
pub(crate) struct NameDuty {
    pub(crate) external: ExternalName,
    pub(crate) distribution: TrafficDistribution,
    pub(crate) handle: Arc<EndpointsHandle>,
    /// The right to write to the handle.
    pub(crate) claim: u64,
}

/// Endpoints to check, in as many ways as their users ask for.
#[derive(Clone, Debug)]
pub(crate) struct CheckDuty {
    pub(crate) handle: Arc<EndpointsHandle>,
    pub(crate) checks: Vec<CheckSpec>,
}

/// One way of checking.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CheckSpec {
    pub(crate) check: HealthCheck,
    pub(crate) protocol: BackendProtocol,
    pub(crate) tls: BackendTls,
    /// The external name behind which the endpoints are: asked for as the host.
    pub(crate) host: Option<Arc<str>>,
}

/// Who wants a check.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum User {
    L4(L4ServiceName),
    Pool(PoolName),
}

/// The side that knows the configuration.
#[derive(Debug)]
pub(crate) struct Ledger {
    sender: watch::Sender<Arc<Duties>>,
    users: BTreeMap<User, (EndpointsName, CheckSpec)>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self {
            sender: watch::Sender::new(Arc::default()),
            users: BTreeMap::new(),
        }
    }

    /// What the background thread follows.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Duties>> {
        self.sender.subscribe()
    }

    /// Takes over a change, after it was applied to `resources`; `endpoints` are the handles that are live.
    ///
    /// # Cost
    /// Proportional to the change; linear in all duties where it touches any.
    pub(crate) fn apply(
        &mut self,
        delta: &Delta,
        resources: &Resources,
        endpoints: &HashMap<EndpointsName, Arc<EndpointsHandle>>,
    ) {
        let before = Arc::clone(&self.sender.borrow());
        let names = changed_names(delta, &before, endpoints);
        let changed = self.apply_users(delta, resources) || self.has_moved(delta, &before, endpoints);
        let checks = changed.then(|| checks(&self.users, endpoints));
        if names.is_none() && checks.is_none() {
            return;
        }
        self.sender.send_replace(Arc::new(Duties {
            names: names.unwrap_or_else(|| before.names.clone()),
            checks: checks.unwrap_or_else(|| before.checks.clone()),
        }));
    }

    fn apply_users(&mut self, delta: &Delta, resources: &Resources) -> bool {
        let mut changed = false;
        for (name, pool) in &delta.pools {
            let wanted = pool.as_deref().and_then(|pool| of_pool(pool, resources));
            changed |= set(&mut self.users, User::Pool(name.clone()), wanted);
        }
        for (name, service) in &delta.l4 {
            let wanted = service.as_deref().and_then(|service| {
                let check = service.policy.health_check.clone()?;
                let spec = spec(check, &service.endpoints, resources);
                Some((service.endpoints.clone(), spec))
            });
            changed |= set(&mut self.users, User::L4(name.clone()), wanted);
        }
        // The host that is asked for, and the handle, may be others now.
        let touched = |(name, _): &(EndpointsName, CheckSpec)| delta.endpoints.contains_key(name);
        for (endpoints, spec) in self.users.values_mut().filter(|user| touched(user)) {
            let host = host(endpoints, resources);
            changed |= spec.host != host;
            spec.host = host;
        }
        changed
    }

    /// Whether endpoints that are checked have another handle than before.
    fn has_moved(
        &self,
        delta: &Delta,
        before: &Duties,
        endpoints: &HashMap<EndpointsName, Arc<EndpointsHandle>>,
    ) -> bool {
        let known = |name| before.checks.get(name).map(|duty| Arc::as_ptr(&duty.handle));
        let mut wanted = self.users.values().map(|(name, _)| name);
        wanted.any(|name| delta.endpoints.contains_key(name) && known(name) != endpoints.get(name).map(Arc::as_ptr))
    }
}

fn set(
    users: &mut BTreeMap<User, (EndpointsName, CheckSpec)>,
    user: User,
    wanted: Option<(EndpointsName, CheckSpec)>,
) -> bool {
    match wanted {
        Some(wanted) if users.get(&user) == Some(&wanted) => false,
        Some(wanted) => {
            users.insert(user, wanted);
            true
        }
        None => users.remove(&user).is_some(),
    }
}

fn of_pool(pool: &Pool, resources: &Resources) -> Option<(EndpointsName, CheckSpec)> {
    let check = pool.policy.health_check.clone()?;
    let spec = CheckSpec {
        protocol: pool.protocol,
        tls: pool.tls.clone(),
        ..spec(check, &pool.endpoints, resources)
    };
    Some((pool.endpoints.clone(), spec))
}

fn spec(check: HealthCheck, endpoints: &EndpointsName, resources: &Resources) -> CheckSpec {
    CheckSpec {
        check,
        protocol: BackendProtocol::Http1,
        tls: BackendTls::default(),
        host: host(endpoints, resources),
    }
}

fn host(endpoints: &EndpointsName, resources: &Resources) -> Option<Arc<str>> {
    let external = resources.endpoints.get(endpoints)?.external.as_ref()?;
    Some(Arc::clone(&external.host))
}

/// The names to resolve after a change; none where they are the same.
fn changed_names(
    delta: &Delta,
    before: &Duties,
    endpoints: &HashMap<EndpointsName, Arc<EndpointsHandle>>,
) -> Option<BTreeMap<EndpointsName, NameDuty>> {
    let mut names: Option<BTreeMap<_, _>> = None;
    for (name, change) in &delta.endpoints {
        let external = change.as_deref().and_then(|list| Some((list.external.as_ref()?, list)));
        let handle = endpoints.get(name);
        let known = before.names.get(name);
        let (Some((external, list)), Some(handle)) = (external, handle) else {
            if known.is_some() {
                names.get_or_insert_with(|| before.names.clone()).remove(name);
            }
            continue;
        };
        let is_same = |duty: &&NameDuty| {
            duty.external == *external && duty.distribution == list.distribution && Arc::ptr_eq(&duty.handle, handle)
        };
        if !known.as_ref().is_some_and(is_same) {
            let duty = NameDuty {
                external: external.clone(),
                distribution: list.distribution,
                handle: Arc::clone(handle),
                claim: handle.claim(),
            };
            names
                .get_or_insert_with(|| before.names.clone())
                .insert(name.clone(), duty);
        }
    }
    names
}

/// The checks of each list of endpoints, each once.
fn checks(
    users: &BTreeMap<User, (EndpointsName, CheckSpec)>,
    endpoints: &HashMap<EndpointsName, Arc<EndpointsHandle>>,
) -> BTreeMap<EndpointsName, CheckDuty> {
    let mut duties: BTreeMap<EndpointsName, CheckDuty> = BTreeMap::new();
    for (name, spec) in users.values() {
        let Some(handle) = endpoints.get(name) else { continue };
        let duty = duties.entry(name.clone()).or_insert_with(|| CheckDuty {
            handle: Arc::clone(handle),
            checks: Vec::new(),
        });
        if !duty.checks.contains(spec) {
            duty.checks.push(spec.clone());
        }
    }
    duties
}

#[cfg(test)]
mod tests;
