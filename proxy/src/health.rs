//! Active health checks: endpoints are asked how they are, and the answers become verdicts.
//!
//! What it is: a task for each endpoint and way of checking, which writes the verdict into the state that all workers
//! share. Checks begin at random points of the interval, and a bounded number runs at once.
//!
//! What it is not: it chooses no endpoint and closes no connection. What is unhealthy gets no new requests as long as
//! anything else is left; requests under way go on.
//!
//! Start from [`Checks`].

mod grpc;
mod probe;
mod tally;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use propylon_model::{EndpointsName, HealthCheck, ReportReason};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};

use self::{
    probe::{Failure, Prober},
    tally::{Tally, worst},
};
use crate::{
    background::Task,
    duties::CheckDuty,
    endpoint_state::{CheckVerdict, EndpointList, EndpointState},
    problems::{Problems, port},
};

/// The endpoints that are checked.
pub(crate) struct Checks {
    lists: BTreeMap<EndpointsName, List>,
    /// Checks at once.
    permits: Rc<Semaphore>,
    problems: Arc<Problems>,
}

/// The endpoints of one Service port.
struct List {
    duty: CheckDuty,
    probers: Vec<Rc<Prober>>,
    seen: Arc<EndpointList>,
    checked: HashMap<SocketAddr, Checked>,
    /// Set when a verdict changed.
    dirty: Rc<Cell<bool>>,
}

/// The checks of one endpoint.
struct Checked {
    state: Arc<EndpointState>,
    _tasks: Vec<Task>,
}

impl Checks {
    /// Checks nothing yet.
    pub(crate) fn new(problems: Arc<Problems>) -> Self {
        Self {
            lists: BTreeMap::new(),
            permits: Rc::new(Semaphore::new(AT_ONCE)),
            problems,
        }
    }

    /// Whether nothing is checked.
    pub(crate) fn is_empty(&self) -> bool {
        self.lists.is_empty()
    }

    /// Checks these endpoints and no others. Where the ways of checking change, the verdicts stay and counting starts
    /// again; endpoints that are no longer checked are as if they never were.
    pub(crate) fn follow(&mut self, duties: &BTreeMap<EndpointsName, CheckDuty>) {
        self.lists.retain(|name, list| {
            let duty = duties.get(name);
            let stays = duty.is_some_and(|duty| duty.checks == list.duty.checks && is_same(duty, &list.duty));
            // With another handle, the states are others too.
            if !stays && duty.is_none_or(|duty| !is_same(duty, &list.duty)) {
                list.forget();
            }
            if duty.is_none() {
                self.problems.set(name, ReportReason::EndpointsUnhealthy, None);
            }
            stays
        });
        for (name, duty) in duties {
            self.lists
                .entry(name.clone())
                .or_insert_with(|| List::new(duty.clone()));
        }
        self.look();
    }

    /// Begins to check endpoints that joined, ends to check those that left, and reports where none is healthy.
    pub(crate) fn look(&mut self) {
        for (name, list) in &mut self.lists {
            let current = list.duty.handle.current.load_full();
            if !Arc::ptr_eq(&current, &list.seen) {
                list.take(name, current, &self.permits);
            }
            if list.dirty.take() {
                self.problems
                    .set(name, ReportReason::EndpointsUnhealthy, list.problem(name));
            }
        }
    }
}

fn is_same(a: &CheckDuty, b: &CheckDuty) -> bool {
    Arc::ptr_eq(&a.handle, &b.handle)
}

impl List {
    fn new(duty: CheckDuty) -> Self {
        let probers = duty.checks.iter().map(|spec| Rc::new(Prober::new(spec.clone())));
        Self {
            probers: probers.collect(),
            duty,
            // Not the present one: the first look starts the checks.
            seen: Arc::default(),
            checked: HashMap::new(),
            dirty: Rc::default(),
        }
    }

    fn take(&mut self, name: &EndpointsName, current: Arc<EndpointList>, permits: &Rc<Semaphore>) {
        let mut before = std::mem::take(&mut self.checked);
        for live in &current.endpoints {
            let address = live.spec.address;
            let known = before
                .remove(&address)
                .filter(|checked| Arc::ptr_eq(&checked.state, &live.state));
            let checked = known.unwrap_or_else(|| self.begin(name, address, &live.state, permits));
            self.checked.insert(address, checked);
        }
        self.seen = current;
        self.dirty.set(true);
    }

    fn begin(
        &self,
        name: &EndpointsName,
        address: SocketAddr,
        state: &Arc<EndpointState>,
        permits: &Rc<Semaphore>,
    ) -> Checked {
        let tallies = self.probers.iter().map(|_| Tally::new(state.verdict())).collect();
        let subject = Rc::new(Subject {
            name: name.clone(),
            address,
            state: Arc::clone(state),
            tallies: RefCell::new(tallies),
            dirty: Rc::clone(&self.dirty),
        });
        let checks = self.duty.checks.iter().zip(&self.probers).enumerate();
        let tasks = checks.map(|(index, (spec, prober))| {
            let work = keep_checking(
                Rc::clone(&subject),
                index,
                spec.check.clone(),
                Rc::clone(prober),
                Rc::clone(permits),
            );
            Task::spawn(work)
        });
        Checked {
            state: Arc::clone(state),
            _tasks: tasks.collect(),
        }
    }

    fn forget(&self) {
        for checked in self.checked.values() {
            checked.state.set_verdict(CheckVerdict::Unknown);
        }
    }

    fn problem(&self, name: &EndpointsName) -> Option<String> {
        let count = self.checked.len();
        let is_unhealthy = |checked: &Checked| checked.state.verdict() == CheckVerdict::Unhealthy;
        (count > 0 && self.checked.values().all(is_unhealthy)).then(|| {
            format!(
                "port {}: every endpoint ({count}) fails its health checks, so they are used as if they did not; look at the \
                 backends, or at the health-check annotation",
                port(name)
            )
        })
    }
}

/// An endpoint and what its checks found.
struct Subject {
    name: EndpointsName,
    address: SocketAddr,
    state: Arc<EndpointState>,
    /// One for each way of checking.
    tallies: RefCell<Vec<Tally>>,
    dirty: Rc<Cell<bool>>,
}

impl Subject {
    fn count(&self, index: usize, result: &Result<(), Failure>, check: &HealthCheck) {
        let mut tallies = self.tallies.borrow_mut();
        let Some(tally) = tallies.get_mut(index) else { return };
        let before = tally.verdict();
        if tally.count(result.is_ok(), check).is_none() {
            return;
        }
        match result {
            // A thousand endpoints that start are no news.
            Ok(()) if before == CheckVerdict::Unknown => {
                tracing::debug!(service = %self.name, endpoint = %self.address, "endpoint is healthy");
            }
            Ok(()) => tracing::info!(service = %self.name, endpoint = %self.address, "endpoint is healthy again"),
            Err(error) => {
                tracing::warn!(service = %self.name, endpoint = %self.address, %error, "endpoint is unhealthy");
            }
        }
        self.state.set_verdict(worst(tallies.iter().map(Tally::verdict)));
        self.dirty.set(true);
    }
}

async fn keep_checking(
    subject: Rc<Subject>,
    index: usize,
    check: HealthCheck,
    prober: Rc<Prober>,
    permits: Rc<Semaphore>,
) {
    let mut random = fastrand::Rng::new();
    let mut due = Instant::now() + check.interval.mul_f64(random.f64());
    loop {
        sleep_until(due).await;
        let result = {
            let _permit = permits.acquire().await;
            prober.check(subject.address).await
        };
        subject.count(index, &result, &check);
        // The rhythm is kept, but for a twentieth; what is late is left out.
        due += check.interval.mul_f64(0.95 + 0.1 * random.f64());
        due = due.max(Instant::now() + LEAST_PAUSE);
    }
}

/// Checks that run at the same time.
const AT_ONCE: usize = 256;
/// The least pause between two checks of an endpoint.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
