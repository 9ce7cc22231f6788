//! A thousand endpoints, some of which fail for a while, and a proxy of several workers before them: the real decisions of
//! `propylon_proxy::balance` under a virtual clock. The same seed gives the same run on every machine.

use std::{
    cell::Cell,
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    net::{Ipv4Addr, SocketAddr},
};

use propylon_model::Algorithm;
use propylon_proxy::balance::{
    ewma::PeakEwma,
    maglev::Maglev,
    outlier::{self, Failure, Sample},
    power_of_two, round_robin,
    two_choices::{Pair, of_two},
};

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) algorithm: Algorithm,
    /// Whether endpoints that fail are left out.
    pub(crate) ejection: bool,
    pub(crate) endpoints: usize,
    pub(crate) workers: usize,
    /// Requests a second, at times of a Poisson process.
    pub(crate) rate_per_s: f64,
    /// Mean time that an endpoint works on a request (exponential); it works on one after the other.
    pub(crate) service_us: f64,
    /// When the failures begin and end, and the run ends, seconds.
    pub(crate) times_s: (u64, u64, u64),
    /// How many endpoints refuse connections, answer 500 at once, do not answer connections at all, get 20 times slower.
    pub(crate) faults: [usize; 4],
}

impl Plan {
    pub(crate) const fn new(seed: u64, algorithm: Algorithm) -> Self {
        Self {
            seed,
            algorithm,
            ejection: true,
            endpoints: 1_000,
            workers: 4,
            rate_per_s: 5_000.0,
            service_us: 100_000.0,
            times_s: (10, 25, 90),
            faults: [60, 40, 20, 30],
        }
    }

    pub(crate) const fn without_ejection(self) -> Self {
        Self {
            ejection: false,
            ..self
        }
    }
}

/// What came out of a part of the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Phase {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Before the failures, in their first 5 s, in the rest of them, and after.
    pub(crate) phases: [Phase; 4],
    pub(crate) ejections: u64,
    /// Ejections of endpoints that had no fault.
    pub(crate) wrong_ejections: u64,
    /// The most that were left out at once.
    pub(crate) most_ejected: usize,
    /// Left out when the run ended.
    pub(crate) ejected_at_end: usize,
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, phase) in ["before", "onset", "failing", "after"].iter().zip(&self.phases) {
            writeln!(
                formatter,
                "  {name:8} {:7} requests  p50 {:5} ms  p99 {:6} ms  errors {:5}",
                phase.requests,
                phase.p50_us / 1_000,
                phase.p99_us / 1_000,
                phase.errors
            )?;
        }
        write!(
            formatter,
            "  ejections {} (of healthy endpoints {}), at once at most {}, at the end {}",
            self.ejections, self.wrong_ejections, self.most_ejected, self.ejected_at_end
        )
    }
}

/// Runs a plan.
pub(crate) fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(*plan);
    world.schedule(0, Event::Arrival);
    world.schedule(outlier::INTERVAL_MS * 1_000, Event::Look);
    while let Some(Reverse((now_us, _, event))) = world.queue.pop() {
        if now_us >= plan.times_s.2 * SECOND {
            break;
        }
        world.now_us = now_us;
        world.step(event);
    }
    world.outcome()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The next request arrives.
    Arrival,
    /// An attempt of a request ends.
    End(Attempt),
    /// An ejection ends.
    Return,
    /// The latencies are compared.
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attempt {
    began_us: u64,
    sent_us: u64,
    worker: usize,
    endpoint: usize,
    tries: u8,
    result: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Answer,
    Status500,
    NoConnection,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    Refuses,
    Fails,
    Silent,
    Slow,
}

/// An endpoint, and what all workers know of it.
#[derive(Clone, Debug, Default)]
struct Endpoint {
    fault: Fault,
    busy_until_us: u64,
    failures_in_a_row: u32,
    ejected_until_us: u64,
    times: u32,
    answers: u64,
    latency_us: u64,
}

/// What one worker knows of an endpoint.
#[derive(Clone, Debug, Default)]
struct Local {
    active: Cell<u32>,
    latency: Cell<PeakEwma>,
}

struct World {
    plan: Plan,
    random: fastrand::Rng,
    now_us: u64,
    serial: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    endpoints: Vec<Endpoint>,
    locals: Vec<Vec<Local>>,
    cursors: Vec<usize>,
    /// Those that may be picked.
    candidates: Vec<usize>,
    table: Maglev,
    latencies_us: [Vec<u64>; 4],
    outcome: Outcome,
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let mut endpoints = vec![Endpoint::default(); plan.endpoints];
        let faults = [Fault::Refuses, Fault::Fails, Fault::Silent, Fault::Slow];
        let wanted = faults
            .iter()
            .zip(plan.faults)
            .flat_map(|(fault, count)| std::iter::repeat_n(*fault, count));
        for (endpoint, fault) in endpoints.iter_mut().zip(wanted) {
            endpoint.fault = fault;
        }
        random.shuffle(&mut endpoints);
        let addresses: Vec<(SocketAddr, u16)> = (0..plan.endpoints)
            .map(|index| {
                let ip = Ipv4Addr::from(0x0a00_0000 + u32::try_from(index).unwrap_or(0));
                ((ip, 80).into(), 1)
            })
            .collect();
        Self {
            random,
            now_us: 0,
            serial: 0,
            queue: BinaryHeap::new(),
            locals: vec![vec![Local::default(); plan.endpoints]; plan.workers],
            cursors: (0..plan.workers)
                .map(|worker| worker * plan.endpoints / plan.workers)
                .collect(),
            candidates: (0..plan.endpoints).collect(),
            table: Maglev::new(if plan.algorithm == Algorithm::Maglev {
                &addresses
            } else {
                &[]
            }),
            latencies_us: [const { Vec::new() }; 4],
            outcome: Outcome::default(),
            endpoints,
            plan,
        }
    }

    fn schedule(&mut self, at_us: u64, event: Event) {
        self.serial += 1;
        self.queue.push(Reverse((at_us, self.serial, event)));
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Arrival => {
                let gap_us = self.exponential(1e6 / self.plan.rate_per_s);
                self.schedule(self.now_us + gap_us, Event::Arrival);
                let worker = self.random.usize(..self.plan.workers);
                self.attempt(self.now_us, worker, 0);
            }
            Event::End(attempt) => self.end(attempt),
            Event::Return => self.refresh(),
            Event::Look => {
                self.schedule(self.now_us + outlier::INTERVAL_MS * 1_000, Event::Look);
                self.compare_latencies();
            }
        }
    }

    fn attempt(&mut self, began_us: u64, worker: usize, tries: u8) {
        let Some(index) = self.pick(worker) else { return };
        let (first_s, last_s, _) = self.plan.times_s;
        let failing = (first_s * SECOND..last_s * SECOND).contains(&self.now_us);
        let fault = if failing {
            self.endpoints[index].fault
        } else {
            Fault::None
        };
        let work_us = self.exponential(self.plan.service_us);
        let endpoint = &mut self.endpoints[index];
        let mut queued = |work_us: u64| {
            endpoint.busy_until_us = endpoint.busy_until_us.max(self.now_us) + work_us;
            endpoint.busy_until_us
        };
        let (end_us, result) = match fault {
            Fault::None => (queued(work_us), End::Answer),
            Fault::Slow => (queued(work_us * 20), End::Answer),
            Fault::Refuses => (self.now_us + 200, End::NoConnection),
            Fault::Silent => (self.now_us + SECOND, End::NoConnection),
            Fault::Fails => (self.now_us + 1_000, End::Status500),
        };
        let local = &self.locals[worker][index];
        local.active.set(local.active.get() + 1);
        self.schedule(
            end_us,
            Event::End(Attempt {
                began_us,
                sent_us: self.now_us,
                worker,
                endpoint: index,
                tries,
                result,
            }),
        );
    }

    fn pick(&mut self, worker: usize) -> Option<usize> {
        let (locals, candidates) = (&self.locals[worker], &self.candidates);
        let count = candidates.len();
        let random = self.random.u64(..);
        let place = match self.plan.algorithm {
            Algorithm::LeastRequest => {
                power_of_two(count, random, |place| locals[candidates[place]].active.get(), |_| true)
            }
            Algorithm::Ewma => {
                let cost = |place: usize| {
                    let local = &locals[candidates[place]];
                    local.latency.get().cost(local.active.get(), 1.0, self.now_us)
                };
                of_two(
                    Pair::uniform(count, random),
                    count,
                    |_| true,
                    |pair| {
                        if cost(pair.second) < cost(pair.first) {
                            pair.second
                        } else {
                            pair.first
                        }
                    },
                )
            }
            Algorithm::RoundRobin => {
                let (place, next) = round_robin::in_turn(count, self.cursors[worker], |_| true)?;
                self.cursors[worker] = next;
                Some(place)
            }
            Algorithm::Maglev => {
                let usable = |index: usize| self.endpoints[index].ejected_until_us <= self.now_us;
                return self.table.find(random, self.endpoints.len(), usable);
            }
        };
        place.map(|place| candidates[place])
    }

    fn end(&mut self, attempt: Attempt) {
        let local = &self.locals[attempt.worker][attempt.endpoint];
        local.active.set(local.active.get() - 1);
        let took_us = self.now_us - attempt.sent_us;
        let mut latency = local.latency.get();
        let failure = match attempt.result {
            End::Answer => None,
            End::Status500 => Some(Failure::Response),
            End::NoConnection => Some(Failure::Connect),
        };
        match failure {
            None => latency.observe(took_us, self.now_us),
            Some(_) => latency.observe_failure(took_us, self.now_us),
        }
        local.latency.set(latency);
        let endpoint = &mut self.endpoints[attempt.endpoint];
        match failure {
            None => {
                endpoint.failures_in_a_row = 0;
                endpoint.answers += 1;
                endpoint.latency_us += took_us;
            }
            Some(failure) => {
                endpoint.failures_in_a_row += 1;
                if outlier::is_due(endpoint.failures_in_a_row, failure) {
                    self.eject(attempt.endpoint);
                }
            }
        }
        if failure == Some(Failure::Connect) && attempt.tries < 2 {
            self.attempt(attempt.began_us, attempt.worker, attempt.tries + 1);
        } else {
            self.note(attempt.began_us, failure.is_some());
        }
    }

    fn eject(&mut self, index: usize) {
        let ejected = self.ejected();
        let count = self.endpoints.len();
        let endpoint = &mut self.endpoints[index];
        if !self.plan.ejection || endpoint.ejected_until_us > self.now_us || !outlier::may_eject(ejected, count) {
            return;
        }
        let good_ms = (self.now_us - endpoint.ejected_until_us) / 1_000;
        let ejection = outlier::ejection(endpoint.times, good_ms);
        endpoint.times = ejection.times;
        endpoint.ejected_until_us = self.now_us + ejection.duration_ms * 1_000;
        let until_us = endpoint.ejected_until_us;
        self.outcome.ejections += 1;
        self.outcome.wrong_ejections += u64::from(endpoint.fault == Fault::None);
        self.outcome.most_ejected = self.outcome.most_ejected.max(ejected + 1);
        self.schedule(until_us, Event::Return);
        self.refresh();
    }

    fn ejected(&self) -> usize {
        let is_ejected = |endpoint: &&Endpoint| endpoint.ejected_until_us > self.now_us;
        self.endpoints.iter().filter(is_ejected).count()
    }

    fn refresh(&mut self) {
        let usable = |index: &usize| self.endpoints[*index].ejected_until_us <= self.now_us;
        self.candidates = (0..self.endpoints.len()).filter(usable).collect();
    }

    fn compare_latencies(&mut self) {
        let samples: Vec<Sample> = self
            .endpoints
            .iter_mut()
            .map(|endpoint| {
                let (count, sum_us) = (endpoint.answers, endpoint.latency_us);
                (endpoint.answers, endpoint.latency_us) = (0, 0);
                Sample {
                    count,
                    mean_us: sum_us.checked_div(count).unwrap_or(0),
                }
            })
            .collect();
        let Some(limit_us) = outlier::latency_limit_us(samples.iter().copied()) else {
            return;
        };
        for (index, sample) in samples.into_iter().enumerate() {
            if outlier::is_slow(sample, limit_us) {
                self.eject(index);
            }
        }
    }

    fn note(&mut self, began_us: u64, failed: bool) {
        let (first_s, last_s, _) = self.plan.times_s;
        let phase = match began_us / SECOND {
            second if second < first_s => 0,
            second if second < first_s + 5 => 1,
            second if second < last_s => 2,
            _ => 3,
        };
        self.latencies_us[phase].push(self.now_us - began_us);
        self.outcome.phases[phase].errors += u64::from(failed);
    }

    /// A time of the exponential distribution, microseconds.
    fn exponential(&mut self, mean_us: f64) -> u64 {
        let even = 1.0 - self.random.f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 40 times the mean"
        )]
        {
            (-even.ln() * mean_us) as u64 + 1
        }
    }

    fn outcome(mut self) -> Outcome {
        self.outcome.ejected_at_end = self.ejected();
        for (phase, latencies_us) in self.outcome.phases.iter_mut().zip(&mut self.latencies_us) {
            latencies_us.sort_unstable();
            phase.requests = latencies_us.len() as u64;
            let at = |percent: usize| {
                latencies_us
                    .get(latencies_us.len() * percent / 100)
                    .copied()
                    .unwrap_or(0)
            };
            (phase.p50_us, phase.p99_us) = (at(50), at(99));
        }
        self.outcome
    }
}

const SECOND: u64 = 1_000_000;
