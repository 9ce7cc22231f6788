//! Gives out addresses, on the leader.

mod pools;
mod requests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use propylon_crds::IPAddressPool;
use propylon_kit::{
    clock::{self, Monotonic},
    tasks::StopSignal,
};
use propylon_translate::Key;
use tokio::time::sleep;

use super::{
    ahead::Ahead,
    facts::{NodeFacts, Path, ServiceFacts},
    plan::{Input, Plan, Settings, plan},
    pool::{NamespaceLabels, Pool},
    write::{Write, writes},
};
use crate::{
    config::{self, LbPath, NamedSpec},
    context::Context,
    events::Recorder,
    seen::{Seen, is_listed},
    status::nodes::Readiness,
    watch::Stores,
};

/// How often is looked at what no compile tells of: pools, namespaces, pods, proxies.
const TICK: Duration = Duration::from_secs(1);
/// Changes that come together are planned together.
const GATHER: Duration = Duration::from_millis(50);
/// After a request that failed, all is looked at again.
const RETRY: Duration = Duration::from_secs(2);
/// How long a Service that was listed, but that the watch does not know, holds its addresses.
const UNKNOWN: Duration = Duration::from_mins(1);

/// Gives out addresses while this replica leads.
pub async fn run(context: Context, recorder: Recorder, mut stop: StopSignal) {
    let metrics = pools::Metrics::register(&context.registry);
    let mut is_leader = context.is_leader.clone();
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            led = is_leader.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        let leading = Leading {
            origin: clock::now(),
            readiness: Readiness::new(Duration::ZERO),
            ahead: Ahead::default(),
            seen: None,
            retry: None,
            context: &context,
            recorder: &recorder,
            metrics: &metrics,
        };
        tokio::select! {
            () = stop.stopped() => return,
            _ = is_leader.wait_for(|leads| !*leads) => {}
            () = leading.run() => {}
        }
        metrics.clear();
    }
}

struct Leading<'c> {
    context: &'c Context,
    recorder: &'c Recorder,
    metrics: &'c pools::Metrics,
    origin: Monotonic,
    readiness: Readiness,
    ahead: Ahead,
    /// What the last plan was made of; none: plan anew.
    seen: Option<Inputs>,
    /// When to plan anew whatever changed.
    retry: Option<Monotonic>,
}

/// What tells whether anything changed that a plan depends on.
#[derive(Debug, PartialEq)]
struct Inputs {
    services: Seen<Service>,
    nodes: Seen<Node>,
    pools: Seen<IPAddressPool>,
    namespaces: Seen<Namespace>,
    ready: BTreeSet<String>,
    settings: Settings,
    configured: Vec<NamedSpec>,
}

impl Leading<'_> {
    /// Never ends.
    async fn run(mut self) {
        let stores = &self.context.stores;
        // Without the list of the pools nothing can be decided: what they cover would look like somebody else's.
        let listed = tokio::join!(
            is_listed(&stores.services),
            is_listed(&stores.namespaces),
            is_listed(&stores.nodes),
            is_listed(&stores.pools),
        );
        if listed != (true, true, true, true) {
            return;
        }
        while let Err(error) = requests::list(&self.context.client, &mut self.ahead).await {
            tracing::warn!(error, "Services cannot be listed, so no address is given out yet");
            sleep(RETRY).await;
        }
        let mut compiled = self.context.compiled.clone();
        let mut settings = self.context.settings.clone();
        loop {
            self.look().await;
            tokio::select! {
                _ = compiled.changed() => {}
                _ = settings.changed() => {}
                () = sleep(TICK) => {}
            }
            sleep(GATHER).await;
        }
    }

    /// Plans and writes, where anything changed.
    async fn look(&mut self) {
        let now = clock::now();
        let settings = self.context.settings.borrow().clone();
        let stores = &self.context.stores;
        let seen = Inputs {
            services: Seen::of(&stores.services),
            nodes: Seen::of(&stores.nodes),
            pools: Seen::of(&stores.pools),
            namespaces: Seen::of(&stores.namespaces),
            ready: ready(&mut self.readiness, self.context, self.origin.elapsed()),
            settings: of_operator(&settings, &self.context.config),
            configured: settings.lb.pools.clone(),
        };
        let is_due = self.retry.is_some_and(|retry| retry <= now);
        if self.seen.as_ref() == Some(&seen) && !is_due {
            return;
        }
        self.retry = None;
        let is_applied = pools::apply_configured(self.context, &seen.configured).await;
        if self.origin.elapsed() > UNKNOWN {
            self.ahead.forget_unknown();
        }
        let services = seen.services.objects().iter();
        let services = self
            .ahead
            .merge(services.map(|service| ServiceFacts::read(service)).collect());
        let is_ready = |node: &Node| {
            node.metadata
                .name
                .as_ref()
                .is_some_and(|name| seen.ready.contains(name))
        };
        let nodes = seen.nodes.objects().iter();
        let nodes: Vec<NodeFacts> = nodes.map(|node| NodeFacts::read(node, is_ready(node))).collect();
        let objects = seen.pools.objects();
        let read: Vec<Pool> = objects.iter().map(|pool| Pool::read(pool)).collect();
        let plan = plan(&Input {
            pools: &read,
            services: &services,
            nodes: &nodes,
            namespaces: &labels(seen.namespaces.objects()),
            settings: &seen.settings,
        });
        let is_written = self.write(&services, &plan).await;
        let is_told = pools::tell(self.context, objects, &plan, self.metrics).await;
        pools::record(self.recorder, stores, &services, objects, &plan);
        if !is_applied || !is_written || !is_told || !self.ahead.is_empty() {
            self.retry = Some(now + RETRY);
        }
        self.seen = Some(seen);
    }

    /// Writes what is not written; whether all of it could be.
    async fn write(&mut self, services: &[ServiceFacts], plan: &Plan) -> bool {
        let due: Vec<(&ServiceFacts, Vec<Write>)> = services
            .iter()
            .filter_map(|service| {
                let writes = writes(service, plan.services.get(&service.key)?);
                (!writes.is_empty()).then_some((service, writes))
            })
            .collect();
        let outcomes = requests::patch_all(self.context, due).await;
        let mut is_written = true;
        for (before, outcome) in outcomes {
            match outcome {
                requests::Outcome::Written(after) => {
                    pools::record_allocated(self.recorder, &self.context.stores, &before, &after);
                    self.ahead.written(*after);
                }
                requests::Outcome::Gone => self.ahead.remove(&before.key),
                requests::Outcome::Failed => is_written = false,
            }
        }
        is_written
    }
}

/// The nodes with a ready proxy.
pub(crate) fn ready(readiness: &mut Readiness, context: &Context, now: Duration) -> BTreeSet<String> {
    let pods = context.stores.proxy_pods.state();
    let pods: Vec<_> = pods
        .iter()
        .filter_map(|pod| crate::status::nodes::ProxyPod::read(pod))
        .collect();
    readiness.look(&pods, &crate::status::nodes::acknowledged(context), now)
}

/// The operator's settings as the plan has them. No agent announces yet, so the proxies serve what says nothing.
fn of_operator(settings: &config::Settings, config: &config::Config) -> Settings {
    let lb = &settings.lb;
    let own = Key::new(config.namespace.as_str(), OWN_SERVICE);
    Settings {
        serve_classless: lb.serve_classless,
        default_path: match lb.default_path {
            Some(LbPath::Kernel) => Path::Kernel,
            Some(LbPath::Proxy) | None => Path::Proxy,
        },
        node_address_ports: lb
            .node_address_ports
            .iter()
            .map(|range| range.first..=range.last)
            .collect(),
        own_service: Some(settings.publish_service.clone().unwrap_or(own)),
    }
}

/// The proxies' Service as the chart names it, where the settings name none.
const OWN_SERVICE: &str = "propylon-proxy";

fn labels(namespaces: &[Arc<Namespace>]) -> NamespaceLabels {
    let labels = namespaces.iter().map(|namespace| {
        let metadata = &namespace.metadata;
        (
            metadata.name.clone().unwrap_or_default(),
            metadata.labels.clone().unwrap_or_default(),
        )
    });
    labels.collect()
}
