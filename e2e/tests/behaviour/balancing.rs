//! Which endpoint takes a request, and what is tried again.

use std::collections::BTreeMap;

use propylon_e2e::{
    Gate,
    manifests::{echo, site},
    report::Report,
};
use propylon_testkit::raw::{Step, scripted_server};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const FRESH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh";
const POST: &str = "POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 5\r\n\r\nhello";

/// An address on which nothing listens.
fn refused() -> std::net::SocketAddr {
    propylon_e2e::ports::free()
}

#[test]
fn all_endpoints_take_part() {
    let servers = [echo("a"), echo("b"), echo("c")];
    let gate = Gate::start(&site(
        "web.example",
        "web",
        &servers.each_ref().map(|server| server.address),
    ));
    let mut counts = BTreeMap::new();
    let mut client = gate.connect();
    for _ in 0..300 {
        *counts
            .entry(Report::of(&client.get("web.example", "/").unwrap()).name())
            .or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.values().all(|count| *count > 30), "{counts:?}");
}

#[test]
fn an_endpoint_with_requests_under_way_is_passed_over() {
    let (busy, free) = (echo("busy"), echo("free"));
    let gate = Gate::start_with(&site("web.example", "web", &[busy.address]), &["--workers", "1"]);
    let mut waiting: Vec<_> = (0..20).map(|_| gate.connect()).collect();
    for client in &mut waiting {
        client
            .send(b"GET /delay/15000 HTTP/1.1\r\nHost: web.example\r\n\r\n")
            .unwrap();
    }
    gate.until("all are under way", || busy.requests() == 20);
    gate.replace(&site("web.example", "web", &[busy.address, free.address]));
    gate.until("the second endpoint is used", || {
        Report::of(&gate.get("web.example", "/")).name() == "free"
    });
    let names: Vec<String> = (0..20)
        .map(|_| Report::of(&gate.get("web.example", "/")).name())
        .collect();
    assert!(names.iter().all(|name| name == "free"), "{names:?}");
}

#[test]
fn a_refused_connection_is_tried_elsewhere_for_any_method() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[refused(), echo.address]));
    for _ in 0..40 {
        assert_eq!(gate.send(POST).status, 200);
    }
}

#[test]
fn refused_everywhere_is_an_error_at_once() {
    let gate = Gate::start(&site("web.example", "web", &[refused()]));
    let response = gate.get("web.example", "/");
    assert!(matches!(response.status, 502 | 503), "{}", response.head);
    let status = response.header("proxy-status").unwrap_or_default();
    assert!(
        status.starts_with("propylon; error=connection_refused; details="),
        "{status}"
    );
}

/// The second request meets a connection that the backend closes instead of answering.
fn stale() -> Vec<Vec<Step>> {
    vec![
        vec![Step::ReadHead, Step::write(OK), Step::ReadHead],
        vec![Step::ReadHead, Step::write(FRESH), Step::Hold],
    ]
}

#[test]
fn a_reused_connection_that_dies_is_replaced_for_idempotent_requests() {
    let server = scripted_server(stale()).unwrap();
    let gate = Gate::start_with(&site("web.example", "web", &[server.address]), &["--workers", "1"]);
    let mut client = gate.connect();
    assert_eq!(client.get("web.example", "/one").unwrap().text(), "ok");
    assert_eq!(client.get("web.example", "/two").unwrap().text(), "fresh");
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_request_that_may_have_had_an_effect_is_not_repeated() {
    let server = scripted_server(stale()).unwrap();
    let gate = Gate::start_with(&site("web.example", "web", &[server.address]), &["--workers", "1"]);
    let mut client = gate.connect();
    assert_eq!(client.get("web.example", "/one").unwrap().text(), "ok");
    client.send(POST.as_bytes()).unwrap();
    assert_eq!(client.response().unwrap().status, 502);
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_new_connection_that_dies_is_not_tried_again() {
    let server = scripted_server(vec![vec![Step::ReadHead]]).unwrap();
    let gate = Gate::start_with(&site("web.example", "web", &[server.address]), &["--workers", "1"]);
    assert_eq!(gate.get("web.example", "/").status, 502);
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_response_that_has_begun_is_never_repeated() {
    let begun = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    let server = scripted_server(vec![
        vec![Step::ReadHead, Step::write(OK), Step::ReadHead, Step::write(begun)],
        vec![Step::ReadHead, Step::write(FRESH), Step::Hold],
    ])
    .unwrap();
    let gate = Gate::start_with(&site("web.example", "web", &[server.address]), &["--workers", "1"]);
    let mut client = gate.connect();
    assert_eq!(client.get("web.example", "/one").unwrap().text(), "ok");
    assert!(client.get("web.example", "/two").is_err());
    assert_eq!(server.connections(), 1);
}

/// Backends that close behind each response without saying so: the race that gives other proxies their 502s.
#[test]
fn backends_that_close_unannounced_cause_no_error() {
    let server = scripted_server(vec![vec![Step::ReadHead, Step::write(OK)]]).unwrap();
    let gate = Gate::start(&site("web.example", "web", &[server.address]));
    let mut client = gate.connect();
    for number in 0..500 {
        let response = client.get("web.example", "/").unwrap();
        assert_eq!(response.status, 200, "request {number}: {}", response.head);
    }
}

#[test]
fn connections_to_a_backend_are_used_again() {
    let echo = echo("web");
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &["--workers", "1"]);
    let mut client = gate.connect();
    for _ in 0..50 {
        assert_eq!(client.get("web.example", "/").unwrap().status, 200);
    }
    assert_eq!(echo.connections(), 1);
}

#[test]
fn a_removed_endpoint_gets_no_request_and_loses_its_idle_connections() {
    let (old, new) = (echo("old"), echo("new"));
    let gate = Gate::start(&site("web.example", "web", &[old.address]));
    let mut slow = gate.connect();
    slow.send(b"GET /delay/1500 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    gate.until("it is under way", || old.requests() == 1);
    gate.replace(&site("web.example", "web", &[new.address]));
    gate.until("the new endpoint serves", || {
        Report::of(&gate.get("web.example", "/")).name() == "new"
    });
    let before = old.requests();
    for _ in 0..20 {
        assert_eq!(Report::of(&gate.get("web.example", "/")).name(), "new");
    }
    assert_eq!(old.requests(), before);
    assert_eq!(Report::of(&slow.response().unwrap()).name(), "old");
    gate.until("idle connections to it are closed", || old.open_connections() == 0);
}
