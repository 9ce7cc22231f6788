//! The ports of Services and config maps that are forwarded as they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::{L4Protocol, L4ServiceName};

use super::{Engine, Index, Part, Run};
use crate::{
    backends::{Backends, User},
    facts::Needs,
    l4::{self, Candidate, Compile, Source},
    reports::Reports,
    world::Key,
};

/// A protocol and a port number.
pub(super) type Port = (L4Protocol, u16);

/// What each source gave, and who has which port.
#[derive(Debug, Default)]
pub(super) struct Layer4 {
    sources: BTreeMap<Source, (Vec<Candidate>, Needs)>,
    services: Index<Key, Source>,
    names: Index<Arc<str>, Source>,
    wanted: Index<Port, Source>,
    served: BTreeMap<Port, BTreeSet<L4ServiceName>>,
}

impl Layer4 {
    /// The sources that name a Service.
    pub(super) fn of_service(&self, service: &Key) -> impl Iterator<Item = &Source> {
        self.services.of(service)
    }

    /// The sources that looked for a Service among the names of a namespace.
    pub(super) fn with_names(&self, namespace: &Arc<str>) -> impl Iterator<Item = &Source> {
        self.names.of(namespace)
    }
}

impl Engine {
    pub(super) fn make_layer4(&mut self, run: &mut Run<'_>) {
        let flags = [
            (L4Protocol::Tcp, &run.options.tcp_services),
            (L4Protocol::Udp, &run.options.udp_services),
        ];
        for (protocol, key) in flags {
            let changed = key.as_ref().is_some_and(|key| run.changes.config_maps.contains(key));
            if changed || !self.begun {
                run.work.sources.insert(Source::ConfigMap(protocol));
            }
        }
        if run.changes.local_addresses {
            let services = run.world.services.keys().cloned();
            run.work.sources.extend(services.map(Source::Service));
        }
        for source in std::mem::take(&mut run.work.sources) {
            self.make_source(source, run);
        }
        for port in std::mem::take(&mut run.work.ports) {
            self.serve_port(port, run);
        }
    }

    fn make_source(&mut self, source: Source, run: &mut Run<'_>) {
        let mut reports = Reports::default();
        let mut backends = Backends::new(self.read.facts(run.world, run.options), run.memory);
        let mut compile = Compile {
            backends: &mut backends,
            certificates: &self.certificates,
            reports: &mut reports,
        };
        let candidates = compile.candidates(&source);
        let needs = backends.needs;
        self.ledger.set(&Part::Source(source.clone()), reports);
        let (old, before) = self.layer4.sources.remove(&source).unwrap_or_default();
        let ports = |candidates: &[Candidate]| -> BTreeSet<Port> {
            let ports = candidates
                .iter()
                .map(|candidate| (candidate.l4.protocol, candidate.l4.port));
            ports.collect()
        };
        let (old, new) = (ports(&old), ports(&candidates));
        self.layer4.wanted.replace(&source, &old, &new);
        self.layer4.services.replace(&source, &before.services, &needs.services);
        self.layer4.names.replace(&source, &before.names, &needs.names);
        run.work.ports.extend(old.into_iter().chain(new));
        if !candidates.is_empty() || needs != Needs::default() {
            self.layer4.sources.insert(source, (candidates, needs));
        }
    }

    fn serve_port(&mut self, port: Port, run: &mut Run<'_>) {
        let sources = self.layer4.wanted.of(&port);
        let candidates = sources.filter_map(|source| self.layer4.sources.get(source));
        let candidates = candidates.flat_map(|(candidates, _)| candidates);
        let candidates = candidates.filter(|candidate| (candidate.l4.protocol, candidate.l4.port) == port);
        let mut reports = Reports::default();
        let served = l4::serve(candidates.collect(), &run.options.taken, &mut reports);
        let mut backends = Backends::new(self.read.facts(run.world, run.options), run.memory);
        let mut names = BTreeSet::new();
        for (candidate, l4) in served {
            let user = User::L4(format!("port {}", l4::listening(&l4)));
            backends.add_endpoints(&candidate.service, &candidate.port, user);
            names.insert(candidate.name.clone());
            self.output.l4(&candidate.name, Some(Arc::new(l4)));
        }
        let part = Part::Claim(port.0, port.1);
        self.book.set(&part, backends.uses, &mut run.work.endpoints);
        self.ledger.set(&part, reports);
        let before = self.layer4.served.remove(&port).unwrap_or_default();
        for gone in before.difference(&names) {
            self.output.l4(gone, None);
        }
        if !names.is_empty() {
            self.layer4.served.insert(port, names);
        }
    }
}
