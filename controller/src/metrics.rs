//! What `/metrics` says of the controller.

use std::collections::BTreeMap;

use propylon_kit::metrics::{Exposition, Metric};
use propylon_model::{ObjectRef, Severity};
use propylon_translate::ReportsByObject;

use crate::{
    context::Context,
    watch::health::{Report, State},
};

/// Adds the controller's metrics to the registry.
pub(crate) fn register(context: &Context) {
    let (health, compiled) = (context.health.clone(), context.compiled.clone());
    let (leader, publisher) = (context.is_leader.clone(), context.publisher.clone());
    context.registry.add_source(move |exposition| {
        let leads = i64::from(*leader.borrow());
        exposition.gauge_count(Metric::Leader, &[], leads);
        let reports = health.reports();
        watches(exposition, &reports);
        objects(exposition, &reports, &compiled.borrow().reports);
        let proxies = publisher.proxies();
        let current = publisher.generation();
        let count = |wanted: bool| {
            let counted = proxies.iter().filter(|proxy| (proxy.acknowledged >= current) == wanted);
            i64::try_from(counted.count()).unwrap_or(i64::MAX)
        };
        exposition.gauge_count(Metric::Proxies, &["current"], count(true));
        exposition.gauge_count(Metric::Proxies, &["behind"], count(false));
    });
}

fn watches(exposition: &mut Exposition, reports: &[Report]) {
    for report in reports.iter().filter(|report| report.scope.name.is_none()) {
        let scope = &report.scope;
        let namespace = scope.namespace.as_deref().unwrap_or_default();
        let is_up = i64::from(matches!(report.state, State::Following));
        exposition.gauge_count(Metric::WatchUp, &[scope.kind, namespace], is_up);
        if matches!(report.state, State::Denied { .. }) {
            let resource = scope.qualified();
            exposition.gauge_count(Metric::RightMissing, &["list,watch", &resource, namespace], 1);
        }
    }
}

/// Objects by kind and by the worst that is said of each.
fn objects(exposition: &mut Exposition, watches: &[Report], reports: &ReportsByObject) {
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for watch in watches {
        *totals.entry(watch.scope.kind).or_default() += watch.objects;
    }
    let mut worst: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (object, reports) in reports {
        let (warning, rejected) = worst.entry(kind(object)).or_default();
        let severities = reports.iter().map(propylon_model::Report::severity);
        // The order is that of the list: errors first.
        match severities.min() {
            Some(Severity::Error) => *rejected += 1,
            Some(Severity::Warning) => *warning += 1,
            _ => {}
        }
    }
    for (kind, total) in totals {
        let (warning, rejected) = worst.get(kind).copied().unwrap_or_default();
        let accepted = total.saturating_sub(warning + rejected);
        for (state, count) in [("accepted", accepted), ("warning", warning), ("rejected", rejected)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            exposition.gauge_count(Metric::Objects, &[kind, state], count);
        }
    }
}

const fn kind(object: &ObjectRef) -> &'static str {
    object.kind.as_str()
}
