//! Which endpoints of a list may be used at a moment, and which are preferred: health, ejections, nearness, in this order.

use std::sync::atomic::Ordering::Relaxed;

use propylon_model::PoolPolicy;

use crate::{
    balance::{
        locality::{Here, preferred},
        outlier, slow_start,
    },
    config::millis,
    endpoint_state::{CheckVerdict, EndpointList, EndpointState},
};

/// What may be used, by place in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Eligible {
    /// Whether an endpoint may be used where a client is bound to it.
    pub(crate) usable: Vec<bool>,
    /// Those to choose among.
    pub(crate) candidates: Vec<usize>,
    /// When an ejection ends or an endpoint has warmed up, in milliseconds of `process_ms`; `u64::MAX`: nothing is awaited.
    pub(crate) until_ms: u64,
}

/// Who may be used now.
///
/// Endpoints that fail their health checks are used only where no other is left. Of the rest, those that are ejected are
/// left out, unless so many are that the others would be overloaded. Of what is left, near endpoints are preferred while at
/// least half of them can be used.
///
/// # Cost
/// Linear.
pub(crate) fn eligible(list: &EndpointList, policy: &PoolPolicy, here: &Here, now_ms: u64) -> Eligible {
    let states = || list.endpoints.iter().map(|live| &*live.state);
    let is_sick = |state: &EndpointState| policy.health_check.is_some() && state.verdict() == CheckVerdict::Unhealthy;
    let is_ejected = |state: &EndpointState| policy.outlier_ejection && state.ejected_until_ms.load(Relaxed) > now_ms;
    let mut usable: Vec<bool> = states().map(|state| !is_sick(state)).collect();
    if !usable.contains(&true) {
        usable.fill(true);
    }
    let checked = usable.iter().filter(|usable| **usable).count();
    let trusted: Vec<bool> = usable
        .iter()
        .zip(states())
        .map(|(usable, state)| *usable && !is_ejected(state))
        .collect();
    if !outlier::is_panic(trusted.iter().filter(|usable| **usable).count(), checked) {
        usable = trusted;
    }
    let is_usable = |index: &usize| usable.get(*index).copied().unwrap_or(false);
    let specs = list.endpoints.iter().map(|live| &live.spec);
    let near = preferred(specs, list.distribution, here).and_then(|near| {
        let healthy: Vec<usize> = near.iter().copied().filter(is_usable).collect();
        (!healthy.is_empty() && !outlier::is_panic(healthy.len(), near.len())).then_some(healthy)
    });
    let candidates = near.unwrap_or_else(|| (0..usable.len()).filter(is_usable).collect());
    let until_ms = states()
        .map(|state| changes_at_ms(state, policy, now_ms))
        .min()
        .unwrap_or(u64::MAX);
    Eligible {
        usable,
        candidates,
        until_ms,
    }
}

/// The part of its share that an endpoint gets during slow start, which begins when it joins others, and anew when its
/// ejection ends.
pub(crate) fn warmth(state: &EndpointState, policy: &PoolPolicy, now_ms: u64) -> f32 {
    match (policy.slow_start, age_ms(state, now_ms)) {
        (Some(window), Some(age_ms)) => slow_start::warmth(age_ms, millis(window)),
        _ => 1.0,
    }
}

fn age_ms(state: &EndpointState, now_ms: u64) -> Option<u64> {
    let born = state.born.map(|born| millis(born.elapsed()));
    let back = match state.ejected_until_ms.load(Relaxed) {
        0 => None,
        until_ms => Some(now_ms.saturating_sub(until_ms)),
    };
    match (born, back) {
        (Some(born), Some(back)) => Some(born.min(back)),
        (age, None) | (None, age) => age,
    }
}

fn changes_at_ms(state: &EndpointState, policy: &PoolPolicy, now_ms: u64) -> u64 {
    let ejected_until_ms = state.ejected_until_ms.load(Relaxed);
    if policy.outlier_ejection && ejected_until_ms > now_ms {
        return ejected_until_ms;
    }
    match (policy.slow_start.map(millis), age_ms(state, now_ms)) {
        (Some(window_ms), Some(age_ms)) if age_ms < window_ms => now_ms + (window_ms - age_ms),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests;
