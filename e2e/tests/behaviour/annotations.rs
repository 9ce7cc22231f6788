//! Annotations: timeouts, precedence, what is not supported yet.

use std::time::{Duration, SystemTime};

use propylon_e2e::{
    Gate,
    frames::{block, flag, frame, kind},
    manifests::{backend, backend_with, echo, ingress},
};
use propylon_testkit::raw::{RawResponse, Step, scripted_server};

/// The response and the time that it took.
#[expect(clippy::disallowed_methods, reason = "a test measures the time that the proxy takes")]
fn timed(action: impl FnOnce() -> RawResponse) -> (RawResponse, Duration) {
    let start = SystemTime::now();
    let response = action();
    (response, start.elapsed().unwrap_or_default())
}

fn site_with(annotations: &[(&str, &str)], endpoints: &[std::net::SocketAddr]) -> String {
    let plain = ingress("web").prefix("web.example", "/", "web", 80);
    let annotated = annotations
        .iter()
        .fold(plain, |ingress, (name, value)| ingress.annotation(name, value));
    annotated.yaml() + &backend("web", endpoints)
}

#[test]
fn the_response_timeout_ends_a_silent_backend_with_504() {
    let echo = echo("web");
    let gate = Gate::start(&site_with(
        &[("propylon.dev/response-timeout", "200ms")],
        &[echo.address],
    ));
    let (response, took) = timed(|| gate.get("web.example", "/delay/10000"));
    assert_eq!(response.status, 504);
    assert!(
        took >= Duration::from_millis(200) && took < Duration::from_secs(3),
        "{took:?}"
    );
    assert!(
        response
            .header("proxy-status")
            .is_some_and(|value| value.contains("http_response_timeout")),
        "{}",
        response.head
    );
    assert_eq!(gate.get("web.example", "/delay/1").status, 200);
}

/// A request that ends after the response has begun does not start the wait for the response anew.
#[test]
fn the_response_timeout_ends_with_the_head() {
    let data = |flags, text: &[u8]| frame(kind::DATA, flags, 1, text);
    let head = frame(kind::HEADERS, flag::END_HEADERS, 1, &block(&[(":status", "200")]));
    let server = scripted_server(vec![vec![
        Step::ReadUntil(b"request".to_vec()),
        Step::Write([frame(kind::SETTINGS, 0, 0, b""), head, data(0, b"begin ")].concat()),
        Step::ReadUntil(data(flag::END_STREAM, b"")),
        Step::Pause(Duration::from_millis(1500)),
        Step::Write(data(flag::END_STREAM, b"end")),
        Step::Hold,
    ]])
    .unwrap();
    let ingress = ingress("web").prefix("web.example", "/", "web", 80);
    let annotated = ingress.annotation("propylon.dev/response-timeout", "500ms").yaml();
    let gate = Gate::start(&(annotated + &backend_with("web", "kubernetes.io/h2c", &[server.address])));
    let mut client = gate.connect();
    let request = "POST / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                   7\r\nrequest\r\n";
    client.send(request.as_bytes()).unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    client.send(b"0\r\n\r\n").unwrap();
    assert_eq!(client.rest().unwrap(), b"6\r\nbegin \r\n3\r\nend\r\n0\r\n\r\n");
}

#[test]
fn the_response_idle_timeout_cuts_a_stalled_body() {
    let server = scripted_server(vec![vec![
        Step::ReadHead,
        Step::write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        Step::Hold,
    ]])
    .unwrap();
    let gate = Gate::start(&site_with(
        &[("propylon.dev/response-idle-timeout", "200ms")],
        &[server.address],
    ));
    let mut client = gate.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(client.rest().unwrap(), b"half");
}

#[test]
fn the_request_timeout_bounds_the_whole_exchange() {
    let echo = echo("web");
    let gate = Gate::start(&site_with(
        &[("propylon.dev/request-timeout", "300ms")],
        &[echo.address],
    ));
    let (response, took) = timed(|| gate.get("web.example", "/delay/10000"));
    assert_eq!(response.status, 504);
    assert!(took < Duration::from_secs(3), "{took:?}");
    let mut client = gate.connect();
    client
        .send(b"GET /slow-body/100/100 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    assert!(client.response().is_err(), "a body that takes 10 s was let through");
}

#[test]
fn the_connect_timeout_ends_in_an_error() {
    // Nothing answers on 192.0.2.0/24 (RFC 5737); where the machine has no route at all it is refused at once.
    let gate = Gate::start(&site_with(
        &[("propylon.dev/connect-timeout", "200ms")],
        &["192.0.2.1:80".parse().unwrap()],
    ));
    let (response, took) = timed(|| gate.get("web.example", "/"));
    assert!(matches!(response.status, 502..=504), "{}", response.head);
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn the_tunnel_idle_timeout_closes_a_silent_tunnel() {
    let echo = echo("web");
    let gate = Gate::start(&site_with(
        &[("propylon.dev/tunnel-idle-timeout", "200ms")],
        &[echo.address],
    ));
    let mut client = gate.connect();
    client
        .send(propylon_e2e::websocket::request("web.example", "/").as_bytes())
        .unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 101"));
    client.send(&propylon_e2e::websocket::client_text("hello")).unwrap();
    assert_eq!(
        client.exactly(7).unwrap(),
        propylon_e2e::websocket::server_text("hello")
    );
    client.rest().unwrap();
}

#[test]
fn the_ingress_wins_over_the_service() {
    let echo = echo("web");
    let service = |timeout: &str| {
        backend("web", &[echo.address]).replacen(
            "metadata:\n",
            &format!("metadata:\n  annotations: {{propylon.dev/response-timeout: {timeout}}}\n"),
            1,
        )
    };
    let plain = ingress("web").prefix("web.example", "/", "web", 80);
    let gate = Gate::start(&(plain.yaml() + &service("100ms")));
    assert_eq!(gate.get("web.example", "/delay/1500").status, 504);
    gate.replace(&(plain.annotation("propylon.dev/response-timeout", "10s").yaml() + &service("100ms")));
    gate.until_status("web.example", "/delay/1500", 200);
}

#[test]
fn a_bad_value_is_reported_and_the_last_good_one_stays() {
    let echo = echo("web");
    let gate = Gate::start(&site_with(
        &[("propylon.dev/response-timeout", "100ms")],
        &[echo.address],
    ));
    assert_eq!(gate.get("web.example", "/delay/1500").status, 504);
    gate.replace(&site_with(
        &[("propylon.dev/response-timeout", "soon")],
        &[echo.address],
    ));
    gate.line(&[
        "error default/web Ingress: AnnotationInvalid",
        "response-timeout",
        "soon",
    ]);
    assert_eq!(gate.get("web.example", "/delay/1500").status, 504);
}

#[test]
fn an_unknown_name_is_reported_with_a_suggestion() {
    let echo = echo("web");
    let gate = Gate::start(&site_with(&[("propylon.dev/conect-timeout", "1s")], &[echo.address]));
    gate.line(&[
        "default/web Ingress: AnnotationUnknown",
        "conect-timeout",
        "connect-timeout",
    ]);
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn annotations_of_ingress_nginx_are_reported() {
    let echo = echo("web");
    let gate = Gate::start(&site_with(
        &[("nginx.ingress.kubernetes.io/proxy-body-size", "8m")],
        &[echo.address],
    ));
    gate.line(&["default/web Ingress: AnnotationUnsupported", "proxy-body-size"]);
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn annotations_that_restrict_access_are_never_served_open() {
    let echo = echo("web");
    for (name, value) in [
        ("auth-url", "http://auth.example/check"),
        ("auth-type", "basic"),
        ("whitelist-source-range", "10.0.0.0/8"),
        ("allowlist-source-range", "10.0.0.0/8"),
        ("denylist-source-range", "10.0.0.0/8"),
        ("auth-tls-secret", "default/ca"),
        ("satisfy", "any"),
        ("configuration-snippet", "deny all;"),
        ("server-snippet", "deny all;"),
    ] {
        let annotation = format!("nginx.ingress.kubernetes.io/{name}");
        let gate = Gate::start(&site_with(&[(&annotation, value)], &[echo.address]));
        let response = gate.get("web.example", "/");
        assert_eq!(response.status, 503, "{name}");
        assert!(response.header("proxy-status").is_some(), "{name}: {}", response.head);
        gate.line(&["error default/web Ingress: RestrictionUnsupported", name]);
    }
}

#[test]
fn a_range_that_covers_every_address_restricts_nothing() {
    let echo = echo("web");
    let annotation = ("nginx.ingress.kubernetes.io/whitelist-source-range", "0.0.0.0/0,::/0");
    let gate = Gate::start(&site_with(&[annotation], &[echo.address]));
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn a_canary_yields_no_rules() {
    let echo = echo("web");
    let gate = Gate::start(&site_with(
        &[("nginx.ingress.kubernetes.io/canary", "true")],
        &[echo.address],
    ));
    assert_eq!(gate.get("web.example", "/").status, 404);
}
