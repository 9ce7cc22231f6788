//! One compile after the other: changes of objects in, changes of resources and reports out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::{Delta, Kind, ObjectRef, Report, Resources};

use crate::{
    compile::compile,
    manifest::Object,
    memory::Memory,
    world::{Key, Options, World},
};

/// The reports of each object: all of them, in order, never an empty list.
pub type ReportsByObject = BTreeMap<ObjectRef, Arc<[Report]>>;

/// The objects whose reports changed, with all that there is to say about each now; an empty list: nothing any more.
pub type ReportChanges = BTreeMap<ObjectRef, Arc<[Report]>>;

/// What a compile gave, against the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What turns the resources of the last step into those of this one.
    pub delta: Delta,
    /// The reports that changed.
    pub reports: ReportChanges,
}

/// Keeps a world and what it compiles to.
///
/// Insert and remove admitted objects as events come in, then [`Compiler::compile`]: what comes out is what changed since
/// the last time. The result is the same as that of [`crate::compile`] on the same world, options and history.
#[derive(Debug, Default)]
pub struct Compiler {
    world: World,
    options: Options,
    memory: Memory,
    resources: Resources,
    reports: ReportsByObject,
}

impl Compiler {
    /// A compiler of an empty world that compiled nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Adds an admitted object, or replaces the one of its kind, namespace and name.
    pub fn insert(&mut self, object: Object) {
        self.world.insert(object);
    }

    /// Removes an object; whether it was there.
    pub fn remove(&mut self, kind: Kind, key: &Key) -> bool {
        self.world.remove(kind, key)
    }

    /// Takes over a whole world: what it holds beyond the present one is inserted, what it lacks is removed.
    ///
    /// # Cost
    /// Linear in the world; objects that share their allocation with the present ones are not compared.
    pub fn follow(&mut self, world: &World) {
        self.world = world.clone();
    }

    /// Changes the operator's settings; [`Options::now_unix_s`] does not count.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Compiles what changed since the last time; `now_unix_s` is the time in Unix seconds, for the validity of certificates.
    /// Compile from time to time (every hour is enough) even where nothing changed, so that a certificate that ends is
    /// noticed.
    pub fn compile(&mut self, now_unix_s: i64) -> Step {
        self.options.now_unix_s = now_unix_s;
        let compiled = compile(&self.world, &self.options, &mut self.memory);
        let delta = Delta::between(&self.resources, &compiled.resources);
        // What did not change keeps its allocation, so that the next comparison is quick.
        self.resources.apply(&delta);
        let mut by_object: BTreeMap<ObjectRef, Vec<Report>> = BTreeMap::new();
        for report in compiled.reports {
            by_object.entry(report.object.clone()).or_default().push(report);
        }
        let objects: BTreeSet<ObjectRef> = self.reports.keys().chain(by_object.keys()).cloned().collect();
        let mut reports = ReportChanges::new();
        for object in objects {
            let now: Arc<[Report]> = by_object.remove(&object).unwrap_or_default().into();
            if self.reports.get(&object).map_or(&[][..], |before| before) == &*now {
                continue;
            }
            if now.is_empty() {
                self.reports.remove(&object);
            } else {
                self.reports.insert(object.clone(), Arc::clone(&now));
            }
            reports.insert(object, now);
        }
        Step { delta, reports }
    }

    /// What is to be said about each object, as of the last compile.
    pub const fn reports(&self) -> &ReportsByObject {
        &self.reports
    }

    /// What the data plane is to do, as of the last compile.
    pub const fn resources(&self) -> &Resources {
        &self.resources
    }

    /// The objects.
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The operator's settings.
    pub const fn options(&self) -> &Options {
        &self.options
    }
}
