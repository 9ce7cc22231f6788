//! The addresses of Service ports, and who needs them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::EndpointsName;

use super::{Engine, Index, Part, Run};
use crate::{
    backends::{Addresses, PortKey, Use, Uses},
    reports::Reports,
    world::Key,
};

/// The endpoints that are needed.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: BTreeMap<EndpointsName, Entry>,
    of_part: BTreeMap<Part, BTreeSet<EndpointsName>>,
    services: Index<Key, EndpointsName>,
    pods: Index<Key, EndpointsName>,
}

#[derive(Debug, Default)]
struct Entry {
    uses: BTreeMap<Part, Use>,
    service: Option<Key>,
    pods: BTreeSet<Key>,
}

impl Entry {
    /// Whose endpoints they are; none: there are to be none.
    fn port(&self) -> Option<&PortKey> {
        self.uses.values().find_map(|used| used.port.as_ref())
    }
}

impl Book {
    /// Replaces what a part needs.
    pub(super) fn set(&mut self, part: &Part, uses: Uses, touched: &mut BTreeSet<EndpointsName>) {
        let now: BTreeSet<EndpointsName> = uses.keys().cloned().collect();
        let before = if now.is_empty() {
            self.of_part.remove(part)
        } else {
            self.of_part.insert(part.clone(), now.clone())
        };
        for gone in before.unwrap_or_default().difference(&now) {
            if let Some(entry) = self.entries.get_mut(gone) {
                entry.uses.remove(part);
                touched.insert(gone.clone());
            }
        }
        for (name, used) in uses {
            let entry = self.entries.entry(name.clone()).or_default();
            if entry.uses.get(part) != Some(&used) {
                entry.uses.insert(part.clone(), used);
                touched.insert(name);
            }
        }
    }

    /// The endpoints of the ports of a Service.
    pub(super) fn of_service(&self, service: &Key) -> impl Iterator<Item = &EndpointsName> {
        self.services.of(service)
    }

    /// The pods that count for some endpoints.
    pub(super) fn pods(&self) -> impl Iterator<Item = &Key> {
        self.pods.things()
    }

    /// The endpoints for which a pod counts.
    pub(super) fn of_pod(&self, pod: &Key) -> impl Iterator<Item = &EndpointsName> {
        self.pods.of(pod)
    }
}

impl Engine {
    pub(super) fn make_endpoints(&mut self, run: &mut Run<'_>) {
        for name in std::mem::take(&mut run.work.endpoints) {
            let part = Part::Endpoints(name.clone());
            let Some(entry) = self.book.entries.get_mut(&name) else {
                continue;
            };
            let mut reports = Reports::default();
            let port = entry.port().cloned();
            let facts = self.read.facts(run.world, run.options);
            let found = port.as_ref().map(|port| facts.addresses(port, &mut reports));
            if let (Some(port), Some(found)) = (&port, &found) {
                let users = entry.uses.values().flat_map(|used| &used.users);
                found.report_empty(&port.service, users, &mut reports);
            }
            let service = port.map(|port| port.service);
            self.book.services.replace(&name, &entry.service, &service);
            entry.service = service;
            let pods = found.as_ref().map(|found| found.pods.clone()).unwrap_or_default();
            self.book.pods.replace(&name, &entry.pods, &pods);
            entry.pods = pods;
            let is_used = !entry.uses.is_empty();
            if !is_used {
                self.book.services.replace(&name, &entry.service, []);
                self.book.pods.replace(&name, &entry.pods, []);
                self.book.entries.remove(&name);
            }
            let value = is_used.then(|| found.map_or_else(Default::default, Addresses::into_endpoints));
            self.output.endpoints(&name, value.map(Arc::new));
            self.ledger.set(&part, reports);
        }
    }
}
