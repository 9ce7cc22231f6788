//! Active health checks, from the annotation to the choice of endpoints.

use std::net::SocketAddr;

use propylon_e2e::{
    Gate,
    manifests::{backend_with, echo, ingress},
    report::Report,
};
use propylon_testkit::{echo::EchoServer, manifest::Ingress};

fn rule(check: &str) -> Ingress {
    ingress("web")
        .prefix("web.example", "/", "web", 80)
        .annotation("propylon.dev/health-check", check)
        .annotation("propylon.dev/health-check-interval", "100ms")
}

fn site(check: &str, endpoints: &[SocketAddr]) -> String {
    rule(check).yaml() + &backend_with("web", "", endpoints)
}

/// The value of `propylon_endpoint_up`.
fn up(gate: &Gate, server: &EchoServer) -> Option<f64> {
    gate.metric("propylon_endpoint_up", &[&format!("endpoint=\"{}\"", server.address)])
}

/// Waits until these, and no others, answer 50 requests in a row.
fn until_served(gate: &Gate, names: &[&str]) {
    gate.until(&format!("{names:?} serve"), || {
        let mut client = gate.connect();
        let mut served: Vec<String> = (0..50)
            .map(|_| Report::of(&client.get("web.example", "/").unwrap()).name())
            .collect();
        served.sort();
        served.dedup();
        served == names
    });
}

#[test]
fn an_endpoint_leaves_and_comes_back_with_its_checks() {
    let (good, bad) = (echo("good"), echo("bad"));
    let gate = Gate::start(&site("http:/health", &[good.address, bad.address]));
    gate.until("both were asked", || {
        good.health_checks() > 0 && bad.health_checks() > 0
    });
    until_served(&gate, &["bad", "good"]);
    bad.set_health(500);
    gate.until("one is down", || up(&gate, &bad) == Some(0.0));
    gate.line(&["endpoint is unhealthy", &bad.address.to_string(), "status 500"]);
    assert_eq!(up(&gate, &good), Some(1.0));
    until_served(&gate, &["good"]);
    bad.set_health(200);
    gate.until("it is up again", || up(&gate, &bad) == Some(1.0));
    until_served(&gate, &["bad", "good"]);
}

#[test]
fn verdicts_survive_edits_of_the_manifests() {
    let (good, bad) = (echo("good"), echo("bad"));
    bad.set_health(500);
    let endpoints = [good.address, bad.address];
    let gate = Gate::start(&site("http:/health", &endpoints));
    gate.until("one is down", || up(&gate, &bad) == Some(0.0));
    let slowly = rule("http:/health")
        .annotation("propylon.dev/connect-timeout", "2s")
        .annotation("propylon.dev/load-balancing", "round-robin")
        .exact("other.example", "/new", "web", 80)
        .annotation("propylon.dev/health-check-timeout", "3s");
    gate.replace(&(slowly.yaml() + &backend_with("web", "", &endpoints)));
    gate.until("the edit is live", || {
        let status = gate.get("other.example", "/new").status;
        assert_eq!(up(&gate, &bad), Some(0.0));
        status == 200
    });
    until_served(&gate, &["good"]);
}

#[test]
fn when_no_endpoint_is_healthy_all_serve_and_it_is_reported() {
    let (one, two) = (echo("one"), echo("two"));
    one.set_health(503);
    two.set_health(503);
    let gate = Gate::start(&site("http:/health", &[one.address, two.address]));
    gate.line(&[
        "warning default/web Service: EndpointsUnhealthy",
        "every endpoint (2) fails",
    ]);
    until_served(&gate, &["one", "two"]);
    two.set_health(200);
    gate.line(&["resolved default/web Service: EndpointsUnhealthy"]);
    until_served(&gate, &["two"]);
}

#[test]
fn a_grpc_server_is_asked_for_its_service() {
    let (good, bad) = (echo("good"), echo("bad"));
    let manifests = rule("grpc:echo").yaml() + &backend_with("web", "kubernetes.io/h2c", &[good.address, bad.address]);
    let gate = Gate::start(&manifests);
    gate.until("both were asked", || {
        good.health_checks() > 0 && bad.health_checks() > 0
    });
    bad.set_health(503);
    gate.until("one is down", || up(&gate, &bad) == Some(0.0));
    gate.line(&["endpoint is unhealthy", "NOT_SERVING"]);
    until_served(&gate, &["good"]);
}

#[test]
fn a_tcp_check_finds_the_closed_port() {
    let (good, gone) = (echo("good"), echo("gone"));
    let gate = Gate::start(&site("tcp", &[good.address, gone.address]));
    let address = gone.address.to_string();
    gone.stop();
    gate.line(&["endpoint is unhealthy", &address, "refused"]);
    let endpoint = format!("endpoint=\"{address}\"");
    gate.until("it is down", || {
        gate.metric("propylon_endpoint_up", &[&endpoint]) == Some(0.0)
    });
    until_served(&gate, &["good"]);
}
