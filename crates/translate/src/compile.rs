//! The whole world to the whole of the IR.

use propylon_model::{Report, Resources};

use crate::{
    backends::Backends,
    classes, conflicts, groups, l4,
    memory::Memory,
    nginx::{self, Verdict},
    passthrough,
    reports::Reports,
    settings::{self, Settings},
    tls::{self, owners::Owners},
    world::{Options, World},
};

/// What a world compiles to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What the data plane is to do.
    pub resources: Resources,
    /// What there is to say about the objects, by object, reason and message, each once.
    pub reports: Vec<Report>,
}

/// Compiles a world. The same world, options and memory give the same result, in whatever order objects were inserted.
///
/// `memory` carries the last good version of what turned bad from one compile to the next; start with an empty one.
///
/// # Cost
/// Linear in the world (and a logarithm for its maps); certificates are parsed only when their Secret changed.
pub fn compile(world: &World, options: &Options, memory: &mut Memory) -> Compiled {
    let mut reports = Reports::default();
    memory.forget_deleted(world);
    let mut served = classes::served(world, options, &mut reports);
    served.retain_mut(|served| {
        served.settings = Settings::read(&served.object, &served.ingress.metadata, memory, &mut reports);
        match nginx::verdict(&served.object, served.ingress, &mut reports) {
            Verdict::Canary => return false,
            Verdict::Open => {}
            Verdict::Restricted(annotation) => served.restriction = Some(annotation),
        }
        true
    });
    let services = settings::of_services(world, memory, &mut reports);
    let owners = Owners::of(&served);
    let users = tls::Users {
        served: &served,
        owners: &owners,
        l4: &l4::secrets(world, &services),
    };
    let certificates = tls::compile(world, options, &users, memory, &mut reports);
    let mut backends = Backends::new(world, options, services, memory);
    let mut resources = Resources::default();
    for ingress in &served {
        resources
            .groups
            .extend(groups::of(ingress, &mut backends, &certificates, &mut reports));
    }
    resources.passthrough = passthrough::compile(world, &served, &owners, &mut backends, &mut reports);
    resources.l4 = l4::compile(world, options, &mut backends, &certificates, &mut reports);
    backends.report_empty(&mut reports);
    backends.report_without_tls(&served, &mut reports);
    backends.report_idle(&served, &mut reports);
    resources.pools = backends.pools;
    resources.endpoints = backends.endpoints;
    resources.certificates = certificates.by_name;
    conflicts::report(&resources, &mut reports);
    Compiled {
        resources,
        reports: reports.into_sorted(),
    }
}
