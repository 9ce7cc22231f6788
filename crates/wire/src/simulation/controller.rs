//! A controller: a store that lags behind the world, and a session.

use std::collections::{BTreeSet, VecDeque};

use propylon_model::{Delta, Resources};

use super::world::World;
use crate::{
    encoded::Encoded,
    key::ResourceKey,
    message::{Request, Response},
    publisher::store::Store,
    session::{Event, Limits, Session},
    value::{self, Value},
    version::Generation,
};

/// A controller.
pub(super) struct Controller {
    pub(super) store: Store,
    session: Session,
    /// What it has not learned yet, and which resources are unreadable by then.
    pub(super) behind: VecDeque<(Delta, BTreeSet<ResourceKey>)>,
    /// What the proxy acknowledged last.
    pub(super) acknowledged: Option<Generation>,
    limits: Limits,
    /// Where the transaction that is under way stands in the order of makes and breaks.
    place: (u64, bool, u32),
}

impl Controller {
    pub(super) fn new(world: &World, rng: &mut fastrand::Rng) -> Self {
        let limits = Limits {
            part_bytes: rng.usize(1..3000),
        };
        let mut controller = Self {
            store: Store::with_tombstones(rng.usize(0..8)),
            session: Session::new(limits),
            behind: VecDeque::new(),
            acknowledged: None,
            limits,
            place: (0, false, 0),
        };
        controller.publish_all(world);
        controller
    }

    /// Starts again with what the cluster is now.
    pub(super) fn restart(&mut self, world: &World) {
        self.store = Store::with_tombstones(4);
        self.behind.clear();
        self.accept();
        self.publish_all(world);
    }

    /// A connection comes in.
    pub(super) fn accept(&mut self) {
        self.session = Session::new(self.limits);
        self.acknowledged = None;
        self.place = (0, false, 0);
    }

    fn publish_all(&mut self, world: &World) {
        self.store.apply(Vec::new());
        let all = Delta::between(&Resources::default(), &world.resources);
        self.publish(&all, &world.garbled);
    }

    /// Learns of the oldest change that it has not learned of.
    pub(super) fn learn(&mut self) {
        if let Some((delta, garbled)) = self.behind.pop_front() {
            self.publish(&delta, &garbled);
        }
    }

    fn publish(&mut self, delta: &Delta, garbled: &BTreeSet<ResourceKey>) {
        let encode = |(key, value): (ResourceKey, Option<Value>)| {
            let encoded = value.map(|value| {
                if garbled.contains(&key) {
                    Encoded::of_payload(key.clone(), "{".into())
                } else {
                    Encoded::new(key.clone(), &value).expect("it can be encoded")
                }
            });
            (key, encoded)
        };
        self.store.apply(value::changes(delta).map(encode).collect());
    }

    pub(super) fn poll(&mut self) -> Option<Response> {
        let response = self.session.poll(&self.store)?;
        self.check_order(&response);
        Some(response)
    }

    pub(super) fn receive(&mut self, request: Request) {
        let event = self.session.receive(request).expect("the proxy keeps to the protocol");
        if let Event::Acknowledged(generation, _, _) = event {
            assert!(self.acknowledged <= Some(generation), "acknowledgements go back");
            self.acknowledged = Some(generation);
        }
    }

    /// Make before break: within a transaction what is referred to comes first, then removals the other way round.
    fn check_order(&mut self, response: &Response) {
        let puts = response.resources.iter().map(|resource| (false, resource.kind));
        let removals = response.removed.iter().map(|name| (true, u32::MAX - name.kind));
        if self.place.0 != response.transaction && response.commit.is_some() && self.place.0 != 0 {
            // One that overtakes, or a transaction of one part.
            assert!(puts.chain(removals).is_sorted());
            return;
        }
        for (is_removal, place) in puts.chain(removals) {
            let next = (response.transaction, is_removal, place);
            assert!(self.place <= next, "{next:?} after {:?}", self.place);
            self.place = next;
        }
        if response.commit.is_some() {
            self.place = (0, false, 0);
        }
    }
}
