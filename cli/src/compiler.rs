//! World to IR, and what changed since the last time.

use propylon_kit::clock;
use propylon_model::{Delta, Report, Resources};
use propylon_translate::{Options, World};

use crate::local;

/// Compiles one world after the other.
#[derive(Debug)]
pub(crate) struct Compiler {
    compiler: propylon_translate::Compiler,
    /// What is perhaps live, where that is not known for sure.
    doubted: Option<Resources>,
}

/// What a compile gave.
#[derive(Debug)]
pub(crate) struct Step {
    /// What turns the resources of the last step into those of this one.
    pub(crate) delta: Delta,
    /// What there is to say about the objects.
    pub(crate) reports: Vec<Report>,
}

impl Compiler {
    /// A compiler that compiled nothing yet.
    pub(crate) fn new(options: Options) -> Self {
        Self {
            compiler: propylon_translate::Compiler::new(options),
            doubted: None,
        }
    }

    /// Notes that the last delta was perhaps not applied to its end; `live` is what is live as far as known. The next
    /// delta sets everything anew.
    pub(crate) fn doubt(&mut self, live: Resources) {
        self.doubted = Some(live);
    }

    /// Compiles a world at the present time.
    ///
    /// # Cost
    /// That of what changed, and a look at each object and address of the world.
    pub(crate) fn step(&mut self, world: &World) -> Step {
        let now_unix_s = i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX);
        self.compiler.follow(world);
        // Addresses come and go with interfaces.
        let local_addresses = local::of_machine(world.load_balancer_addresses());
        if self.compiler.options().local_addresses != local_addresses {
            self.compiler.set_options(Options {
                local_addresses,
                ..self.compiler.options().clone()
            });
        }
        let mut delta = self.compiler.compile(now_unix_s).delta;
        if let Some(live) = self.doubted.take() {
            delta = everything(&live, self.compiler.resources());
        }
        let reports = self.compiler.reports().values();
        Step {
            delta,
            reports: reports.flat_map(|reports| reports.iter()).cloned().collect(),
        }
    }

    /// What a linter says of the world of the last step, beyond the reports of that.
    ///
    /// # Cost
    /// n log n in the world.
    pub(crate) fn lint(&self, world: &World) -> Vec<Report> {
        propylon_translate::lint(world, self.compiler.options(), self.compiler.resources())
    }
}

/// Every resource of `wanted`, and the removal of what `live` has beyond them.
fn everything(live: &Resources, wanted: &Resources) -> Delta {
    let mut delta = Delta::between(&Resources::default(), wanted);
    let Delta {
        groups,
        pools,
        endpoints,
        certificates,
        l4,
        passthrough,
    } = Delta::between(live, wanted);
    delta.groups.extend(groups);
    delta.pools.extend(pools);
    delta.endpoints.extend(endpoints);
    delta.certificates.extend(certificates);
    delta.l4.extend(l4);
    delta.passthrough.extend(passthrough);
    delta
}

#[cfg(test)]
mod tests {
    use propylon_translate::{admit::admit, manifest::parse};

    use super::*;

    fn world(name: &str) -> World {
        let text = propylon_testkit::manifest::ingress("default", name)
            .prefix("h.example", "/", "web", 80)
            .yaml();
        let mut world = World::default();
        for object in parse(&text) {
            world.insert(admit(object.unwrap()).unwrap());
        }
        world
    }

    #[test]
    fn only_what_changed_is_in_a_delta() {
        let mut compiler = Compiler::new(Options::default());
        assert_eq!(compiler.step(&world("a")).delta.groups.len(), 1);
        assert!(compiler.step(&world("a")).delta.is_empty());
        assert_eq!(compiler.step(&world("b")).delta.groups.len(), 2);
    }

    #[test]
    fn after_a_doubt_everything_is_set_anew_and_the_rest_removed() {
        let mut compiler = Compiler::new(Options::default());
        compiler.step(&world("a"));
        let live = compiler.compiler.resources().clone();
        compiler.step(&world("b"));
        compiler.doubt(live);
        let delta = compiler.step(&world("b")).delta;
        let changes: Vec<bool> = delta.groups.values().map(Option::is_some).collect();
        assert_eq!(changes, [false, true]);
        assert!(compiler.step(&world("b")).delta.is_empty());
    }
}
