//! What is written about pools, and said about Services.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use propylon_crds::{Family, FamilyCount, IPAddressPool, IPAddressPoolStatus, condition};
use propylon_kit::metrics::{Metric, Registry, WriteResult};
use propylon_model::{Kind, ObjectRef};
use serde_json::json;
use tokio::time::timeout;

use super::{ServiceFacts, Stores};
use crate::{
    addresses::{
        configured,
        plan::{Decision, Plan, PoolReport, Problem, ProblemReason},
    },
    config::NamedSpec,
    context::Context,
    events::{
        Recorder,
        record::{EventType, Record, Regarding},
        reference,
    },
};

/// Field manager of pools.
const MANAGER: &str = "propylon-controller";
/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(5);
/// What this duty is called among those that say something.
const DUTY: &str = "addresses";

/// The counts of the pools, for the metrics.
#[derive(Clone, Default)]
pub(super) struct Metrics(Arc<Mutex<BTreeMap<String, PoolReport>>>);

impl Metrics {
    /// Adds them to what is scraped.
    pub(super) fn register(registry: &Registry) -> Self {
        let metrics = Self::default();
        let source = metrics.clone();
        registry.add_source(move |exposition| {
            let pools = source.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, report) in pools.iter() {
                for (family, count) in &report.counts {
                    for (state, number) in [("assigned", count.assigned), ("available", count.available)] {
                        let labels = [name.as_str(), family.as_str(), state];
                        exposition.gauge_count(Metric::LbPoolAddresses, &labels, saturating(number));
                    }
                }
            }
        });
        metrics
    }

    /// Another replica leads, and tells.
    pub(super) fn clear(&self) {
        self.set(BTreeMap::new());
    }

    fn set(&self, pools: BTreeMap<String, PoolReport>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = pools;
    }
}

/// Makes the custom resources those of the settings; whether that could be done.
pub(super) async fn apply_configured(context: &Context, wanted: &[NamedSpec]) -> bool {
    let objects = context.stores.pools.state();
    let present: Vec<&IPAddressPool> = objects.iter().map(|object| &**object).collect();
    let changes = configured::changes(wanted, &present);
    let api: Api<IPAddressPool> = Api::all(context.client.clone());
    let params = PatchParams::apply(MANAGER).force();
    let mut is_done = true;
    for error in &changes.errors {
        tracing::error!(error, "the settings have a pool that cannot be used");
    }
    for (name, manifest) in &changes.apply {
        let sent = timeout(REQUEST, api.patch(name, &params, &Patch::Apply(manifest))).await;
        is_done &= is_sent(name, sent.map(|answer| answer.map(drop)));
    }
    for name in &changes.delete {
        let sent = timeout(REQUEST, api.delete(name, &DeleteParams::default())).await;
        is_done &= is_sent(name, sent.map(|answer| answer.map(drop)));
    }
    is_done
}

/// Writes the status of the pools; whether that could be done.
pub(super) async fn tell(context: &Context, pools: &[Arc<IPAddressPool>], plan: &Plan, metrics: &Metrics) -> bool {
    metrics.set(plan.pools.clone());
    let api: Api<IPAddressPool> = Api::all(context.client.clone());
    let params = PatchParams::apply(MANAGER).force();
    let mut is_done = true;
    for pool in pools {
        let name = pool.name_any();
        let Some(report) = plan.pools.get(&name) else { continue };
        let status = status(pool, report, Time(Timestamp::now()));
        if pool.status.as_ref() == Some(&status) {
            continue;
        }
        let object = json!({
            "apiVersion": "propylon.dev/v1alpha1",
            "kind": "IPAddressPool",
            "metadata": {"name": name},
            "status": status,
        });
        let sent = timeout(REQUEST, api.patch_status(&name, &params, &Patch::Apply(object))).await;
        let is_written = is_sent(&name, sent.map(|answer| answer.map(drop)));
        let result = if is_written {
            WriteResult::Written
        } else {
            WriteResult::Failed
        };
        context.registry.control().record_status_write("IPAddressPool", result);
        is_done &= is_written;
    }
    is_done
}

/// Says what is wrong with Services and pools.
pub(super) fn record(
    recorder: &Recorder,
    stores: &Stores,
    services: &[ServiceFacts],
    pools: &[Arc<IPAddressPool>],
    plan: &Plan,
) {
    let mut records = Vec::new();
    for service in services {
        let problems: &[Problem] = match plan.services.get(&service.key) {
            Some(Decision::Assign(assignment)) => &assignment.problems,
            Some(Decision::Foreign(problem)) => std::slice::from_ref(problem),
            Some(Decision::Release) | None => &[],
        };
        for problem in problems {
            records.extend(warning(service, problem, stores));
        }
    }
    for pool in pools {
        let Some(report) = plan.pools.get(&pool.name_any()) else {
            continue;
        };
        if report.exhausted.0 {
            records.push(Record {
                regarding: Regarding {
                    api_version: "propylon.dev/v1alpha1",
                    kind: "IPAddressPool",
                    namespace: String::new(),
                    name: pool.name_any(),
                    uid: pool.uid(),
                },
                type_: EventType::Warning,
                reason: Cow::Borrowed("AddressPoolExhausted"),
                note: report.exhausted.2.clone(),
                action: "Allocate",
                settle: Duration::ZERO,
            });
        }
    }
    recorder.hold(DUTY, records);
}

/// Says that a Service got an address, where it had none.
pub(super) fn record_allocated(recorder: &Recorder, stores: &Stores, before: &ServiceFacts, after: &ServiceFacts) {
    if !before.present.is_empty() || after.present.is_empty() {
        return;
    }
    let addresses: Vec<String> = after
        .present
        .iter()
        .map(|present| present.address.to_string())
        .collect();
    let path = after.path.map_or("", |path| path.as_str());
    let note = format!("assigned {} (path: {path})", addresses.join(", "));
    if let Some(regarding) = regarding(after, stores) {
        recorder.once(Record {
            regarding,
            type_: EventType::Normal,
            reason: Cow::Borrowed("IPAllocated"),
            note,
            action: "Allocate",
            settle: Duration::ZERO,
        });
    }
}

fn warning(service: &ServiceFacts, problem: &Problem, stores: &Stores) -> Option<Record> {
    Some(Record {
        regarding: regarding(service, stores)?,
        type_: EventType::Warning,
        reason: Cow::Borrowed(problem.reason.as_str()),
        note: problem.message.clone(),
        action: "Allocate",
        settle: match problem.reason {
            // Another controller may be about to serve a Service without a class.
            ProblemReason::NoPools => Duration::from_secs(30),
            _ => Duration::from_secs(2),
        },
    })
}

fn regarding(service: &ServiceFacts, stores: &Stores) -> Option<Regarding> {
    let key = &service.key;
    let object = ObjectRef::new(Kind::Service, Arc::clone(&key.namespace), Arc::clone(&key.name));
    let uid = stores.services.get(&reference(&object)).and_then(|stored| stored.uid());
    Regarding::of(&object, uid)
}

fn status(pool: &IPAddressPool, report: &PoolReport, now: Time) -> IPAddressPoolStatus {
    let before = pool
        .status
        .as_ref()
        .map(|status| &*status.conditions)
        .unwrap_or_default();
    let generation = pool.metadata.generation;
    let count = |family| {
        report.counts.get(&family).map(|count| FamilyCount {
            total: saturating(count.total),
            assigned: saturating(count.assigned),
            available: saturating(count.available),
        })
    };
    IPAddressPoolStatus {
        conditions: vec![
            condition(before, "Ready", report.ready.clone(), (generation, now.clone())),
            condition(before, "Exhausted", report.exhausted.clone(), (generation, now)),
        ],
        ipv4: count(Family::Ipv4),
        ipv6: count(Family::Ipv6),
    }
}

fn is_sent<E: std::fmt::Display>(pool: &str, sent: Result<kube::Result<()>, E>) -> bool {
    let error = match sent {
        Ok(Ok(())) => return true,
        // Gone meanwhile: so is what was to be said of it.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => return true,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer in time".to_owned(),
    };
    tracing::warn!(pool, error, "an IPAddressPool could not be written; it is tried again");
    false
}

fn saturating(number: u128) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
