//! What no change of the configuration resets: connections, counts, moving averages, ejections.

use propylon_model::EndpointLimits;

use super::*;

/// The same endpoints under policies that differ in something that matters to nobody here, then with another endpoint,
/// then as before.
fn changes(addresses: &[SocketAddr], base: &PoolPolicy, more: SocketAddr) -> Vec<Resources> {
    let route = RoutePolicy::default();
    let warm = PoolPolicy {
        limits: EndpointLimits {
            pending_timeout: Duration::from_secs(7),
            ..EndpointLimits::default()
        },
        ..base.clone()
    };
    let extended = [addresses, &[more]].concat();
    vec![
        site(addresses, &warm, &route),
        site(&extended, &warm, &route),
        site(
            addresses,
            base,
            &RoutePolicy {
                request_timeout: Some(Duration::from_mins(2)),
                ..route.clone()
            },
        ),
        site(addresses, base, &route),
    ]
}

#[test]
fn idle_connections_stay() {
    let (server, more) = (echo("a"), refused());
    let base = PoolPolicy::default();
    let mut live = site(&[server.address], &base, &RoutePolicy::default());
    let proxy = serve(&live);
    assert_eq!(name(&get(&proxy, "/", "")), "a");
    for next in changes(&[server.address], &base, more) {
        proxy.apply(&Delta::between(&live, &next));
        live = next;
        assert_eq!(name(&get(&proxy, "/", "")), "a");
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn requests_under_way_are_still_counted() {
    let (busy, free) = (echo("busy"), echo("free"));
    let base = PoolPolicy::default();
    let mut live = site(&[busy.address], &base, &RoutePolicy::default());
    let proxy = serve(&live);
    let mut waiting: Vec<RawClient> = (0..10).map(|_| client(&proxy)).collect();
    for client in &mut waiting {
        client
            .send(format!("GET /delay/15000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes())
            .unwrap();
    }
    assert!(wait::until(PATIENCE, || busy.requests() == 10).is_some());
    let both = [busy.address, free.address];
    for next in changes(&both, &base, refused()) {
        proxy.apply(&Delta::between(&live, &next));
        live = next;
        for _ in 0..5 {
            assert_eq!(name(&get(&proxy, "/", "")), "free");
        }
    }
    assert_eq!(busy.requests(), 10);
}

#[test]
fn moving_averages_stay() {
    let slow = scripted_server(vec![vec![
        Step::ReadHead,
        Step::Pause(Duration::from_millis(400)),
        Step::write(OK),
    ]])
    .unwrap();
    let (fast, more) = (echo("fast"), echo("more"));
    let (addresses, base) = ([slow.address, fast.address], policy(Algorithm::Ewma));
    let mut live = site(&addresses, &base, &RoutePolicy::default());
    let proxy = serve(&live);
    assert!(
        wait::until(PATIENCE, || {
            assert_eq!(get(&proxy, "/", "").status, 200);
            slow.connections() == 1 && fast.requests() > 0
        })
        .is_some()
    );
    let before = slow.connections();
    for next in changes(&addresses, &base, more.address) {
        proxy.apply(&Delta::between(&live, &next));
        live = next;
        for _ in 0..5 {
            assert_eq!(get(&proxy, "/", "").status, 200);
        }
    }
    assert_eq!(slow.connections(), before, "it is known to be slow");
}

#[test]
fn ejections_stay() {
    let failing = always("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let (sound, more) = ([echo("a"), echo("b")], echo("c"));
    let addresses = [failing.address, sound[0].address, sound[1].address];
    let base = PoolPolicy::default();
    let mut live = site(&addresses, &base, &RoutePolicy::default());
    let proxy = serve(&live);
    assert!(
        wait::until(PATIENCE, || {
            get(&proxy, "/", "");
            metric(&proxy, "propylon_endpoint_ejected_total{") == 1
        })
        .is_some()
    );
    let met = failing.connections();
    for next in changes(&addresses, &base, more.address) {
        proxy.apply(&Delta::between(&live, &next));
        live = next;
        for _ in 0..5 {
            assert_ne!(get(&proxy, "/", "").status, 500);
        }
    }
    assert_eq!(failing.connections(), met);
    assert_eq!(metric(&proxy, "propylon_endpoint_ejected_total{"), 1);
}
