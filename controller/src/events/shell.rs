//! Writes Events, on the leader.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{api::events::v1::Event, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use propylon_kit::{
    clock::{self, Monotonic},
    tasks::StopSignal,
};
use propylon_model::{Kind, ObjectRef, Report, ReportReason};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    journal::{Journal, Write},
    record::{Record, series},
    recorder::Recorder,
};
use crate::{compile::Compiled, context::Context, watch::Stores};

/// Field manager of Events.
const MANAGER: &str = "propylon-controller";
/// How often the journal is looked at while nothing changes.
const TICK: Duration = Duration::from_secs(1);
/// Longest time for one request.
const REQUEST: Duration = Duration::from_secs(5);

/// Writes Events while this replica leads: of the reports of each compile, and of what other duties record.
pub async fn run(context: Context, recorder: Recorder, mut stop: StopSignal) {
    let mut is_leader = context.is_leader.clone();
    loop {
        tokio::select! {
            () = stop.stopped() => return,
            led = is_leader.wait_for(|leads| *leads) => if led.is_err() { return },
        }
        let mut writer = Writer {
            client: context.client.clone(),
            instance: context.config.pod_name.clone(),
            origin: clock::now(),
            journal: Journal::new(),
        };
        tokio::select! {
            () = stop.stopped() => return,
            _ = is_leader.wait_for(|leads| !*leads) => {}
            () = writer.lead(&context, &recorder) => {}
        }
    }
}

struct Writer {
    client: Client,
    instance: String,
    origin: Monotonic,
    journal: Journal,
}

impl Writer {
    /// Never ends.
    async fn lead(&mut self, context: &Context, recorder: &Recorder) {
        let mut compiled = context.compiled.clone();
        compiled.mark_changed();
        let mut reports = Vec::new();
        loop {
            let is_compiled = compiled.has_changed().unwrap_or_default();
            if is_compiled {
                let compiled = compiled.borrow_and_update().clone();
                reports = of_reports(&compiled, &context.stores);
            }
            let (holds, once) = recorder.take();
            let now = self.origin.elapsed();
            for record in once {
                self.journal.once(record, now);
            }
            self.journal
                .hold(holds.iter().flat_map(|records| records.iter()).chain(&reports), now);
            self.write().await;
            // Until there is something new, the time alone decides.
            loop {
                let is_new = tokio::select! {
                    changed = compiled.changed() => changed.is_ok(),
                    () = recorder.changed() => true,
                    () = sleep(TICK) => false,
                };
                if is_new {
                    compiled.mark_changed();
                    break;
                }
                self.write().await;
            }
            // Gathers what comes together.
            sleep(TICK / 5).await;
        }
    }

    async fn write(&mut self) {
        for write in self.journal.due(self.origin.elapsed()) {
            let (record, sent) = match &write {
                Write::Create(record) => (record, self.create(record).await),
                Write::Again(record, count) => (record, self.again(record, *count).await),
            };
            if let Err(error) = sent {
                let Record { regarding, reason, .. } = record;
                tracing::warn!(kind = regarding.kind, namespace = regarding.namespace, name = regarding.name, %reason, error, "an Event could not be written");
                self.journal.failed(record, self.origin.elapsed());
                // The others would fail as well; whatever holds is tried again.
                sleep(TICK).await;
            }
        }
    }

    async fn create(&self, record: &Record) -> Result<(), String> {
        let event = record.event(&self.instance, MicroTime(Timestamp::now()));
        let api: Api<Event> = Api::namespaced(self.client.clone(), record.namespace());
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        match timeout(REQUEST, api.create(&params, &event)).await {
            Err(_) => Err("no answer in time".to_owned()),
            Ok(Ok(_)) => Ok(()),
            // It is there: the leader before has said it. Or it cannot be there any more: its namespace goes.
            Ok(Err(kube::Error::Api(status)))
                if status.code == 409 || status.code == 404 || is_terminating(&status) =>
            {
                Ok(())
            }
            Ok(Err(error)) => Err(error.to_string()),
        }
    }

    async fn again(&self, record: &Record, count: i32) -> Result<(), String> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), record.namespace());
        let series = series(count, MicroTime(Timestamp::now()));
        let patch = Patch::Merge(json!({ "series": series }));
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match timeout(REQUEST, api.patch(&record.name().0, &params, &patch)).await {
            Err(_) => Err("no answer in time".to_owned()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => self.create(record).await,
            Ok(Err(error)) => Err(error.to_string()),
        }
    }
}

fn is_terminating(status: &kube::core::Status) -> bool {
    status.code == 403 && status.message.contains("being terminated")
}

/// The Events of the reports; of each object and reason no more than [`MOST_OF_A_REASON`].
fn of_reports(compiled: &Compiled, stores: &Stores) -> Vec<Record> {
    let mut records = Vec::new();
    for (object, reports) in compiled.reports.iter() {
        let uid = uid(object, stores);
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for report in reports.iter() {
            let count = counts.entry(report.reason).or_default();
            *count += 1;
            if *count <= MOST_OF_A_REASON {
                records.extend(Record::of_report(report, uid.clone()));
            }
        }
        records.extend(more(object, reports, &counts, uid.as_deref()));
    }
    records
}

/// Most Events of one reason about one object.
const MOST_OF_A_REASON: usize = 5;

/// What tells of the reports that get no Event of their own.
fn more(
    object: &ObjectRef,
    reports: &[Report],
    counts: &BTreeMap<ReportReason, usize>,
    uid: Option<&str>,
) -> Vec<Record> {
    let many = counts.iter().filter(|(_, count)| **count > MOST_OF_A_REASON);
    many.filter_map(|(reason, count)| {
        let first = reports.iter().find(|report| report.reason == *reason)?;
        let message = format!(
            "{} more of this kind; propylon lint lists all",
            count - MOST_OF_A_REASON
        );
        let report = Report::new(object.clone(), first.reason, message);
        Record::of_report(&report, uid.map(str::to_owned))
    })
    .collect()
}

/// The uid of an object, where there is a store of its kind.
fn uid(object: &ObjectRef, stores: &Stores) -> Option<String> {
    match object.kind {
        Kind::Ingress => stores.ingresses.get(&reference(object))?.uid(),
        Kind::Service => stores.services.get(&reference(object))?.uid(),
        Kind::IngressClass => stores.ingress_classes.get(&reference(object))?.uid(),
        _ => None,
    }
}

/// How a store knows an object.
pub(crate) fn reference<K>(object: &ObjectRef) -> kube::runtime::reflector::ObjectRef<K>
where
    K: kube::runtime::reflector::Lookup<DynamicType = ()>,
{
    let reference = kube::runtime::reflector::ObjectRef::<K>::new(&object.name);
    if object.namespace.is_empty() {
        reference
    } else {
        reference.within(&object.namespace)
    }
}
