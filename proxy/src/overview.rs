//! What the admin listener knows of the running process: the tables, what they served, what changed, and what is wrong.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::Duration,
};

use propylon_kit::{
    clock::{self, Monotonic},
    metrics::LatencyCounts,
};
use propylon_model::{Delta, Report};

use crate::{
    proxy::lock,
    recent::{Change, Recent},
    rule_stats::{RuleStats, RuleTotals},
    stats::{EndpointRates, EndpointRow, RouteRates, Stats, collect, endpoints},
    tables::{Applied, Applier, Live},
};

/// Shared by the control side and the views; no worker ever touches it.
pub(crate) struct Overview {
    pub(crate) live: Arc<Live>,
    applier: Arc<Mutex<Applier>>,
    began: Monotonic,
    started_unix_ms: u64,
    recent: Mutex<Recent>,
    problems: Mutex<Arc<[Report]>>,
    samples: Mutex<VecDeque<Arc<Sample>>>,
}

impl Overview {
    /// Of a process that begins now.
    pub(crate) fn new(applier: &Arc<Mutex<Applier>>) -> Self {
        Self {
            live: lock(applier).live(),
            applier: Arc::clone(applier),
            began: clock::now(),
            started_unix_ms: clock::unix_now_ms(),
            recent: Mutex::default(),
            problems: Mutex::new(Arc::from([])),
            samples: Mutex::default(),
        }
    }

    /// Applies a delta and remembers what it changed.
    pub(crate) fn apply(&self, delta: &Delta) -> Applied {
        let mut applier = lock(&self.applier);
        let change = Change::of(applier.resources(), delta);
        let applied = applier.apply(delta);
        drop(applier);
        if let Some(change) = change {
            held(&self.recent).push(Change {
                unix_ms: clock::unix_now_ms(),
                generation: applied.generation,
                ..change
            });
        }
        applied
    }

    /// The last changes, the newest first.
    pub(crate) fn recent(&self) -> Vec<Arc<Change>> {
        held(&self.recent).list()
    }

    /// Takes over what is wrong now.
    pub(crate) fn set_problems(&self, problems: Vec<Report>) {
        *held(&self.problems) = problems.into();
    }

    /// What is wrong.
    pub(crate) fn problems(&self) -> Arc<[Report]> {
        Arc::clone(&held(&self.problems))
    }

    /// Every endpoint of every list.
    pub(crate) fn endpoints(&self) -> Vec<EndpointRow> {
        let lists = lock(&self.applier).endpoint_lists();
        endpoints(&lists)
    }

    /// Calls `look` with the resources; a change waits for it.
    pub(crate) fn with_resources<T>(&self, look: impl FnOnce(&propylon_model::Resources) -> T) -> T {
        look(lock(&self.applier).resources())
    }

    /// Since when the process runs.
    pub(crate) fn uptime(&self) -> Duration {
        self.began.elapsed()
    }

    /// The document of `/stats`.
    pub(crate) fn document(&self) -> Stats {
        let endpoints = self.endpoints();
        let stats = collect(&self.live.tables.load_full(), &self.live.unmatched, &endpoints);
        Stats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: self.started_unix_ms,
            uptime_ms: crate::config::millis(self.uptime()),
            ..stats
        }
    }

    /// Remembers the counts of now, and forgets those of long ago; to be called each [`SAMPLE_PAUSE`].
    ///
    /// # Cost
    /// About a microsecond per rule that has served a request.
    pub(crate) fn sample(&self) {
        let sample = Arc::new(Sample::of(&self.live, &self.endpoints()));
        let mut samples = held(&self.samples);
        samples.push_back(sample);
        while samples.len() > SAMPLES {
            samples.pop_front();
        }
    }

    /// The oldest counts that are remembered, for rates since then.
    pub(crate) fn base(&self) -> Option<Arc<Sample>> {
        held(&self.samples).front().map(Arc::clone)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The counts of one moment; rules and endpoints that had served nothing are left out.
pub(crate) struct Sample {
    at: Monotonic,
    /// By the address of the cells, which are kept so that it stays theirs.
    rules: HashMap<usize, (Arc<RuleStats>, Counted)>,
    unmatched: Counted,
    endpoints: HashMap<usize, (u64, u64)>,
}

/// The counts of one rule.
#[derive(Debug, Default)]
struct Counted {
    requests: u64,
    errors: u64,
    latency: Box<[(u8, u64)]>,
}

impl Sample {
    fn of(live: &Live, endpoints: &[EndpointRow]) -> Self {
        let tables = live.tables.load_full();
        let rules = tables.routes.routes().filter_map(|route| {
            let stats = &route.target.stats;
            let counted = Counted::of(&stats.totals());
            (counted.requests != 0).then(|| (Arc::as_ptr(stats).addr(), (Arc::clone(stats), counted)))
        });
        let endpoints = endpoints.iter().filter_map(|row| {
            let counts = endpoint_counts(row);
            (counts.0 != 0).then(|| (Arc::as_ptr(&row.state).addr(), counts))
        });
        Self {
            at: clock::now(),
            rules: rules.collect(),
            unmatched: Counted::of(&live.unmatched.totals()),
            endpoints: endpoints.collect(),
        }
    }

    /// How long ago it was taken, seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.at.elapsed().as_secs_f64()
    }

    /// What a rule served since, and the latencies of that.
    pub(crate) fn rule_since(&self, stats: &Arc<RuleStats>, now: &RuleTotals) -> (RouteRates, LatencyCounts) {
        let nothing = Counted::default();
        let before = self.rules.get(&Arc::as_ptr(stats).addr());
        before
            .map_or(&nothing, |(_, counted)| counted)
            .until(now, self.seconds())
    }

    /// What no rule matched since.
    pub(crate) fn unmatched_since(&self, now: &RuleTotals) -> RouteRates {
        self.unmatched.until(now, self.seconds()).0
    }

    /// What an endpoint served since. An address that was given to another state since begins anew.
    pub(crate) fn endpoint_since(&self, row: &EndpointRow) -> EndpointRates {
        let (requests, failures) = endpoint_counts(row);
        let before = self.endpoints.get(&Arc::as_ptr(&row.state).addr());
        let (requests_before, failures_before) =
            before.filter(|before| before.0 <= requests).copied().unwrap_or((0, 0));
        EndpointRates::new(
            requests - requests_before,
            failures.saturating_sub(failures_before),
            self.seconds(),
        )
    }
}

impl Counted {
    fn of(totals: &RuleTotals) -> Self {
        let latency = totals.latency.0.iter().copied().zip(0_u8..);
        Self {
            requests: totals.requests(),
            errors: totals.errors,
            latency: latency
                .filter(|(count, _)| *count != 0)
                .map(|(count, bucket)| (bucket, count))
                .collect(),
        }
    }

    fn until(&self, now: &RuleTotals, seconds: f64) -> (RouteRates, LatencyCounts) {
        let mut before = LatencyCounts::default();
        for (bucket, count) in &self.latency {
            if let Some(cell) = before.0.get_mut(usize::from(*bucket)) {
                *cell = *count;
            }
        }
        let latency = now.latency.since(&before);
        let requests = now.requests().saturating_sub(self.requests);
        let errors = now.errors.saturating_sub(self.errors);
        (RouteRates::new(requests, errors, &latency, seconds), latency)
    }
}

fn endpoint_counts(row: &EndpointRow) -> (u64, u64) {
    let state = &row.state;
    (state.requests_total.load(Relaxed), state.failures_total.load(Relaxed))
}

/// How often [`Overview::sample`] is to be called.
pub(crate) const SAMPLE_PAUSE: Duration = Duration::from_secs(2);
/// Counts of so many moments are remembered: the rates of the page are of the last 8 to 10 s.
const SAMPLES: usize = 5;
