//! `propylon_objects`: how many objects of each kind were read, and what became of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use propylon_kit::metrics::{Exposition, Metric};
use propylon_model::{Kind, ObjectRef, Report, Severity};
use propylon_translate::{Key, World};

/// Numbers of accepted objects, of those with a warning, and of those of which a part is not served.
type Counts = BTreeMap<Kind, [i64; 3]>;

/// The counts of the last look.
#[derive(Debug, Default)]
pub(super) struct ObjectCounts(Mutex<Counts>);

impl ObjectCounts {
    /// Takes over what is there now.
    pub(super) fn update(&self, world: &World, reports: &[Report]) {
        let counts = count(world, reports);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// Writes the metric.
    pub(super) fn render(&self, exposition: &mut Exposition) {
        for (kind, values) in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            for (state, value) in ["accepted", "warning", "rejected"].into_iter().zip(values) {
                exposition.gauge_count(Metric::Objects, &[kind.as_str(), state], *value);
            }
        }
    }
}

fn count(world: &World, reports: &[Report]) -> Counts {
    let mut worst: BTreeMap<&ObjectRef, Severity> = BTreeMap::new();
    for report in reports.iter().filter(|report| report.severity() != Severity::Notice) {
        let severity = worst.entry(&report.object).or_insert(Severity::Notice);
        *severity = report.severity().min(*severity);
    }
    let sizes = [
        (Kind::ConfigMap, world.config_maps.len()),
        (Kind::EndpointSlice, world.endpoint_slices.len()),
        (Kind::Ingress, world.ingresses.len()),
        (Kind::IngressClass, world.ingress_classes.len()),
        (Kind::Secret, world.secrets.len()),
        (Kind::Service, world.services.len()),
    ];
    let mut counts: Counts = sizes
        .into_iter()
        .map(|(kind, size)| (kind, [i64::try_from(size).unwrap_or(i64::MAX), 0, 0]))
        .collect();
    for (object, severity) in worst {
        let Some([accepted, warning, rejected]) = counts.get_mut(&object.kind) else {
            continue;
        };
        *accepted -= i64::from(is_in(world, object));
        *if severity == Severity::Error { rejected } else { warning } += 1;
    }
    counts
}

fn is_in(world: &World, object: &ObjectRef) -> bool {
    let key = Key::new(Arc::clone(&object.namespace), Arc::clone(&object.name));
    world.contains(object.kind, &key)
}

#[cfg(test)]
mod tests {
    use propylon_model::ReportReason;
    use propylon_translate::{admit::admit, manifest::parse};

    use super::*;

    #[test]
    fn each_object_is_counted_by_its_worst_report() {
        let mut world = World::default();
        for name in ["a", "b", "c"] {
            let text = propylon_testkit::manifest::service("default", name, 80, "");
            for object in parse(&text) {
                world.insert(admit(object.unwrap()).unwrap());
            }
        }
        let report = |name, reason| Report::new(ObjectRef::new(Kind::Service, "default", name), reason, "");
        let reports = [
            report("a", ReportReason::NoReadyEndpoints),
            report("a", ReportReason::InvalidObject),
            report("b", ReportReason::NoReadyEndpoints),
            report("c", ReportReason::TLSSecretNotFound),
            report("never admitted", ReportReason::InvalidObject),
        ];
        let counts = count(&world, &reports);
        assert_eq!(counts[&Kind::Service], [1, 1, 2]);
        assert_eq!(counts[&Kind::Ingress], [0, 0, 0]);
    }
}
