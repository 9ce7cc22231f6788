//! The compile loop: what the watches bring in, what the proxies are to do out. It runs on a thread of its own.
//!
//! Nothing is published before every kind that is needed was listed ([`Health::missing`]). From then on the first change is
//! compiled at once and those behind it are gathered (`pace`); endpoints go before.

mod pace;
mod references;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use propylon_kit::{
    clock::{self, Monotonic},
    metrics::{ApplyResult, Registry},
    tasks::StopSignal,
};
use propylon_model::{Kind, ObjectRef, Report, ReportReason};
use propylon_translate::{Compiler, Options, ReportsByObject, manifest::Object};
use propylon_wire::{Generation, Publisher};
use tokio::sync::{mpsc, watch};

use crate::{
    config::Settings,
    watch::{
        Wanted,
        health::Health,
        inputs::{Input, What},
    },
};
use pace::{Lane, Pace};
use references::References;

/// Inputs that are taken before the loop looks at the clock again.
const BATCH: usize = 256;
/// Without any change the world is compiled this often, for certificates that end.
const HOURLY: Duration = Duration::from_hours(1);
/// Publications whose way to the proxies is timed at a time; further ones are not timed.
const TIMED: usize = 1024;

/// The last compile.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The generation that has it; 0 before the first.
    pub generation: Generation,
    /// The number of the last change of an object that it has ([`crate::watch::Stores::sequence`]).
    pub sequence: u64,
    /// What there is to say about each object; what does not decode is among it.
    pub reports: Arc<ReportsByObject>,
}

/// Publications that are on their way: which generation, and when its first change came.
#[derive(Clone, Debug, Default)]
pub struct Timed(Arc<Mutex<VecDeque<(Generation, Monotonic)>>>);

impl Timed {
    fn push(&self, generation: Generation, at: Monotonic) {
        let mut timed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if timed.len() < TIMED {
            timed.push_back((generation, at));
        }
    }

    /// Takes out those up to a generation: when the first change of each came.
    pub fn take(&self, until: Generation) -> Vec<Monotonic> {
        let mut timed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = timed.iter().take_while(|(generation, _)| *generation <= until).count();
        timed.drain(..count).map(|(_, at)| at).collect()
    }
}

/// What the loop works with.
pub struct Parts {
    /// What the watches bring.
    pub inputs: mpsc::Receiver<Input>,
    /// How they fare.
    pub health: Health,
    /// The operator's settings.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// Where the result goes.
    pub publisher: Publisher,
    /// Where the last compile is told.
    pub compiled: watch::Sender<Arc<Compiled>>,
    /// Where it is told which Secrets and config maps are to be watched one by one.
    pub wanted: watch::Sender<Wanted>,
    /// Publications on their way.
    pub timed: Timed,
    /// What is counted.
    pub registry: Arc<Registry>,
    /// Called once the first compile is published.
    pub on_first: Box<dyn FnOnce() + Send>,
}

/// Starts the thread; it ends with the stop signal.
///
/// # Errors
/// When the system gives no thread or no runtime. Not retryable.
pub fn spawn(parts: Parts, stop: StopSignal) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    thread::Builder::new()
        .name("compile".to_owned())
        .spawn(move || runtime.block_on(Loop::new(parts).run(stop)))
}

/// How far the start is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The kinds that are needed are being listed.
    Listing,
    /// What they name is being read.
    Naming,
    /// All is known that the first compile needs, once [`Health::missing`] says so.
    Named,
    /// The first compile is published.
    Published,
}

struct Loop {
    parts: Parts,
    compiler: Compiler,
    pace: Pace,
    references: References,
    /// What to say about objects that do not decode.
    malformed: ReportsByObject,
    /// All that there is to say.
    reports: Arc<ReportsByObject>,
    /// When the first change came that is not compiled.
    first: Option<Monotonic>,
    sequence: u64,
    stage: Stage,
    /// Whether what is named may have changed.
    is_renamed: bool,
    /// Whether the reports of malformed objects changed.
    is_reported: bool,
}

impl Loop {
    fn new(mut parts: Parts) -> Self {
        let options = parts.settings.borrow_and_update().options();
        Self {
            compiler: Compiler::new(options),
            parts,
            pace: Pace::default(),
            references: References::default(),
            malformed: ReportsByObject::new(),
            reports: Arc::default(),
            first: None,
            sequence: 0,
            stage: Stage::Listing,
            is_renamed: true,
            is_reported: false,
        }
    }

    async fn run(mut self, mut stop: StopSignal) {
        let mut health = self.parts.health.changes();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = self.due();
            let sleep = tokio::time::sleep_until(due.to_tokio());
            tokio::select! {
                biased;
                () = stop.stopped() => return,
                () = sleep => self.compile(),
                count = self.parts.inputs.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|input| self.take(input));
                }
                changed = self.parts.settings.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let options = self.parts.settings.borrow_and_update().options();
                    self.configure(options);
                }
                // A kind that is forbidden or unknown is not waited for any longer.
                _ = health.changed() => {}
            }
            self.want();
        }
    }

    /// When to compile next.
    fn due(&self) -> Monotonic {
        let far = clock::now() + HOURLY;
        match self.stage {
            Stage::Listing | Stage::Naming => far,
            // The first compile waits for all that is needed, and for nothing else.
            Stage::Named if self.parts.health.missing().is_some() => far,
            Stage::Named => clock::now(),
            Stage::Published => self.pace.due().map_or(far, |due| due.min(far)),
        }
    }

    fn configure(&mut self, options: Options) {
        if options == *self.compiler.options() {
            return;
        }
        self.compiler.set_options(options);
        self.is_renamed = true;
        self.changed(Lane::Other, clock::now());
    }

    fn changed(&mut self, lane: Lane, at: Monotonic) {
        self.first.get_or_insert(at);
        self.pace.change(lane, clock::now());
    }

    fn take(&mut self, input: Input) {
        let Input { what, at, sequence } = input;
        self.sequence = sequence;
        match what {
            What::Set(object) => self.set(object, at),
            What::Dropped(Kind::Secret, key) if self.references.is_certificate(&key) => {}
            What::Remove(kind, key) | What::Dropped(kind, key) => self.remove(kind, &key, at),
            What::Malformed(object, message) => {
                self.say(&object, Some(message));
                self.changed(Lane::Other, at);
            }
            What::Kept(wanted) => {
                if self.stage == Stage::Naming && *self.parts.wanted.borrow() == wanted {
                    self.stage = Stage::Named;
                }
            }
            What::Listed(scope) => self.parts.health.update(&scope, |report| report.is_listed = true),
        }
    }

    fn set(&mut self, object: Object, at: Monotonic) {
        let Some(reference) = object.key() else { return };
        self.say(&reference, None);
        self.references.set(&object);
        self.is_renamed |= is_naming(reference.kind);
        self.changed(lane(reference.kind), at);
        self.compiler.insert(object);
    }

    fn remove(&mut self, kind: Kind, key: &propylon_translate::Key, at: Monotonic) {
        self.say(&ObjectRef::new(kind, key.namespace.clone(), key.name.clone()), None);
        self.references.remove(kind, key);
        self.is_renamed |= is_naming(kind);
        if self.compiler.remove(kind, key) {
            self.changed(lane(kind), at);
        }
    }

    /// Notes what is wrong with an object that does not decode, or that it does.
    fn say(&mut self, object: &ObjectRef, message: Option<String>) {
        let Some(message) = message else {
            self.is_reported |= self.malformed.remove(object).is_some();
            return;
        };
        let message = format!("it does not decode: {message}; what it last gave stays in force");
        let report = Report::new(object.clone(), ReportReason::InvalidObject, message);
        self.malformed.insert(object.clone(), [report].into());
        self.is_reported = true;
    }

    /// Tells which Secrets and config maps are to be watched one by one; not before the certificates are known.
    fn want(&mut self) {
        if self.stage == Stage::Listing {
            if self.parts.health.missing().is_some() {
                return;
            }
            self.stage = Stage::Naming;
            // Whether or not something is named: the answer ends this stage.
            self.is_renamed = false;
            let wanted = self.references.wanted(self.compiler.options());
            self.parts.wanted.send_replace(wanted);
            return;
        }
        if !std::mem::take(&mut self.is_renamed) {
            return;
        }
        let wanted = self.references.wanted(self.compiler.options());
        self.parts.wanted.send_if_modified(|before| {
            let is_other = *before != wanted;
            *before = wanted;
            is_other
        });
    }

    fn is_published(&self) -> bool {
        self.stage == Stage::Published
    }

    fn compile(&mut self) {
        let start = clock::now();
        let unix_s = i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX);
        let step = self.compiler.compile(unix_s);
        let is_changed = !step.delta.is_empty() || !self.is_published();
        let generation = if is_changed {
            self.parts.publisher.publish(&step.delta)
        } else {
            self.parts.publisher.generation()
        };
        if !step.reports.is_empty() || std::mem::take(&mut self.is_reported) {
            self.reports = Arc::new(merged(self.compiler.reports(), &self.malformed));
        }
        let took = start.elapsed();
        self.pace.compiled(clock::now(), took);
        if let Some(first) = self.first.take().filter(|_| is_changed && self.is_published()) {
            self.parts.timed.push(generation, first);
        }
        self.parts.registry.control().record_compile(took);
        self.parts.registry.control().record_apply(ApplyResult::Applied);
        self.parts.registry.control().set_snapshot_generation(generation.0);
        self.parts.compiled.send_replace(Arc::new(Compiled {
            generation,
            sequence: self.sequence,
            reports: Arc::clone(&self.reports),
        }));
        if std::mem::replace(&mut self.stage, Stage::Published) != Stage::Published {
            tracing::info!(took_ms = took.as_millis(), "the first configuration is published");
            std::mem::replace(&mut self.parts.on_first, Box::new(|| {}))();
        }
    }
}

/// All that there is to say: what the compile says, and what does not decode.
fn merged(compiled: &ReportsByObject, malformed: &ReportsByObject) -> ReportsByObject {
    let mut reports = compiled.clone();
    for (object, own) in malformed {
        let all = reports.entry(object.clone()).or_insert_with(|| [].into());
        *all = own.iter().chain(all.iter()).cloned().collect();
    }
    reports
}

const fn lane(kind: Kind) -> Lane {
    match kind {
        Kind::EndpointSlice => Lane::Endpoints,
        _ => Lane::Other,
    }
}

/// Whether objects of the kind name Secrets, or are ones.
const fn is_naming(kind: Kind) -> bool {
    matches!(kind, Kind::Ingress | Kind::Service | Kind::Secret)
}

#[cfg(test)]
mod tests;
