//! The thread that follows the folder: look, compile, apply, report.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use propylon_kit::{clock, metrics::ApplyResult};
use propylon_model::Report;
use propylon_proxy::{L4Listener, ProxyHandle};

use super::objects::ObjectCounts;
use crate::{
    compiler::{Compiler, Step},
    failure::Failure,
    folder::Watch,
    printer::{self, Printer},
};

/// Everything between the folder and the data plane.
pub(crate) struct Control {
    watch: Watch,
    compiler: Compiler,
    proxy: Arc<ProxyHandle>,
    printer: Printer,
    objects: Arc<ObjectCounts>,
    compiled: clock::Monotonic,
    compile_reports: Vec<Report>,
    /// Of the reports of the running proxy.
    reports_seen: u64,
    listeners: Vec<L4Listener>,
}

/// The control thread while it runs.
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Running {
    /// Stops following the folder; what is live stays live. Waits at most for one compile.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            tracing::error!("the control thread ended in a panic");
        }
    }
}

impl Control {
    /// Puts the parts together; nothing is compiled yet.
    pub(crate) fn new(watch: Watch, compiler: Compiler, proxy: Arc<ProxyHandle>) -> Self {
        let objects = Arc::new(ObjectCounts::default());
        let source = Arc::clone(&objects);
        proxy.registry().add_source(move |exposition| source.render(exposition));
        Self {
            watch,
            compiler,
            proxy,
            printer: Printer::default(),
            objects,
            compiled: clock::now(),
            compile_reports: Vec::new(),
            reports_seen: 0,
            listeners: Vec::new(),
        }
    }

    /// Compiles what the folder holds now, makes it live, and prints what there is to say.
    pub(crate) fn apply(&mut self) {
        self.compiled = clock::now();
        // A panic here is a mistake of ours; what is live must survive it.
        let (compiler, watch, proxy) = (&mut self.compiler, &self.watch, &self.proxy);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let Step { delta, reports } = compiler.step(watch.folder().world());
            proxy.apply(&delta);
            reports
        }));
        if let Ok(reports) = outcome {
            self.compile_reports = reports;
        } else {
            tracing::error!("the compile ended in a panic; what was live before stays live");
            self.proxy.registry().control().record_panic();
            self.proxy.registry().control().record_apply(ApplyResult::Rejected);
            self.compiler.doubt(self.proxy.resources());
        }
        self.report();
    }

    /// Follows the folder on a thread of its own.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn spawn(mut self) -> Result<Running, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let follow = move || {
            // Linux reads this as the niceness of the calling thread: compiling must not delay the workers.
            if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::debug!(%error, "the folder's thread keeps its priority");
            }
            while !stopped.load(Ordering::Relaxed) {
                self.follow();
            }
        };
        let thread = thread::Builder::new().name("folder".to_owned()).spawn(follow);
        let thread = thread.map_err(|source: io::Error| Failure::System {
            attempt: "start a thread",
            source,
        })?;
        Ok(Running { stop, thread })
    }

    fn follow(&mut self) {
        match self.watch.next(PATIENCE) {
            Some(look) if look.changed => {
                self.apply();
                self.proxy.registry().control().record_propagation(look.began.elapsed());
            }
            Some(_) => self.report(),
            // Certificates come to their end without any change of the folder.
            None if self.compiled.elapsed() >= RECOMPILE => self.apply(),
            // Such as a port that was in use and is free now.
            None if self.proxy.reports_generation() != self.reports_seen => self.report(),
            None => {}
        }
    }

    fn report(&mut self) {
        let mut reports = self.watch.folder().reports();
        reports.extend(self.compile_reports.iter().cloned());
        self.reports_seen = self.proxy.reports_generation();
        reports.extend(self.proxy.reports());
        self.announce();
        for line in self.printer.update(&reports) {
            printer::line(&line);
        }
        self.objects.update(self.watch.folder().world(), &reports);
        self.proxy.set_problems(reports);
    }

    /// Says which ports of Services are listened on from now on, and which no longer.
    fn announce(&mut self) {
        let before = std::mem::replace(&mut self.listeners, self.proxy.l4_listeners());
        let say = |words: &str, listeners: &[L4Listener], others: &[L4Listener]| {
            for listener in listeners.iter().filter(|listener| !others.contains(listener)) {
                printer::line(&format!("{words} {listener}"));
            }
        };
        say("listening no longer", &before, &self.listeners);
        say("listening", &self.listeners, &before);
    }
}

/// How long a wait for the folder lasts before the wish to stop is looked at.
const PATIENCE: Duration = Duration::from_millis(200);

/// A folder that does not change is compiled again after so long: for the dates of certificates.
const RECOMPILE: Duration = Duration::from_hours(1);

/// How far the folder's thread stands back.
const NICENESS: i32 = 10;
