//! Passive health: what workers meet at an endpoint, and its ejection when that was bad for too long. The decisions are
//! those of [`outlier`]; this is the shared state that they are made of.

use std::{
    fmt,
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use crate::{
    balance::outlier::{self, Failure, Sample},
    endpoint_state::{EndpointState, EndpointsHandle, LiveEndpoint, process_ms},
};

/// What keeps two workers from judging the same list at once.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    is_busy: AtomicBool,
    /// When the latencies were last compared.
    compared_ms: AtomicU64,
}

/// Whether failures lead to ejections (`outlier-ejection`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consequence {
    /// They do.
    Eject,
    /// They are counted, no more.
    None,
}

impl From<bool> for Consequence {
    fn from(outlier_ejection: bool) -> Self {
        if outlier_ejection { Self::Eject } else { Self::None }
    }
}

impl EndpointState {
    /// A request was answered well. Writes nothing where nothing was amiss: the line is shared by all workers.
    pub(crate) fn note_success(&self) {
        if self.failures_in_a_row.load(Relaxed) != 0 {
            self.failures_in_a_row.store(0, Relaxed);
        }
    }
}

impl EndpointsHandle {
    /// A request failed at an endpoint.
    #[cold]
    pub(crate) fn note_failure(&self, state: &EndpointState, failure: Failure, consequence: Consequence) {
        let in_a_row = state.failures_in_a_row.fetch_add(1, Relaxed).saturating_add(1);
        if consequence == Consequence::Eject && outlier::is_due(in_a_row, failure) {
            let why = match failure {
                Failure::Connect => "connections fail",
                Failure::Response => "answers fail",
            };
            self.eject(state, &why, process_ms());
        }
    }

    /// Compares the latencies of the endpoints, now and then; called by the sweeps of all workers.
    ///
    /// # Cost
    /// Linear, once per interval; else one atomic load.
    pub(crate) fn compare_latencies(&self, now_ms: u64) {
        let before = self.judge.compared_ms.load(Relaxed);
        if now_ms.saturating_sub(before) < outlier::INTERVAL_MS
            || self
                .judge
                .compared_ms
                .compare_exchange(before, now_ms, Relaxed, Relaxed)
                .is_err()
        {
            return;
        }
        let list = self.current.load();
        let samples: Vec<Sample> = list.endpoints.iter().map(sample).collect();
        let Some(limit_us) = outlier::latency_limit_us(samples.iter().copied()) else {
            return;
        };
        for (live, sample) in list.endpoints.iter().zip(samples) {
            if outlier::is_slow(sample, limit_us) {
                let why = format_args!("answers take {} ms on average", sample.mean_us / 1_000);
                if self.eject(&live.state, &why, now_ms) {
                    // What it was like before says nothing about what it is like afterwards.
                    live.state.latency_us.store(0, Relaxed);
                }
            }
        }
    }

    fn eject(&self, state: &EndpointState, why: &dyn fmt::Display, now_ms: u64) -> bool {
        if state.ejected_until_ms.load(Relaxed) > now_ms || self.judge.is_busy.swap(true, Acquire) {
            return false;
        }
        let ejected = self.try_eject(state, why, now_ms);
        self.judge.is_busy.store(false, Release);
        if ejected {
            self.advance();
        }
        ejected
    }

    fn try_eject(&self, state: &EndpointState, why: &dyn fmt::Display, now_ms: u64) -> bool {
        let list = self.current.load();
        let is_ejected = |live: &&LiveEndpoint| live.state.ejected_until_ms.load(Relaxed) > now_ms;
        let ejected = list.endpoints.iter().filter(is_ejected).count();
        let found = list
            .endpoints
            .iter()
            .find(|live| std::ptr::eq(&raw const *live.state, state));
        let (Some(live), true) = (found, outlier::may_eject(ejected, list.endpoints.len())) else {
            return false;
        };
        let good_ms = now_ms.saturating_sub(state.ejected_until_ms.load(Relaxed));
        let ejection = outlier::ejection(state.ejections.load(Relaxed), good_ms);
        state.ejections.store(ejection.times, Relaxed);
        state.ejections_total.fetch_add(1, Relaxed);
        state.ejected_until_ms.store(now_ms + ejection.duration_ms, Relaxed);
        let seconds = ejection.duration_ms / 1_000;
        tracing::warn!(endpoint = %live.spec.address, pod = live.spec.pod.as_deref(), %why, seconds, "endpoint ejected");
        true
    }
}

fn sample(live: &LiveEndpoint) -> Sample {
    let state = &live.state;
    let requests = state.requests_total.load(Relaxed);
    let mean_us = state.latency_us.load(Relaxed);
    let count = requests.saturating_sub(state.compared_requests.swap(requests, Relaxed));
    Sample {
        // Without an answer there is nothing to compare.
        count: if mean_us == 0 { 0 } else { count },
        mean_us,
    }
}

#[cfg(test)]
mod tests {
    use propylon_model::{Endpoint, TrafficDistribution};

    use super::*;

    fn handle(count: u8) -> EndpointsHandle {
        let handle = EndpointsHandle::default();
        let endpoints: Vec<Endpoint> = (0..count)
            .map(|last| Endpoint::new(([10, 0, 0, last], 80).into()))
            .collect();
        handle.replace(&endpoints, TrafficDistribution::Any);
        handle
    }

    fn fail(handle: &EndpointsHandle, index: usize, times: u32, failure: Failure, consequence: Consequence) {
        let list = handle.current.load();
        for _ in 0..times {
            handle.note_failure(&list.endpoints[index].state, failure, consequence);
        }
    }

    fn ejected(handle: &EndpointsHandle) -> Vec<bool> {
        let now_ms = process_ms();
        let list = handle.current.load();
        let is_ejected = |live: &LiveEndpoint| live.state.ejected_until_ms.load(Relaxed) > now_ms;
        list.endpoints.iter().map(is_ejected).collect()
    }

    #[test]
    fn failures_in_a_row_lead_to_an_ejection_that_workers_notice() {
        let handle = handle(3);
        let epoch = handle.epoch();
        fail(&handle, 1, 2, Failure::Connect, Consequence::Eject);
        handle.current.load().endpoints[1].state.note_success();
        fail(&handle, 1, 2, Failure::Connect, Consequence::Eject);
        assert_eq!((ejected(&handle), handle.epoch()), (vec![false; 3], epoch));
        fail(&handle, 1, 1, Failure::Connect, Consequence::Eject);
        assert_eq!(ejected(&handle), [false, true, false]);
        assert_eq!(handle.epoch(), epoch + 1);
        fail(&handle, 2, 100, Failure::Response, Consequence::Eject);
        assert_eq!(ejected(&handle), [false, true, false], "one of three is the most");
    }

    #[test]
    fn failures_without_consequence_are_counted_only() {
        let handle = handle(4);
        fail(&handle, 0, 100, Failure::Connect, Consequence::None);
        assert_eq!(ejected(&handle), [false; 4]);
        assert_eq!(
            handle.current.load().endpoints[0].state.failures_in_a_row.load(Relaxed),
            100
        );
    }

    #[test]
    fn an_ejection_survives_a_change_of_the_list() {
        let handle = handle(4);
        fail(&handle, 3, 3, Failure::Connect, Consequence::Eject);
        let endpoints: Vec<Endpoint> = (2..9)
            .map(|last| Endpoint::new(([10, 0, 0, last], 80).into()))
            .collect();
        handle.replace(&endpoints, TrafficDistribution::Any);
        assert_eq!(ejected(&handle), [false, true, false, false, false, false, false]);
    }

    #[test]
    fn an_endpoint_that_is_much_slower_than_the_others_is_ejected_once_per_interval() {
        let handle = handle(5);
        let serve = |latencies_us: [u64; 5]| {
            for (live, latency_us) in handle.current.load().endpoints.iter().zip(latencies_us) {
                live.state.requests_total.fetch_add(50, Relaxed);
                live.state.latency_us.store(latency_us, Relaxed);
            }
        };
        let now_ms = process_ms() + 2 * outlier::INTERVAL_MS;
        serve([10_000, 11_000, 12_000, 13_000, 900_000]);
        handle.compare_latencies(now_ms);
        assert_eq!(ejected(&handle), [false, false, false, false, true]);
        serve([900_000, 11_000, 12_000, 13_000, 900_000]);
        handle.compare_latencies(now_ms + 1);
        assert!(!ejected(&handle)[0], "too early");
        handle.compare_latencies(now_ms + outlier::INTERVAL_MS);
        assert!(ejected(&handle)[0]);
    }
}
