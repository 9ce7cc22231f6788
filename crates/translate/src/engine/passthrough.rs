//! For whom TLS of each host is handed on unopened.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::{HostPattern, Passthrough};

use super::{Engine, Index, Part, Run};
use crate::{
    backends::Backends,
    facts::Needs,
    passthrough::{Builder, name_of},
    reports::Reports,
    tls::owners::wildcard_above,
    world::Key,
};

/// The hosts that somebody wants to have handed on.
#[derive(Debug, Default)]
pub(super) struct Passthroughs {
    /// For whom it is done; without what wildcards are not for.
    winners: BTreeMap<HostPattern, (Key, Passthrough)>,
    needs: BTreeMap<HostPattern, Needs>,
    services: Index<Key, HostPattern>,
    names: Index<Arc<str>, HostPattern>,
}

impl Passthroughs {
    /// The hosts that are handed on to a Service.
    pub(super) fn of_service(&self, service: &Key) -> impl Iterator<Item = &HostPattern> {
        self.services.of(service)
    }

    /// The hosts for which a Service was looked for among the names of a namespace.
    pub(super) fn with_names(&self, namespace: &Arc<str>) -> impl Iterator<Item = &HostPattern> {
        self.names.of(namespace)
    }

    fn follow_needs(&mut self, host: &HostPattern, now: Needs) {
        let before = self.needs.remove(host).unwrap_or_default();
        self.services.replace(host, &before.services, &now.services);
        self.names.replace(host, &before.names, &now.names);
        if now != Needs::default() {
            self.needs.insert(host.clone(), now);
        }
    }
}

impl Engine {
    pub(super) fn make_passthroughs(&mut self, run: &mut Run<'_>) {
        // Which exact hosts are handed on counts for the wildcards above them.
        let hosts = std::mem::take(&mut run.work.hosts);
        let (exact, mut wildcards): (BTreeSet<_>, BTreeSet<_>) = hosts
            .into_iter()
            .partition(|host| matches!(host, HostPattern::Exact(_)));
        for host in &exact {
            self.make_passthrough(host, run);
            wildcards.extend(wildcard_above(host));
        }
        for host in &wildcards {
            self.make_passthrough(host, run);
        }
    }

    fn make_passthrough(&mut self, host: &HostPattern, run: &mut Run<'_>) {
        let is_wanted = |key: &Key| {
            let head = self.read.heads.get(key);
            head.is_some_and(|head| head.passthrough.contains(host))
        };
        let is_wanted = self.read.hosts.namers(host).any(is_wanted);
        if !is_wanted && !self.passthroughs.winners.contains_key(host) && !self.passthroughs.needs.contains_key(host) {
            // Somebody who may not have it may have been told so.
            self.ledger.set(&Part::Passthrough(host.clone()), Reports::default());
            return;
        }
        let mut reports = Reports::default();
        let mut backends = Backends::new(self.read.facts(run.world, run.options), run.memory);
        let served = self.read.served_on(host, run.world);
        let mut builder = Builder {
            hosts: &self.read.hosts,
            backends: &mut backends,
            reports: &mut reports,
        };
        let winner = builder.host(host, &served);
        let (uses, needs) = (backends.uses, backends.needs);
        let part = Part::Passthrough(host.clone());
        self.book.set(&part, uses, &mut run.work.endpoints);
        self.ledger.set(&part, reports);
        self.passthroughs.follow_needs(host, needs);
        self.put_passthrough(host, winner);
    }

    fn put_passthrough(&mut self, host: &HostPattern, winner: Option<(Key, Passthrough)>) {
        let before = self.passthroughs.winners.remove(host);
        if let Some((key, _)) = before.filter(|(before, _)| winner.as_ref().is_none_or(|(key, _)| key != before)) {
            self.output.passthrough(&name_of(&key, host), None);
        }
        if let Some((key, passthrough)) = winner {
            let below = self.read.hosts.all_below(host);
            let others = below.filter(|name| {
                let host = HostPattern::Exact((*name).clone());
                !self.passthroughs.winners.contains_key(&host)
            });
            let value = Passthrough {
                not_for: others.cloned().collect(),
                ..passthrough.clone()
            };
            self.output.passthrough(&name_of(&key, host), Some(Arc::new(value)));
            self.passthroughs.winners.insert(host.clone(), (key, passthrough));
        }
    }
}
