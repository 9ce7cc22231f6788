//! What every duty of the controller works with.

use std::sync::Arc;

use kube::Client;
use propylon_kit::{admin::Probe, metrics::Registry, tasks::Tasks};
use propylon_wire::Publisher;
use tokio::sync::watch;

use crate::{
    compile::Compiled,
    config::{Config, Settings},
    live::Live,
    watch::{Stores, health::Health},
};

/// What every duty works with; clones are handles of the same things.
///
/// A duty is one `async fn run(context: Context, stop: StopSignal)`, registered by one line in `run.rs`. It ends when `stop`
/// says so.
#[derive(Clone)]
pub struct Context {
    /// The API server, with the rights of the chart's controller.
    pub client: Client,
    /// What stays as it is.
    pub config: Arc<Config>,
    /// What the file of settings may change.
    pub settings: watch::Receiver<Arc<Settings>>,
    /// What Kubernetes holds.
    pub stores: Stores,
    /// How the watches fare.
    pub health: Health,
    /// What the proxies are given, and which have it.
    pub publisher: Publisher,
    /// The last compile: reports, and the generation that has it.
    pub compiled: watch::Receiver<Arc<Compiled>>,
    /// Which generation every ready proxy has, of all replicas.
    pub live: watch::Receiver<Live>,
    /// Whether this replica leads: only then it writes status, Events and addresses. Look again before each write.
    pub is_leader: watch::Receiver<bool>,
    /// Metrics.
    pub registry: Arc<Registry>,
    /// What the probes answer.
    pub probe: Arc<Probe>,
    /// The tasks of the process.
    pub tasks: Arc<Tasks>,
}
