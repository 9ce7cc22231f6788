//! The parts of a compile, kept from one to the next, and made anew only where something changed that they are made of.
//!
//! A part is made by a pure function of objects and of other parts: the same functions make everything from nothing
//! ([`crate::compile`]) and one change in a large world. What a part needed is noted while it is made and kept in indexes
//! that are read backwards. The phases run in one order, each looking only at what the ones before it marked:
//!
//! 1. `heads`: which Ingresses are served, their annotations, the annotations of Services, who owns which host.
//! 2. `secrets`: which Secret is wanted for which hosts, the certificates and their ranks.
//! 3. `routes`: the groups and pools of an Ingress.
//! 4. `passthrough`: the Ingress that TLS of a host is handed on for.
//! 5. `layer4`: the ports of a Service or config map, and who of several has a port.
//! 6. `book`: the addresses of Service ports.
//! 7. `routes` again: conflicts on a host, and annotations of Services that nothing makes use of.

use std::collections::{BTreeMap, BTreeSet};

use propylon_model::{Delta, EndpointsName, HostPattern, Resources};

use crate::{
    compiler::{ReportChanges, ReportsByObject},
    endpoints::{NodeAddresses, Slices},
    facts::{Facts, ServiceSettings},
    l4::Source,
    memory::Memory,
    tls::{Certificates, owners::Hosts},
    world::{Key, Options, World},
};

mod book;
mod changes;
mod heads;
mod index;
mod layer4;
mod output;
mod part;
mod passthrough;
mod routes;
mod secrets;

pub(crate) use changes::Changes;
pub(crate) use index::Index;

use book::Book;
use heads::Head;
use layer4::Layer4;
use output::Output;
use part::{Ledger, Part};
use passthrough::Passthroughs;
use routes::Routes;
use secrets::Wanted;

/// What was read from the objects one by one.
#[derive(Debug, Default)]
struct Read {
    /// The Ingresses that are served.
    heads: BTreeMap<Key, Head>,
    services: ServiceSettings,
    slices: Slices,
    nodes: NodeAddresses,
    hosts: Hosts,
}

/// Everything that was made of a world.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    read: Read,
    wanted: Wanted,
    certificates: Certificates,
    routes: Routes,
    passthroughs: Passthroughs,
    layer4: Layer4,
    book: Book,
    output: Output,
    ledger: Ledger,
    /// Whether something was compiled already.
    begun: bool,
}

/// What one run compiles, and what is still to be made anew in it.
struct Run<'a> {
    world: &'a World,
    options: &'a Options,
    memory: &'a mut Memory,
    changes: &'a Changes,
    work: Work,
}

/// The parts to be made anew.
#[derive(Debug, Default)]
struct Work {
    /// Ingresses whose Secrets are to be looked at.
    claims: BTreeSet<Key>,
    /// Ports that L4 ports may compete for.
    ports: BTreeSet<layer4::Port>,
    conflicts: BTreeSet<HostPattern>,
    endpoints: BTreeSet<EndpointsName>,
    /// Hosts whose TLS may be handed on.
    hosts: BTreeSet<HostPattern>,
    /// Services whose annotations may be without effect.
    idle: BTreeSet<Key>,
    /// Ingresses whose groups and pools are to be made.
    routes: BTreeSet<Key>,
    secrets: BTreeSet<Key>,
    sources: BTreeSet<Source>,
}

impl Read {
    /// What parts are made of.
    const fn facts<'a>(&'a self, world: &'a World, options: &'a Options) -> Facts<'a> {
        Facts {
            world,
            options,
            services: &self.services,
            slices: &self.slices,
            nodes: &self.nodes,
        }
    }
}

impl Engine {
    /// Makes anew what the changes make other. With other options than before, or with changes of the world that are not
    /// named, the result is wrong: start from nothing then.
    pub(crate) fn run(
        &mut self,
        world: &World,
        options: &Options,
        memory: &mut Memory,
        changes: &Changes,
    ) -> (Delta, ReportChanges) {
        let mut run = Run {
            world,
            options,
            memory,
            changes,
            work: Work::default(),
        };
        self.read_objects(&mut run);
        self.make_certificates(&mut run);
        self.make_routes(&mut run);
        self.make_passthroughs(&mut run);
        self.make_layer4(&mut run);
        self.make_endpoints(&mut run);
        self.report_conflicts(&run);
        self.report_idle(&run);
        self.begun = true;
        (self.output.take_delta(), self.ledger.changes())
    }

    /// Forgets what a run that did not come to its end changed of the resources.
    pub(crate) fn roll_back(&mut self) {
        self.output.roll_back();
    }

    /// Every Secret that an Ingress or a Service names, there or not.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = &Key> {
        self.wanted.secrets().chain(self.routes.secrets())
    }

    /// The pods that are to prove that an address of a node is theirs.
    pub(crate) fn pods(&self) -> impl Iterator<Item = &Key> {
        self.book.pods()
    }

    /// What was made.
    pub(crate) const fn resources(&self) -> &Resources {
        self.output.resources()
    }

    /// As [`Self::resources`].
    pub(crate) fn into_resources(self) -> Resources {
        self.output.into_resources()
    }

    /// What there is to say of each object.
    pub(crate) const fn reports(&self) -> &ReportsByObject {
        self.ledger.by_object()
    }
}
