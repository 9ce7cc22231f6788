//! Endpoints that are given no more than they may have, and requests that wait.

use std::thread;

use propylon_kit::clock;
use propylon_model::EndpointLimits;

use super::*;

fn limited(limits: EndpointLimits) -> PoolPolicy {
    PoolPolicy {
        limits,
        ..PoolPolicy::default()
    }
}

/// Requests that each take so long at the endpoint, all at once, each on a connection of its own.
fn rush(proxy: &ProxyHandle, requests: usize, milliseconds: u64) -> Vec<RawResponse> {
    let path = format!("/delay/{milliseconds}");
    thread::scope(|scope| {
        let threads: Vec<_> = (0..requests).map(|_| scope.spawn(|| get(proxy, &path, ""))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn requests_wait_for_their_turn_and_the_limit_holds_for_all_workers() {
    let server = echo("a");
    let limits = EndpointLimits {
        max_requests: Some(3),
        ..EndpointLimits::default()
    };
    let proxy = start(&["--workers", "4"]);
    proxy.apply(&everything(&site(
        &[server.address],
        &limited(limits),
        &RoutePolicy::default(),
    )));
    let began = clock::now();
    let responses = rush(&proxy, 24, 150);
    assert!(responses.iter().all(|response| response.status == 200));
    // With more than 3 at a time it would be over sooner.
    assert!(began.elapsed() >= 8 * Duration::from_millis(150));
    assert_eq!(server.requests(), 24);
}

#[test]
fn connections_are_limited_over_all_workers() {
    let server = echo("a");
    let limits = EndpointLimits {
        max_connections: Some(2),
        ..EndpointLimits::default()
    };
    let proxy = start(&["--workers", "4"]);
    proxy.apply(&everything(&site(
        &[server.address],
        &limited(limits),
        &RoutePolicy::default(),
    )));
    thread::scope(|scope| {
        let all = scope.spawn(|| rush(&proxy, 20, 100));
        while !all.is_finished() {
            let open = server.open_connections();
            assert!(open <= 2, "{open}");
        }
        let responses = all.join().unwrap();
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    });
}

#[test]
fn too_many_waiting_are_sent_away_at_once() {
    let server = echo("a");
    let limits = EndpointLimits {
        max_requests: Some(1),
        max_pending: 2,
        ..EndpointLimits::default()
    };
    let proxy = serve(&site(&[server.address], &limited(limits), &RoutePolicy::default()));
    let responses = rush(&proxy, 8, 400);
    let served = responses.iter().filter(|response| response.status == 200).count();
    assert_eq!(served, 3, "one under way and two that waited");
    let refused: Vec<&RawResponse> = responses.iter().filter(|response| response.status == 503).collect();
    assert_eq!(refused.len(), 5);
    for response in refused {
        assert_eq!(response.header("retry-after"), Some("1"));
        let status = response.header("proxy-status").unwrap_or_default();
        assert_eq!(
            status,
            "propylon; error=connection_limit_reached; details=\"endpoint_queue_full\""
        );
    }
}

#[test]
fn waiting_ends_at_its_deadline() {
    let server = echo("a");
    let limits = EndpointLimits {
        max_requests: Some(1),
        pending_timeout: Duration::from_millis(300),
        ..EndpointLimits::default()
    };
    let proxy = serve(&site(&[server.address], &limited(limits), &RoutePolicy::default()));
    let responses = rush(&proxy, 2, 2_000);
    let mut statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503]);
    let late = responses.iter().find(|response| response.status == 503).unwrap();
    assert!(late.text().contains("endpoint_queue_timeout"), "{}", late.text());
    assert_eq!(get(&proxy, "/", "").status, 200, "the place was given up");
}

#[test]
fn a_full_endpoint_is_passed_over_while_others_have_room() {
    let (one, two) = (echo("one"), echo("two"));
    let limits = EndpointLimits {
        max_requests: Some(2),
        max_pending: 0,
        ..EndpointLimits::default()
    };
    let proxy = serve(&site(
        &[one.address, two.address],
        &limited(limits),
        &RoutePolicy::default(),
    ));
    let responses = rush(&proxy, 4, 500);
    assert!(responses.iter().all(|response| response.status == 200));
    assert_eq!((one.requests(), two.requests()), (2, 2));
}

#[test]
fn who_waits_for_a_narrow_limit_does_not_hold_up_who_has_a_wide_one() {
    let server = echo("a");
    let wide = "wide.example.com";
    let mut resources = Builder::default()
        .host(HOST, &[server.address])
        .host(wide, &[server.address])
        .build();
    let list = resources.pools["default/web-example-com:80"].endpoints.clone();
    for (name, pool) in &mut resources.pools {
        let pool = Arc::make_mut(pool);
        pool.endpoints = list.clone();
        let is_wide = name.as_str().contains("wide");
        pool.policy.limits.max_requests = Some(if is_wide { 100 } else { 1 });
        pool.policy.limits.pending_timeout = PATIENCE;
    }
    let proxy = serve(&resources);
    thread::scope(|scope| {
        let narrow = scope.spawn(|| rush(&proxy, 2, 3_000));
        assert!(wait::until(PATIENCE, || metric(&proxy, "propylon_inflight_requests") == 2).is_some());
        assert_eq!(client(&proxy).get(wide, "/").unwrap().status, 200);
        assert!(!narrow.is_finished());
        assert_eq!(server.requests(), 2, "the other one of the narrow limit still waits");
        assert!(narrow.join().unwrap().iter().all(|response| response.status == 200));
    });
}
