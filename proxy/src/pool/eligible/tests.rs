use std::time::Duration;

use propylon_model::{Endpoint, HealthCheck, Probe, TrafficDistribution};

use super::*;
use crate::endpoint_state::EndpointsHandle;

const NOW_MS: u64 = 1_000_000;

fn handle(count: u8) -> EndpointsHandle {
    let handle = EndpointsHandle::default();
    let endpoints: Vec<Endpoint> = (0..count)
        .map(|last| {
            let mut endpoint = Endpoint::new(([10, 0, 0, last], 80).into());
            endpoint.zone = Some(if last < count / 2 { "a" } else { "b" }.into());
            endpoint
        })
        .collect();
    handle.replace(&endpoints, TrafficDistribution::PreferSameZone);
    handle
}

fn checked() -> PoolPolicy {
    PoolPolicy {
        health_check: Some(HealthCheck::new(Probe::Tcp)),
        ..PoolPolicy::default()
    }
}

fn candidates(handle: &EndpointsHandle, policy: &PoolPolicy, zone: Option<&str>) -> Vec<usize> {
    let here = Here {
        node: None,
        zone: zone.map(Into::into),
    };
    eligible(&handle.current.load(), policy, &here, NOW_MS).candidates
}

fn eject(handle: &EndpointsHandle, index: usize) {
    let list = handle.current.load();
    list.endpoints[index]
        .state
        .ejected_until_ms
        .store(NOW_MS + 500, Relaxed);
}

fn condemn(handle: &EndpointsHandle, index: usize) {
    let list = handle.current.load();
    list.endpoints[index]
        .state
        .check
        .store(CheckVerdict::Unhealthy as u8, Relaxed);
}

#[test]
fn ejected_ones_are_left_out_where_the_policy_says_so() {
    let handle = handle(4);
    eject(&handle, 1);
    assert_eq!(candidates(&handle, &PoolPolicy::default(), None), [0, 2, 3]);
    let trusting = PoolPolicy {
        outlier_ejection: false,
        ..PoolPolicy::default()
    };
    assert_eq!(candidates(&handle, &trusting, None), [0, 1, 2, 3]);
    let list = handle.current.load();
    let seen = eligible(&list, &PoolPolicy::default(), &Here::default(), NOW_MS);
    assert_eq!(
        (seen.usable, seen.until_ms),
        (vec![true, false, true, true], NOW_MS + 500)
    );
}

#[test]
fn unhealthy_ones_are_used_only_where_nothing_else_is_left() {
    let handle = handle(3);
    condemn(&handle, 0);
    condemn(&handle, 1);
    assert_eq!(candidates(&handle, &checked(), None), [2]);
    assert_eq!(
        candidates(&handle, &PoolPolicy::default(), None),
        [0, 1, 2],
        "checks are off"
    );
    condemn(&handle, 2);
    assert_eq!(candidates(&handle, &checked(), None), [0, 1, 2]);
}

#[test]
fn ejections_are_ignored_where_too_few_are_left() {
    let handle = handle(6);
    (0..3).for_each(|index| condemn(&handle, index));
    eject(&handle, 3);
    assert_eq!(candidates(&handle, &checked(), None), [4, 5]);
    eject(&handle, 4);
    assert_eq!(candidates(&handle, &checked(), None), [3, 4, 5]);
}

#[test]
fn near_ones_are_preferred_while_half_of_them_are_well() {
    let handle = handle(8);
    let near = |handle| candidates(handle, &PoolPolicy::default(), Some("a"));
    assert_eq!(near(&handle), [0, 1, 2, 3]);
    eject(&handle, 0);
    eject(&handle, 1);
    assert_eq!(near(&handle), [2, 3]);
    eject(&handle, 2);
    assert_eq!(near(&handle), [3, 4, 5, 6, 7]);
}

#[test]
fn an_endpoint_that_joins_or_comes_back_warms_up() {
    let policy = PoolPolicy {
        slow_start: Some(Duration::from_secs(10)),
        ..PoolPolicy::default()
    };
    let old = EndpointState::new(None);
    assert!((warmth(&old, &policy, NOW_MS) - 1.0).abs() < 1e-6);
    let young = EndpointState::new(Some(propylon_kit::clock::now()));
    assert!(warmth(&young, &policy, NOW_MS) < 0.5);
    assert!((warmth(&young, &PoolPolicy::default(), NOW_MS) - 1.0).abs() < 1e-6);
    old.ejected_until_ms.store(NOW_MS - 5_000, Relaxed);
    assert!((warmth(&old, &policy, NOW_MS) - 0.5).abs() < 1e-6);
    assert_eq!(changes_at_ms(&old, &policy, NOW_MS), NOW_MS + 5_000);
}

#[test]
fn an_empty_list_has_no_candidates() {
    assert_eq!(candidates(&handle(0), &checked(), Some("a")), Vec::<usize>::new());
}
