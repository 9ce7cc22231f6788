//! What a worker picks from: the endpoints that may be used, with what their weights make of them.

use std::{rc::Rc, sync::Arc};

use propylon_model::{Affinity, Algorithm, EndpointLimits, PoolPolicy};

use super::{
    Group, LocalEndpoint,
    eligible::{eligible, warmth},
};
use crate::{
    balance::{locality::Here, two_choices::Shares},
    endpoint_state::{CheckVerdict, EndpointList},
};

/// The endpoints of a pool at a moment.
pub(super) struct View {
    /// All of them, in the order of the list.
    pub(super) all: Rc<[Rc<LocalEndpoint>]>,
    pub(super) list: Arc<EndpointList>,
    /// Whether each may be used.
    pub(super) usable: Box<[bool]>,
    /// Those to choose among.
    pub(super) candidates: Rc<[Rc<LocalEndpoint>]>,
    /// Their weights.
    pub(super) weights: Box<[u16]>,
    /// Running sums of the weights; none where all are alike.
    pub(super) shares: Option<Shares>,
    /// Whether one of them is still warming up.
    pub(super) is_cold: bool,
    /// Whether the plain choice of two does: the default policy, equal weights, nothing to look at in the request.
    pub(super) is_plain: bool,
    /// Whether each is unhealthy; only where the policy asks for checks.
    sick: Box<[bool]>,
    until_ms: u64,
}

impl View {
    pub(super) fn new(group: &Group, policy: &PoolPolicy, here: &Here, now_ms: u64) -> Self {
        let (all, list) = (group.endpoints(), group.list());
        let found = eligible(&list, policy, here, now_ms);
        let places = || found.candidates.iter();
        let candidates: Rc<[Rc<LocalEndpoint>]> = if found.candidates.len() == all.len() {
            Rc::clone(&all)
        } else {
            places().filter_map(|place| all.get(*place).map(Rc::clone)).collect()
        };
        let weights: Box<[u16]> = places()
            .filter_map(|place| list.endpoints.get(*place).map(|live| live.spec.weight.max(1)))
            .collect();
        let is_even = weights.windows(2).all(|pair| pair.first() == pair.last());
        let is_cold = candidates
            .iter()
            .any(|endpoint| warmth(&endpoint.state, policy, now_ms) < 1.0);
        Self {
            shares: (!is_even).then(|| Shares::new(weights.iter().copied())),
            is_plain: is_even && !is_cold && is_plain(policy),
            sick: sick(&list, policy),
            usable: found.usable.into_boxed_slice(),
            until_ms: found.until_ms,
            all,
            list,
            candidates,
            weights,
            is_cold,
        }
    }

    /// Whether time or a health check made it out of date.
    pub(super) fn is_stale(&self, policy: &PoolPolicy, now_ms: u64) -> bool {
        now_ms >= self.until_ms || (policy.health_check.is_some() && self.sick != sick(&self.list, policy))
    }

    /// The weight of a candidate relative to the heaviest, up to 1.
    pub(super) fn share(&self, index: usize) -> f32 {
        let heaviest = self.weights.iter().max().copied().unwrap_or(1);
        f32::from(self.weights.get(index).copied().unwrap_or(1)) / f32::from(heaviest)
    }
}

/// Whether the policy is one that needs nothing but the number of requests in flight.
fn is_plain(policy: &PoolPolicy) -> bool {
    policy.algorithm == Algorithm::LeastRequest && policy.affinity == Affinity::None && !is_limited(&policy.limits)
}

/// Whether endpoints can be full.
pub(super) fn is_limited(limits: &EndpointLimits) -> bool {
    limits.max_connections.is_some() || limits.max_requests.is_some()
}

fn sick(list: &EndpointList, policy: &PoolPolicy) -> Box<[bool]> {
    if policy.health_check.is_none() {
        return Box::default();
    }
    let verdicts = list.endpoints.iter().map(|live| live.state.verdict());
    verdicts.map(|verdict| verdict == CheckVerdict::Unhealthy).collect()
}
