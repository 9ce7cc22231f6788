//! The life of the controller: it starts the watches, the compile loop and the duties, and ends with SIGTERM or SIGINT.

mod client;
mod settings;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use propylon_kit::{
    admin::{AdminServer, Probe, Routes},
    metrics::{Registry, RegistryConfig},
    tasks::{StopSignal, Tasks},
    telemetry,
};
use propylon_wire::Publisher;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch as channel,
};

use crate::{
    addresses,
    compile::{self, Compiled, Parts, Timed},
    config::Config,
    context::Context,
    events, leader,
    live::Live,
    metrics, replica, status, stream,
    watch::{self, Start, Wanted, health::Health, inputs},
};

pub(crate) use client::connect;
pub use client::host_name;

/// Threads of the control runtime: requests, watches and TLS of the proxies; the compile has one of its own.
const THREADS: usize = 2;
/// Longest time that the duties get to end.
const FAREWELL: Duration = Duration::from_secs(8);

/// Runs until a signal ends it.
///
/// # Errors
/// When an address cannot be bound, the configuration cannot be read, or there is no way to an API server. Retryable once
/// that is mended.
pub fn main(config: Config) -> Result<()> {
    telemetry::init(&config.log).context("--log")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        // Caught from here on, so that a signal during the start is not lost.
        let mut terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
        let running = Running::start(config).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        running.stop().await;
        Ok(())
    })
}

/// A controller that runs.
pub struct Running {
    context: Context,
    compile: std::thread::JoinHandle<()>,
}

impl Running {
    /// Starts everything.
    ///
    /// # Errors
    /// As [`main`].
    pub async fn start(config: Config) -> Result<Self> {
        let (context, ends) = assemble(config).await?;
        let Ends {
            compile,
            live,
            is_leader,
            timed,
        } = ends;
        context.spawn("leader", |context, stop| {
            leader::run(context.client, context.config, is_leader, stop)
        });
        context.spawn("replica", |context, stop| replica::run(context, live, timed, stop));
        stream::start(&context).await?;
        duties(&context);
        conditions(&context);
        metrics::register(&context);
        serve_admin(&context).await?;
        context.probe.set_started();
        tracing::info!(
            pod = context.config.pod_name,
            namespace = context.config.namespace,
            "started"
        );
        Ok(Self { context, compile })
    }

    /// What the duties work with.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Ends everything, in order: not ready any more, the Lease given back, the stream closed.
    pub async fn stop(self) {
        tracing::info!("stopping");
        self.context.probe.set_draining();
        let late = self.context.tasks.shutdown(FAREWELL).await;
        if !late.is_empty() {
            tracing::warn!(tasks = ?late, "these did not end in time");
        }
        // It has ended with the stop signal, or holds nothing that must be kept.
        if self.compile.is_finished() {
            drop(self.compile.join());
        }
    }
}

/// The ends of the channels of a [`Context`] that are written, and the compile thread.
struct Ends {
    compile: std::thread::JoinHandle<()>,
    live: channel::Sender<Live>,
    is_leader: channel::Sender<bool>,
    timed: Timed,
}

/// Starts the watches and the compile loop, and makes what the duties work with.
async fn assemble(config: Config) -> Result<(Context, Ends)> {
    let config = Arc::new(config);
    let registry = Arc::new(Registry::new(RegistryConfig::default()));
    let tasks = Arc::new(Tasks::new(Arc::clone(&registry)));
    let settings = settings::start(&config, &tasks)?;
    let client = connect(config.kubeconfig.as_deref()).await?;
    let health = Health::new();
    let probe = Arc::new(Probe::new(Duration::from_mins(1)));
    let (inputs, receiver) = inputs::queue();
    let stores = Start {
        client: &client,
        tasks: &tasks,
        health: &health,
        inputs: &inputs,
        namespace: &config.namespace,
        secrets_scope: &config.secrets_scope,
    }
    .all();
    let (wanted, wanted_receiver) = channel::channel(Wanted::new());
    let kept = watch::keep_references(
        client.clone(),
        inputs,
        health.clone(),
        wanted_receiver,
        tasks.stop_signal(),
    );
    tasks.spawn("references", kept);
    let (compiled, compiled_receiver) = channel::channel(Arc::new(Compiled::default()));
    let (publisher, timed) = (Publisher::new(), Timed::default());
    let first = Arc::clone(&probe);
    let parts = Parts {
        inputs: receiver,
        health: health.clone(),
        settings: settings.clone(),
        publisher: publisher.clone(),
        compiled,
        wanted,
        timed: timed.clone(),
        registry: Arc::clone(&registry),
        on_first: Box::new(move || first.set_tables_applied()),
    };
    let compile = compile::spawn(parts, tasks.stop_signal()).context("starting the compile thread")?;
    let (live, live_receiver) = channel::channel(Live::default());
    let (is_leader, leader_receiver) = channel::channel(false);
    let context = Context {
        client,
        config,
        settings,
        stores,
        health,
        publisher,
        compiled: compiled_receiver,
        live: live_receiver,
        is_leader: leader_receiver,
        registry,
        probe,
        tasks,
    };
    let ends = Ends {
        compile,
        live,
        is_leader,
        timed,
    };
    Ok((context, ends))
}

/// The duties, one line each.
fn duties(context: &Context) {
    let recorder = events::Recorder::default();
    let (of_addresses, of_status) = (recorder.clone(), recorder.clone());
    context.spawn("addresses", |context, stop| addresses::run(context, of_addresses, stop));
    context.spawn("status", |context, stop| status::run(context, of_status, stop));
    context.spawn("events", |context, stop| events::run(context, recorder, stop));
}

/// Readiness: one line per kind, with what it waits for.
fn conditions(context: &Context) {
    let health = context.health.clone();
    context.probe.add_conditions(move || {
        let reports = health.reports();
        // What is watched one by one comes and goes while the controller is ready.
        let kinds = reports.iter().filter(|report| report.scope.name.is_none());
        kinds
            .map(|report| (format!("watch {}", report.scope), report.fault()))
            .collect()
    });
}

impl Context {
    /// Starts a duty of the leader: it begins anew whenever this replica begins to lead, and is dropped when it leads no
    /// more.
    pub fn spawn_leading<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        duty: impl Fn(Self) -> F + Send + 'static,
    ) {
        self.spawn(name, |context, mut stop| async move {
            let mut is_leader = context.is_leader.clone();
            loop {
                tokio::select! {
                    () = stop.stopped() => return,
                    leads = is_leader.wait_for(|leads| *leads) => if leads.is_err() { return },
                }
                let mut until = context.is_leader.clone();
                tokio::select! {
                    () = stop.stopped() => return,
                    leads = until.wait_for(|leads| !*leads) => if leads.is_err() { return },
                    // A duty that ended has nothing left to do until the next term.
                    () = until_dropped(duty(context.clone())) => {}
                }
            }
        });
    }

    /// Starts a duty.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        duty: impl FnOnce(Self, StopSignal) -> F,
    ) {
        self.tasks.spawn(name, duty(self.clone(), self.tasks.stop_signal()));
    }
}

async fn until_dropped(duty: impl Future<Output = ()>) {
    duty.await;
    std::future::pending::<()>().await;
}

async fn serve_admin(context: &Context) -> Result<()> {
    let status = Routes::new().probes(&context.probe).metrics(&context.registry);
    let status = AdminServer::bind(&[context.config.status], status)
        .await
        .context("--status")?;
    let health = context.health.clone();
    let admin = Routes::new()
        .probes(&context.probe)
        .metrics(&context.registry)
        .json("/watches", move || {
            serde_json::to_vec(&health.reports()).unwrap_or_default()
        });
    let admin = AdminServer::bind(&[context.config.admin], admin)
        .await
        .context("--admin")?;
    for (name, server) in [("status", status), ("admin", admin)] {
        let mut stop = context.tasks.stop_signal();
        context
            .tasks
            .spawn(name, async move { server.serve(stop.stopped()).await });
    }
    Ok(())
}
