//! The parts that a compile consists of, and what each of them reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::{EndpointsName, HostPattern, L4Protocol, ObjectRef, Report};

use super::index::Index;
use crate::{compiler::ReportChanges, l4::Source, reports::Reports, world::Key};

/// One part of a compile: it is made anew where something that it was made of changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The port of an address, for which L4 ports may compete.
    Claim(L4Protocol, u16),
    /// The rules of a host, for which Ingresses may compete.
    Conflicts(HostPattern),
    /// The addresses of a Service port.
    Endpoints(EndpointsName),
    /// Whether an Ingress is served, and its annotations.
    Head(Key),
    /// The annotations of a Service that are without effect.
    Idle(Key),
    /// A host whose TLS may be handed on unopened.
    Passthrough(HostPattern),
    /// The groups and pools of an Ingress.
    Routes(Key),
    /// A Secret with a certificate.
    Secret(Key),
    /// The annotations of a Service.
    Service(Key),
    /// What gives L4 ports.
    Source(Source),
    /// The Secrets that an Ingress names for its hosts.
    Tls(Key),
}

/// What each part reports, and what follows from that for each object.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    by_part: BTreeMap<Part, Vec<Report>>,
    parts: Index<ObjectRef, Part>,
    by_object: BTreeMap<ObjectRef, Arc<[Report]>>,
    touched: BTreeSet<ObjectRef>,
}

impl Ledger {
    /// Replaces the reports of a part.
    pub(crate) fn set(&mut self, part: &Part, reports: Reports) {
        let reports = reports.into_sorted();
        let old = if reports.is_empty() {
            self.by_part.remove(part).unwrap_or_default()
        } else {
            let known = self.by_part.get(part);
            if known.is_some_and(|known| *known == reports) {
                return;
            }
            self.by_part.insert(part.clone(), reports.clone()).unwrap_or_default()
        };
        let objects = |reports: &[Report]| -> BTreeSet<ObjectRef> {
            reports.iter().map(|report| report.object.clone()).collect()
        };
        let (old, new) = (objects(&old), objects(&reports));
        self.parts.replace(part, &old, &new);
        self.touched.extend(old);
        self.touched.extend(new);
    }

    /// The objects whose reports are others than when this was last asked, with all of them.
    pub(crate) fn changes(&mut self) -> ReportChanges {
        let mut changes = ReportChanges::new();
        for object in std::mem::take(&mut self.touched) {
            let parts = self.parts.of(&object).filter_map(|part| self.by_part.get(part));
            let about = parts.flatten().filter(|report| report.object == object);
            let mut reports = Reports::default();
            about.for_each(|report| reports.push(report.clone()));
            let now: Arc<[Report]> = reports.into_sorted().into();
            let before = self.by_object.get(&object);
            if before.map_or(&[][..], |before| before) == &*now {
                continue;
            }
            if now.is_empty() {
                self.by_object.remove(&object);
            } else {
                self.by_object.insert(object.clone(), Arc::clone(&now));
            }
            changes.insert(object, now);
        }
        changes
    }

    /// The reports of each object that has some.
    pub(crate) const fn by_object(&self) -> &BTreeMap<ObjectRef, Arc<[Report]>> {
        &self.by_object
    }
}
