//! What the probes answer.

use std::{
    borrow::Cow,
    fmt::{self, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use crate::clock::Monotonic;

/// The thread ended as it should.
const ENDED: u64 = u64::MAX;
/// The thread ended by a panic.
const DIED: u64 = u64::MAX - 1;

/// The state of the process as its probes tell it; shared by `Arc`.
///
/// * started: [`Probe::set_started`] was called;
/// * ready: the first tables are applied, the listeners are bound, and the process does not drain;
/// * alive: every data-plane thread gave a sign of life lately. Draining is alive.
#[derive(Debug)]
pub struct Probe {
    origin: Monotonic,
    stale_after: Duration,
    is_started: AtomicBool,
    has_tables: AtomicBool,
    has_listeners: AtomicBool,
    is_draining: AtomicBool,
    threads: Mutex<Vec<Thread>>,
    conditions: Mutex<Vec<Conditions>>,
}

/// Further conditions of readiness: names, each with what is wrong where it does not hold.
struct Conditions(Box<dyn Fn() -> Vec<(String, Option<String>)> + Send + Sync>);

impl fmt::Debug for Conditions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Conditions")
    }
}

#[derive(Debug)]
struct Thread {
    name: String,
    last_ms: Arc<AtomicU64>,
}

/// One line of a probe's answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Check {
    name: String,
    /// None where it holds.
    fault: Option<Cow<'static, str>>,
}

impl Probe {
    /// Makes the probe of a process that has just begun. A data-plane thread without a sign of life for `stale_after`
    /// makes the process not alive (30 s is a good value; the sweep beats each 250 ms or less).
    pub fn new(stale_after: Duration) -> Self {
        Self {
            origin: Monotonic::now(),
            stale_after,
            is_started: AtomicBool::new(false),
            has_tables: AtomicBool::new(false),
            has_listeners: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            threads: Mutex::default(),
            conditions: Mutex::default(),
        }
    }

    /// Adds conditions of readiness: `conditions` is asked for each answer, and gives names, each with what is wrong where
    /// it does not hold. `?verbose` lists all of them.
    pub fn add_conditions(&self, conditions: impl Fn() -> Vec<(String, Option<String>)> + Send + Sync + 'static) {
        let mut all = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(Conditions(Box::new(conditions)));
    }

    /// The process has started up.
    pub fn set_started(&self) {
        self.is_started.store(true, Release);
    }

    /// The first tables are in force.
    pub fn set_tables_applied(&self) {
        self.has_tables.store(true, Release);
    }

    /// Every listener accepts.
    pub fn set_listeners_bound(&self) {
        self.has_listeners.store(true, Release);
    }

    /// The process is about to end: readiness fails from now on.
    pub fn set_draining(&self) {
        self.is_draining.store(true, Release);
    }

    /// Whether `/readyz` answers 200.
    pub fn is_ready(&self) -> bool {
        self.readiness().iter().all(|check| check.fault.is_none())
    }

    /// The pulse of a data-plane thread, to be beaten in its sweep. Dropped while the thread panics, it makes the
    /// process not alive; dropped otherwise, the thread has ended and is forgotten.
    pub fn thread(&self, name: impl Into<String>) -> Heartbeat {
        let last_ms = Arc::new(AtomicU64::new(self.now_ms()));
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| thread.last_ms.load(Relaxed) != ENDED);
        threads.push(Thread {
            name: name.into(),
            last_ms: Arc::clone(&last_ms),
        });
        Heartbeat {
            origin: self.origin,
            last_ms,
        }
    }

    pub(super) fn startup(&self) -> Vec<Check> {
        vec![check("started", &self.is_started, "the process is starting up")]
    }

    pub(super) fn readiness(&self) -> Vec<Check> {
        let is_draining = self.is_draining.load(Acquire);
        let mut checks = vec![
            check("tables", &self.has_tables, "no configuration has been applied yet"),
            check("listeners", &self.has_listeners, "the listeners are not bound yet"),
            Check {
                name: "shutdown".to_owned(),
                fault: is_draining.then_some("the process is shutting down".into()),
            },
        ];
        let conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
        let further = conditions.iter().flat_map(|conditions| conditions.0());
        checks.extend(further.map(|(name, fault)| Check {
            name,
            fault: fault.map(Cow::Owned),
        }));
        checks
    }

    pub(super) fn liveness(&self) -> Vec<Check> {
        let stale_ms = u64::try_from(self.stale_after.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.now_ms();
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let checks = threads.iter().map(|thread| {
            let fault = match thread.last_ms.load(Relaxed) {
                ENDED => None,
                DIED => Some("the thread panicked".into()),
                last_ms if now_ms.saturating_sub(last_ms) > stale_ms => Some("the thread gives no sign of life".into()),
                _ => None,
            };
            Check {
                name: thread.name.clone(),
                fault,
            }
        });
        checks.collect()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A thread's sign of life.
#[derive(Debug)]
pub struct Heartbeat {
    origin: Monotonic,
    last_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Says that the thread lives.
    pub fn beat(&self) {
        let now_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now_ms, Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let end = if std::thread::panicking() { DIED } else { ENDED };
        self.last_ms.store(end, Relaxed);
    }
}

/// Whether all checks hold, and the text that says so: `ok`, or one line per fault; per check where `is_verbose`.
pub(super) fn verdict(checks: &[Check], is_verbose: bool) -> (bool, String) {
    let holds = checks.iter().all(|check| check.fault.is_none());
    let mut text = String::new();
    for check in checks {
        match &check.fault {
            Some(fault) => push_line(&mut text, format_args!("[-] {}: {fault}", check.name)),
            None if is_verbose => push_line(&mut text, format_args!("[+] {}", check.name)),
            None => {}
        }
    }
    push_line(&mut text, format_args!("{}", if holds { "ok" } else { "failed" }));
    (holds, text)
}

fn push_line(text: &mut String, line: fmt::Arguments<'_>) {
    if writeln!(text, "{line}").is_err() {
        debug_assert!(false, "writing to a String cannot fail");
    }
}

fn check(name: &str, holds: &AtomicBool, fault: &'static str) -> Check {
    Check {
        name: name.to_owned(),
        fault: (!holds.load(Acquire)).then_some(Cow::Borrowed(fault)),
    }
}
