//! Which file gives which object, and the world that follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use propylon_model::{ObjectRef, Report, ReportReason};
use propylon_translate::{Key, World};

use super::content::Admitted;

/// The right of a file to give an object; the lowest wins: files that are there before those that have just vanished,
/// then the order of the paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    presence: Presence,
    path: Arc<Path>,
}

/// Whether a file is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Presence {
    /// It is.
    Present,
    /// It vanished a moment ago; its objects stay until it is sure that it does not come back.
    Vanished,
}

/// The claims of all files, and the world of the winners.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    world: World,
    claims: BTreeMap<ObjectRef, BTreeMap<Claim, Admitted>>,
    /// Objects with more than one claim.
    contested: BTreeSet<ObjectRef>,
}

impl Ledger {
    /// The winners.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// Replaces what a file gives. Returns whether the world changed.
    pub(super) fn replace(
        &mut self,
        path: &Arc<Path>,
        (old_presence, old): (Presence, &BTreeMap<ObjectRef, Admitted>),
        (new_presence, new): (Presence, &BTreeMap<ObjectRef, Admitted>),
    ) -> bool {
        let old_claim = Claim {
            presence: old_presence,
            path: Arc::clone(path),
        };
        let new_claim = Claim {
            presence: new_presence,
            path: Arc::clone(path),
        };
        for object in old.keys() {
            if let Some(claims) = self.claims.get_mut(object) {
                claims.remove(&old_claim);
            }
        }
        for (object, admitted) in new {
            self.claims
                .entry(object.clone())
                .or_default()
                .insert(new_claim.clone(), Arc::clone(admitted));
        }
        let touched: BTreeSet<&ObjectRef> = old.keys().chain(new.keys()).collect();
        let mut changed = false;
        for object in touched {
            changed |= self.settle(object);
        }
        changed
    }

    /// One report for each claim that loses to a file that is there.
    pub(super) fn reports(&self) -> Vec<Report> {
        let contested = self
            .contested
            .iter()
            .filter_map(|object| Some((object, self.claims.get(object)?)));
        contested
            .flat_map(|(object, claims)| {
                let mut present = claims.keys().filter(|claim| claim.presence == Presence::Present);
                let winner = present
                    .next()
                    .map(|claim| PathBuf::from(&*claim.path))
                    .unwrap_or_default();
                present.map(move |loser| {
                    let message = format!(
                        "it stands in {} and in {}; the first path in order wins, remove the other one",
                        winner.display(),
                        loser.path.display()
                    );
                    Report::new(object.clone(), ReportReason::DuplicateObject, message)
                })
            })
            .collect()
    }

    /// Brings the world in line with the claims on one object.
    fn settle(&mut self, object: &ObjectRef) -> bool {
        let claims = self.claims.get(object).filter(|claims| !claims.is_empty());
        if claims.is_some_and(|claims| claims.len() > 1) {
            self.contested.insert(object.clone());
        } else {
            self.contested.remove(object);
        }
        if let Some(winner) = claims.and_then(|claims| claims.values().next()) {
            return adopt(&mut self.world, winner);
        }
        self.claims.remove(object);
        let key = Key::new(Arc::clone(&object.namespace), Arc::clone(&object.name));
        self.world.remove(object.kind, &key)
    }
}

/// Puts the one object of `alone` into the world. Returns whether it is another than the one there.
fn adopt(world: &mut World, alone: &World) -> bool {
    fn share<T: PartialEq>(to: &mut BTreeMap<Key, Arc<T>>, from: &BTreeMap<Key, Arc<T>>) -> bool {
        from.iter().fold(false, |changed, (key, value)| {
            // The one that is there stays where it is equal, so that what was made of it is known to be still good.
            let same = to
                .get(key)
                .is_some_and(|before| Arc::ptr_eq(before, value) || before == value);
            if !same {
                to.insert(key.clone(), Arc::clone(value));
            }
            changed || !same
        })
    }
    // Taken apart, so that a kind that comes anew does not compile before it is shared.
    let World {
        config_maps,
        endpoint_slices,
        ingress_classes,
        ingresses,
        nodes,
        pods,
        reference_grants,
        secrets,
        services,
    } = alone;
    let changes = [
        share(&mut world.config_maps, config_maps),
        share(&mut world.endpoint_slices, endpoint_slices),
        share(&mut world.ingress_classes, ingress_classes),
        share(&mut world.ingresses, ingresses),
        share(&mut world.nodes, nodes),
        share(&mut world.pods, pods),
        share(&mut world.reference_grants, reference_grants),
        share(&mut world.secrets, secrets),
        share(&mut world.services, services),
    ];
    changes.contains(&true)
}
