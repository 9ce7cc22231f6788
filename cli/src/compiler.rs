//! World to IR, and what changed since the last time.

use propylon_kit::clock;
use propylon_model::{Delta, Report, Resources};
use propylon_translate::{Memory, Options, World, compile};

/// Compiles one world after the other.
#[derive(Debug)]
pub(crate) struct Compiler {
    options: Options,
    memory: Memory,
    resources: Resources,
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
            options,
            memory: Memory::default(),
            resources: Resources::default(),
        }
    }

    /// Compiles a world at the present time.
    ///
    /// # Cost
    /// Linear in the world.
    pub(crate) fn step(&mut self, world: &World) -> Step {
        self.options.now_unix_s = i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX);
        let compiled = compile(world, &self.options, &mut self.memory);
        let delta = Delta::between(&self.resources, &compiled.resources);
        // What did not change keeps its allocation, so that the next comparison is quick.
        self.resources.apply(&delta);
        Step {
            delta,
            reports: compiled.reports,
        }
    }
}
