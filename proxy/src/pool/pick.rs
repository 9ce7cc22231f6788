//! The pick: affinity, then the algorithm of the policy, among those that have room and were not tried.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::atomic::Ordering::Relaxed,
};

use http::{header, request::Parts};
use propylon_model::{Affinity, Algorithm, HashOn, PoolPolicy};

use super::{LocalEndpoint, LocalPool, eligible::warmth, view::View};
use crate::{
    balance::{
        hash, power_of_two, round_robin,
        two_choices::{Load, Pair, of_two, warm_contest},
    },
    config::millis,
    endpoint_state::process_ms,
    worker::Worker,
};

/// What is known of the request, or connection, that needs an endpoint.
pub(crate) struct Wanted<'a> {
    /// The client's address.
    pub(crate) client: IpAddr,
    /// The request's head; none at layer 4.
    pub(crate) head: Option<&'a Parts>,
    /// Where the client's affinity cookie leads.
    pub(crate) sticky: Option<SocketAddr>,
    /// Whether it needs a connection to itself, as upgrades do.
    pub(crate) own_connection: bool,
    /// Where it was tried before.
    pub(crate) tried: &'a [SocketAddr],
}

/// The answer to it.
pub(crate) enum Picked {
    /// The endpoint to use.
    Endpoint(Rc<LocalEndpoint>),
    /// There are endpoints, and all have as much to do as they may.
    Full,
    /// There is no endpoint.
    Nobody,
}

impl LocalPool {
    /// An endpoint that was not tried yet, else any.
    ///
    /// # Cost
    /// Constant for two choices and Maglev, linear in the endpoints for weighted round robin and where hardly any endpoint
    /// has room.
    pub(crate) fn pick(&self, worker: &Worker, wanted: &Wanted<'_>) -> Picked {
        self.refresh();
        let view = self.view.borrow();
        if !view.is_plain || !wanted.tried.is_empty() {
            return self.pick_by_policy(&view, worker, wanted);
        }
        let candidates = &*view.candidates;
        let load = |index: usize| candidates.get(index).map_or(u32::MAX, |endpoint| endpoint.active.get());
        power_of_two(candidates.len(), worker.random_u64(), load, |_| true)
            .and_then(|index| candidates.get(index))
            .map_or(Picked::Nobody, |endpoint| Picked::Endpoint(Rc::clone(endpoint)))
    }

    #[inline(never)]
    fn pick_by_policy(&self, view: &View, worker: &Worker, wanted: &Wanted<'_>) -> Picked {
        let policy = &self.handle.spec.policy;
        let choice = Choice {
            pool: self,
            view,
            policy,
            worker,
            wanted,
        };
        let has_room = |endpoint: &LocalEndpoint| endpoint.has_room(&policy.limits, wanted.own_connection);
        let is_fresh = |endpoint: &LocalEndpoint| has_room(endpoint) && !wanted.tried.contains(&endpoint.address);
        let is_sound =
            |endpoint: &LocalEndpoint| is_fresh(endpoint) && endpoint.state.failures_in_a_row.load(Relaxed) == 0;
        let found = if wanted.tried.is_empty() {
            choice.make(&has_room)
        } else {
            // Who failed once should not fail again because of whom it is sent to.
            choice
                .make(&is_sound)
                .or_else(|| choice.make(&is_fresh))
                .or_else(|| choice.make(&has_room))
        };
        match found {
            Some(endpoint) => Picked::Endpoint(Rc::clone(endpoint)),
            None if view.all.is_empty() => Picked::Nobody,
            None => Picked::Full,
        }
    }
}

/// One pick.
struct Choice<'a> {
    pool: &'a LocalPool,
    view: &'a View,
    policy: &'a PoolPolicy,
    worker: &'a Worker,
    wanted: &'a Wanted<'a>,
}

/// Whether an endpoint may be taken.
type Usable<'a> = dyn Fn(&LocalEndpoint) -> bool + 'a;

impl<'a> Choice<'a> {
    fn make(&self, usable: &Usable<'_>) -> Option<&'a Rc<LocalEndpoint>> {
        match &self.policy.affinity {
            Affinity::None => {}
            Affinity::ClientIp(timeout) => return self.by_client(millis(*timeout), usable),
            Affinity::Cookie(_) => {
                if let Some(bound) = self.bound(usable) {
                    return Some(bound);
                }
            }
        }
        let found = match self.policy.algorithm {
            Algorithm::LeastRequest => self.by_requests(usable),
            Algorithm::Ewma => self.by_latency(usable),
            Algorithm::RoundRobin => self.in_turn(usable),
            Algorithm::Maglev => {
                return self.by_hash(hash_key(self.policy, self.wanted.client, self.wanted.head), usable);
            }
        };
        found.or_else(|| self.elsewhere(usable))
    }

    /// The endpoint that the client's cookie names.
    fn bound(&self, usable: &Usable<'_>) -> Option<&'a Rc<LocalEndpoint>> {
        let address = self.wanted.sticky?;
        let (place, endpoint) = self
            .view
            .all
            .iter()
            .enumerate()
            .find(|(_, endpoint)| endpoint.address == address)?;
        (self.is_usable(place) && usable(endpoint)).then_some(endpoint)
    }

    /// Where the client was sent before, else where the hash of its address leads. Who is bound to an endpoint that is full,
    /// or was tried in vain, goes elsewhere for this once, and is bound anew when the endpoint may not be used any more.
    fn by_client(&self, timeout_ms: u64, usable: &Usable<'_>) -> Option<&'a Rc<LocalEndpoint>> {
        let clients = self.pool.handle.endpoints.clients();
        let (client, now_ms) = (self.wanted.client, process_ms());
        let bound = clients
            .find(client, now_ms, timeout_ms)
            .and_then(|identity| self.place_of(identity, client));
        let found = match bound {
            Some(endpoint) if usable(endpoint) => Some(endpoint),
            Some(_) => return self.by_hash(hash::client(client), usable),
            None => self.by_hash(hash::client(client), usable),
        };
        if let Some(endpoint) = found {
            clients.bind(client, hash::endpoint(endpoint.address, 0), now_ms);
        }
        found
    }

    /// The endpoint of an identity, while it may be used; mostly the one that the client's hash leads to.
    fn place_of(&self, identity: u64, client: IpAddr) -> Option<&'a Rc<LocalEndpoint>> {
        let is_it = |endpoint: &LocalEndpoint| hash::endpoint(endpoint.address, 0) == identity;
        let first = self.by_hash(hash::client(client), &|_| true);
        first.filter(|endpoint| is_it(endpoint)).or_else(|| {
            let mut all = self.view.all.iter().enumerate();
            all.find(|(place, endpoint)| is_it(endpoint) && self.is_usable(*place))
                .map(|(_, endpoint)| endpoint)
        })
    }

    fn by_requests(&self, usable: &Usable<'_>) -> Option<&'a Rc<LocalEndpoint>> {
        let load = |index: usize| Load {
            active: self.candidate(index).map_or(u32::MAX, |endpoint| endpoint.active.get()),
            weight: self.view.weights.get(index).copied().unwrap_or(1),
        };
        self.of_two(usable, |challenger, incumbent| load(challenger).beats(load(incumbent)))
    }

    fn by_latency(&self, usable: &Usable<'_>) -> Option<&'a Rc<LocalEndpoint>> {
        let now_us = self.worker.now_us();
        let cost = |index: usize| {
            self.candidate(index).map_or(f64::INFINITY, |endpoint| {
                let share = self.view.share(index);
                endpoint.latency.get().cost(endpoint.active.get(), share, now_us)
            })
        };
        self.of_two(usable, |challenger, incumbent| cost(challenger) < cost(incumbent))
    }

    fn of_two(&self, usable: &Usable<'_>, beats: impl Fn(usize, usize) -> bool) -> Option<&'a Rc<LocalEndpoint>> {
        let count = self.view.candidates.len();
        let random = self.worker.random_u64();
        let pair = match &self.view.shares {
            Some(shares) => shares.draw(random)?,
            None if count < 2 => Pair { first: 0, second: 0 },
            None => Pair::uniform(count, random),
        };
        let may_use = |index: usize| self.candidate(index).is_some_and(|endpoint| usable(endpoint));
        let index = of_two(pair, count, may_use, |pair| {
            if self.view.is_cold {
                let dice = u32::try_from(self.worker.random_u64() >> 32).unwrap_or(0);
                let now_ms = process_ms();
                warm_contest(pair, dice, beats, |index| self.warmth(index, now_ms))
            } else if beats(pair.second, pair.first) {
                pair.second
            } else {
                pair.first
            }
        })?;
        self.candidate(index)
    }

    fn in_turn(&self, usable: &Usable<'_>) -> Option<&'a Rc<LocalEndpoint>> {
        let count = self.view.candidates.len();
        let may_use = |index: usize| self.candidate(index).is_some_and(|endpoint| usable(endpoint));
        let index = if self.view.shares.is_none() && !self.view.is_cold {
            let cursor = &self.pool.group.cursor;
            let (index, next) = round_robin::in_turn(count, cursor.get(), may_use)?;
            cursor.set(next);
            index
        } else {
            let now_ms = process_ms();
            let weight = |index: usize| match self.view.weights.get(index) {
                Some(weight) if may_use(index) => scaled(*weight, self.warmth(index, now_ms)),
                _ => 0,
            };
            round_robin::smooth(count, weight, |index| {
                self.candidate(index).map(|endpoint| &endpoint.credit)
            })?
        };
        self.candidate(index)
    }

    fn by_hash(&self, key: u64, usable: &Usable<'_>) -> Option<&'a Rc<LocalEndpoint>> {
        let all = &self.view.all;
        let may_use = |place: usize| self.is_usable(place) && all.get(place).is_some_and(|endpoint| usable(endpoint));
        let table = self.view.list.table();
        all.get(table.find(key, all.len(), may_use)?)
    }

    /// Where no preferred endpoint has room: any that may be used.
    fn elsewhere(&self, usable: &Usable<'_>) -> Option<&'a Rc<LocalEndpoint>> {
        let all = &self.view.all;
        if self.view.candidates.len() == all.len() {
            return None;
        }
        let may_use = |place: usize| self.is_usable(place) && all.get(place).is_some_and(|endpoint| usable(endpoint));
        let load = |place: usize| all.get(place).map_or(u32::MAX, |endpoint| endpoint.active.get());
        all.get(power_of_two(all.len(), self.worker.random_u64(), load, may_use)?)
    }

    fn candidate(&self, index: usize) -> Option<&'a Rc<LocalEndpoint>> {
        self.view.candidates.get(index)
    }

    fn is_usable(&self, place: usize) -> bool {
        self.view.usable.get(place).copied().unwrap_or(false)
    }

    fn warmth(&self, index: usize, now_ms: u64) -> f32 {
        self.candidate(index)
            .map_or(1.0, |endpoint| warmth(&endpoint.state, self.policy, now_ms))
    }
}

/// A weight in thousandths, times a warmth of up to 1; at least 1.
fn scaled(weight: u16, warmth: f32) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and 65,535,000"
    )]
    let scaled = (f32::from(weight) * 1_000.0 * warmth) as u32;
    scaled.max(1)
}

/// What Maglev hashes; the client's address where the request does not have what the policy names.
pub(crate) fn hash_key(policy: &PoolPolicy, client: IpAddr, head: Option<&Parts>) -> u64 {
    let value: Option<&[u8]> = head.and_then(|head| match &policy.hash_on {
        HashOn::ClientIp => None,
        HashOn::Cookie(name) => {
            let fields = head.headers.get_all(header::COOKIE);
            hash::cookie(fields.iter().map(http::HeaderValue::as_bytes), name)
        }
        HashOn::Header(name) => head.headers.get(&**name).map(http::HeaderValue::as_bytes),
        HashOn::Query(name) => head
            .uri
            .query()
            .and_then(|query| hash::query(query, name))
            .map(str::as_bytes),
        HashOn::Uri => head.uri.path_and_query().map(|target| target.as_str().as_bytes()),
    });
    value.map_or_else(|| hash::client(client), |value| hash::bytes(value, 0))
}
