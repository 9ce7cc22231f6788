//! One compile after the other: changes of objects in, changes of resources and reports out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use propylon_model::{Delta, Kind, ObjectRef, Report, Resources};

use crate::{
    engine::{Changes, Engine},
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
    engine: Engine,
    changes: Changes,
    state: State,
}

/// Whether what was made of the world so far is still good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It is, but for the changes.
    #[default]
    Good,
    /// The options changed.
    Outdated,
    /// A compile did not come to its end.
    Torn,
}

impl Compiler {
    /// A compiler of an empty world that compiled nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            ..Self::default()
        }
    }

    /// Adds an admitted object, or replaces the one of its kind, namespace and name; an equal one changes nothing.
    pub fn insert(&mut self, object: Object) {
        if let Some((kind, key)) = self.world.put(object) {
            self.changes.add(kind, key);
        }
    }

    /// Removes an object; whether it was there.
    pub fn remove(&mut self, kind: Kind, key: &Key) -> bool {
        let was_there = self.world.remove(kind, key);
        if was_there {
            self.changes.add(kind, key.clone());
        }
        was_there
    }

    /// Takes over a whole world: what it holds beyond the present one is inserted, what it lacks is removed.
    ///
    /// # Cost
    /// Linear in the world; objects that share their allocation with the present ones are not compared.
    pub fn follow(&mut self, world: &World) {
        self.world.follow(world, &mut self.changes);
    }

    /// Changes the operator's settings; [`Options::now_unix_s`] does not count.
    ///
    /// # Cost
    /// The next compile makes everything anew, unless [`Options::local_addresses`] alone changed.
    pub fn set_options(&mut self, options: Options) {
        let options = Options {
            now_unix_s: self.options.now_unix_s,
            ..options
        };
        if options == self.options {
            return;
        }
        let elsewhere = Options {
            local_addresses: options.local_addresses.clone(),
            ..self.options.clone()
        };
        if options == elsewhere {
            self.changes.local_addresses = true;
        } else if self.state == State::Good {
            self.state = State::Outdated;
        }
        self.options = options;
    }

    /// Compiles what changed since the last time; `now_unix_s` is the time in Unix seconds, for the validity of certificates.
    /// Compile from time to time (every hour is enough) even where nothing changed, so that a certificate that ends is
    /// noticed. After a panic in here the next call makes everything anew, and compares it with what was last returned.
    ///
    /// # Cost
    /// That of what depends on the changes; linear in the world after a change of the options.
    pub fn compile(&mut self, now_unix_s: i64) -> Step {
        self.options.now_unix_s = now_unix_s;
        let state = std::mem::replace(&mut self.state, State::Torn);
        let changes = std::mem::take(&mut self.changes);
        let (delta, reports) = match state {
            State::Good => self.engine.run(&self.world, &self.options, &mut self.memory, &changes),
            State::Outdated | State::Torn => self.rebuild(),
        };
        self.state = State::Good;
        Step { delta, reports }
    }

    /// Makes everything anew.
    fn rebuild(&mut self) -> (Delta, ReportChanges) {
        self.memory.forget_deleted(&self.world);
        let mut engine = Engine::default();
        engine.run(&self.world, &self.options, &mut self.memory, &Changes::all(&self.world));
        // Taken back here, so that a panic above leaves what was last returned.
        self.engine.roll_back();
        let delta = Delta::between(self.engine.resources(), engine.resources());
        let gone = self
            .engine
            .reports()
            .keys()
            .filter(|object| !engine.reports().contains_key(*object));
        let mut reports: ReportChanges = gone.map(|object| (object.clone(), Arc::default())).collect();
        let now = engine.reports().iter();
        let changed = now.filter(|(object, now)| self.engine.reports().get(*object) != Some(*now));
        reports.extend(changed.map(|(object, now)| (object.clone(), Arc::clone(now))));
        self.engine = engine;
        (delta, reports)
    }

    /// The objects of a kind that are named by others, by an annotation or by a flag, whether they exist or not, as of the
    /// last compile: Secrets and config maps, and the pods that are to prove the address of an endpoint. Of these kinds nothing else needs to be known.
    ///
    /// # Cost
    /// Linear in their number.
    pub fn referenced(&self, kind: Kind) -> BTreeSet<Key> {
        match kind {
            Kind::ConfigMap => {
                let flags = [&self.options.tcp_services, &self.options.udp_services];
                flags.into_iter().flatten().cloned().collect()
            }
            Kind::Pod => self.engine.pods().cloned().collect(),
            Kind::Secret => {
                let default = self.options.default_tls_secret.iter();
                self.engine.secrets().chain(default).cloned().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// What is to be said about each object, as of the last compile.
    pub const fn reports(&self) -> &ReportsByObject {
        self.engine.reports()
    }

    /// What the data plane is to do, as of the last compile.
    pub const fn resources(&self) -> &Resources {
        self.engine.resources()
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
