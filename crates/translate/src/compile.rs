//! The whole world to the whole of the IR.

use propylon_model::{Report, Resources};

use crate::{
    engine::{Changes, Engine},
    memory::Memory,
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
    memory.forget_deleted(world);
    let mut engine = Engine::default();
    engine.run(world, options, memory, &Changes::all(world));
    Compiled {
        reports: engine
            .reports()
            .values()
            .flat_map(|reports| reports.iter())
            .cloned()
            .collect(),
        resources: engine.into_resources(),
    }
}
