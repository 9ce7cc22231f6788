//! A proxy: a mirror, and something that applies, with the checks of every step.

use std::collections::BTreeSet;

use propylon_model::{Action, Delta, Resources};

use super::world::{POISON, World};
use crate::{
    key::{ResourceKey, ResourceKind},
    message::{Request, Response},
    mirror::{Apply, Mirror},
    proxy::Rejection,
    snapshot, value,
};

/// A proxy.
#[derive(Default)]
pub(super) struct Proxy {
    pub(super) mirror: Mirror,
    tables: Tables,
    /// How many resources and removals came.
    pub(super) received: usize,
}

/// What serves: refuses what is poisoned.
#[derive(Default)]
struct Tables {
    live: Resources,
}

impl Apply for Tables {
    fn apply(&mut self, delta: &Delta) -> Vec<Rejection> {
        let mut taken = delta.clone();
        let mut rejections = Vec::new();
        for (key, value) in value::changes(delta) {
            if value.is_some_and(|value| is_poison(&value)) {
                value::take_out(&mut taken, &key);
                rejections.push(Rejection {
                    key,
                    message: "poison".into(),
                });
            }
        }
        self.live.apply(&taken);
        if rejections.is_empty() {
            assert_eq!(
                homeless(&self.live),
                BTreeSet::new(),
                "a route names a pool that never came"
            );
        }
        rejections
    }

    fn committed(&mut self, mirror: &Mirror) {
        assert_eq!(*mirror.resources(), self.live, "mirror and tables agree");
        assert_eq!(
            homeless(&self.live),
            BTreeSet::new(),
            "a route names a pool that is not there"
        );
    }
}

impl Proxy {
    pub(super) fn receive(&mut self, response: Response) -> Vec<Request> {
        self.received += response.resources.len() + response.removed.len();
        self.mirror
            .receive(response, &mut self.tables)
            .expect("the controller keeps to the protocol")
    }

    /// Starts again from its snapshot.
    pub(super) fn restart(&mut self) {
        let bytes = snapshot::encode(self.mirror.resources()).expect("it can be encoded");
        let resources = snapshot::decode(bytes.into()).expect("it can be decoded");
        assert_eq!(resources, self.tables.live);
        self.mirror = Mirror::of(resources);
    }

    /// The state is the world's, but for what was not taken.
    pub(super) fn check(&self, world: &World) {
        let rejected: BTreeSet<_> = self.mirror.rejected().map(|rejection| rejection.key).collect();
        let mut cascade = BTreeSet::new();
        for (key, value) in value::all(&world.resources) {
            let is_bad = is_poison(&value) || world.garbled.contains(&key);
            assert!(!is_bad || rejected.contains(&key), "{key} is bad, and not rejected");
            if rejected.contains(&key) {
                if !is_bad {
                    cascade.insert(key);
                }
                continue;
            }
            assert_eq!(value::find(&self.tables.live, &key), Some(value), "{key}");
        }
        check_cascade(&cascade, &rejected, world);
        for (key, _) in value::all(&self.tables.live) {
            let is_there = value::find(&world.resources, &key).is_some();
            assert!(
                is_there || self.mirror.withheld().contains(&key),
                "{key} should be gone"
            );
        }
        let names = rejected.iter().all(|key| value::find(&world.resources, key).is_some());
        assert!(names, "something that is gone is rejected");
        if rejected.is_empty() {
            assert!(self.mirror.withheld().is_empty(), "nothing needs what is gone");
            assert_eq!(self.tables.live, world.resources);
        }
    }
}

/// Good resources are rejected only where a pool that they name is bad.
fn check_cascade(cascade: &BTreeSet<ResourceKey>, rejected: &BTreeSet<ResourceKey>, world: &World) {
    for key in cascade {
        let group = value::find(&world.resources, key).expect("it is there");
        let mut names_bad = false;
        group.for_each_reference(|kind, name| {
            names_bad |= rejected.contains(&ResourceKey::new(kind, name));
        });
        assert!(
            key.kind == ResourceKind::RouteGroup && names_bad,
            "{key} is good, and rejected"
        );
    }
}

fn is_poison(value: &value::Value) -> bool {
    match value {
        value::Value::Pool(pool) => pool.port == POISON,
        value::Value::RouteGroup(group) => group.created_unix_s == Some(POISON.into()),
        _ => false,
    }
}

/// Route groups that name a pool which is not there.
fn homeless(resources: &Resources) -> BTreeSet<String> {
    let mut homeless = BTreeSet::new();
    for (name, group) in &resources.groups {
        for rule in &group.rules {
            if let Action::Forward(pool) = &rule.action
                && !resources.pools.contains_key(pool)
            {
                homeless.insert(name.to_string());
            }
        }
    }
    homeless
}
