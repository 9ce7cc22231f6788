//! Active health checks: who is asked, and what follows for requests.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use propylon_model::{BackendProtocol, Delta, HealthCheck, Probe, ReportReason, Resources};
use propylon_proxy::ProxyHandle;
use propylon_testkit::{
    echo::{EchoOptions, EchoServer},
    raw::RawClient,
    wait::{self, PATIENCE},
};

use super::common::{Builder, everything, start};

const HOST: &str = "web.example.com";

fn check(probe: Probe) -> HealthCheck {
    HealthCheck {
        interval: Duration::from_millis(50),
        ..HealthCheck::new(probe)
    }
}

fn checked(endpoints: &[SocketAddr], protocol: BackendProtocol, check: Option<&HealthCheck>) -> Resources {
    let mut resources = Builder::default().host_with(HOST, endpoints, protocol).build();
    for pool in resources.pools.values_mut() {
        Arc::make_mut(pool).policy.health_check = check.cloned();
    }
    resources
}

fn echo(name: &str) -> EchoServer {
    EchoServer::start(EchoOptions::named(name)).unwrap()
}

fn http() -> HealthCheck {
    check(Probe::Http("/health".into()))
}

#[track_caller]
fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(
        wait::until(PATIENCE, condition).is_some(),
        "waited in vain until {what}"
    );
}

/// Waits until these, and no others, answer 50 requests in a row.
fn until_served(proxy: &ProxyHandle, names: &[&str]) {
    until(&format!("{names:?} serve"), || served(proxy) == names);
}

fn served(proxy: &ProxyHandle) -> Vec<String> {
    let mut client = RawClient::connect(proxy.addresses().http[0]).unwrap();
    let mut names: Vec<String> = (0..50)
        .map(|_| {
            let response = client.get(HOST, "/").unwrap();
            assert_eq!(response.status, 200, "{}", response.text());
            response.json()["name"].as_str().unwrap().to_owned()
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The verdicts that `/endpoints` shows, by address.
fn verdicts(proxy: &ProxyHandle) -> Vec<(String, String)> {
    let mut client = RawClient::connect(proxy.addresses().admin.unwrap()).unwrap();
    let lists = client.get("localhost", "/endpoints").unwrap().json();
    let endpoints = lists["endpoints"][0]["endpoints"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let verdict = |endpoint: &serde_json::Value| (text(&endpoint["address"]), text(&endpoint["check"]));
    endpoints.iter().map(verdict).collect()
}

fn verdict(proxy: &ProxyHandle, of: &EchoServer) -> String {
    let address = of.address.to_string();
    let found = verdicts(proxy).into_iter().find(|(known, _)| *known == address);
    found.map(|(_, verdict)| verdict).unwrap_or_default()
}

fn up(proxy: &ProxyHandle, of: &EchoServer) -> Option<String> {
    let series = format!("endpoint=\"{}\"", of.address);
    let text = proxy.registry().render();
    let line = text
        .lines()
        .find(|line| line.starts_with("propylon_endpoint_up{") && line.contains(&series))?;
    line.rsplit_once(' ').map(|(_, value)| value.to_owned())
}

#[test]
fn an_endpoint_that_fails_its_checks_gets_no_requests_until_it_passes_them() {
    let (good, bad) = (echo("good"), echo("bad"));
    let proxy = start(&[]);
    let addresses = [good.address, bad.address];
    proxy.apply(&everything(&checked(&addresses, BackendProtocol::Http1, Some(&http()))));
    until("both are healthy", || {
        verdicts(&proxy).iter().all(|(_, verdict)| verdict == "healthy")
    });
    until_served(&proxy, &["bad", "good"]);
    bad.set_health(500);
    until("one is unhealthy", || verdict(&proxy, &bad) == "unhealthy");
    assert_eq!(up(&proxy, &bad).as_deref(), Some("0"));
    assert_eq!(up(&proxy, &good).as_deref(), Some("1"));
    until_served(&proxy, &["good"]);
    assert!(proxy.reports().is_empty());
    bad.set_health(200);
    until("it is healthy again", || verdict(&proxy, &bad) == "healthy");
    until_served(&proxy, &["bad", "good"]);
}

#[test]
fn when_none_is_healthy_all_are_used() {
    let (one, two) = (echo("one"), echo("two"));
    one.set_health(503);
    two.set_health(503);
    let proxy = start(&[]);
    let addresses = [one.address, two.address];
    proxy.apply(&everything(&checked(&addresses, BackendProtocol::Http1, Some(&http()))));
    until("it is reported", || {
        proxy
            .reports()
            .iter()
            .any(|report| report.reason == ReportReason::EndpointsUnhealthy)
    });
    until_served(&proxy, &["one", "two"]);
    two.set_health(200);
    until("it is over", || proxy.reports().is_empty());
    until_served(&proxy, &["two"]);
}

#[test]
fn verdicts_survive_changes_of_everything_else_and_go_with_the_check() {
    let (good, bad, new) = (echo("good"), echo("bad"), echo("new"));
    bad.set_health(500);
    let proxy = start(&[]);
    let mut before = checked(&[good.address, bad.address], BackendProtocol::Http1, Some(&http()));
    proxy.apply(&everything(&before));
    until("one is unhealthy", || verdict(&proxy, &bad) == "unhealthy");
    let mut rarely = http();
    rarely.interval = Duration::from_hours(1);
    let steps = [
        checked(
            &[good.address, bad.address, new.address],
            BackendProtocol::Http1,
            Some(&http()),
        ),
        checked(&[new.address, bad.address], BackendProtocol::Http1, Some(&rarely)),
    ];
    for step in steps {
        proxy.apply(&Delta::between(&before, &step));
        assert_eq!(verdict(&proxy, &bad), "unhealthy");
        until("the bad one does not serve", || {
            !served(&proxy).contains(&"bad".to_owned())
        });
        assert_eq!(verdict(&proxy, &bad), "unhealthy");
        before = step;
    }
    let unchecked = checked(&[new.address, bad.address], BackendProtocol::Http1, None);
    proxy.apply(&Delta::between(&before, &unchecked));
    until("nothing is known of it", || verdict(&proxy, &bad).is_empty());
    until_served(&proxy, &["bad", "new"]);
}

#[test]
fn a_port_that_is_closed_fails_the_tcp_check() {
    let (good, gone) = (echo("good"), echo("gone"));
    let proxy = start(&[]);
    let addresses = [good.address, gone.address];
    proxy.apply(&everything(&checked(
        &addresses,
        BackendProtocol::Http1,
        Some(&check(Probe::Tcp)),
    )));
    until("both are healthy", || {
        verdicts(&proxy).iter().all(|(_, verdict)| verdict == "healthy")
    });
    let gone_address = gone.address.to_string();
    gone.stop();
    until("one is unhealthy", || {
        verdicts(&proxy).contains(&(gone_address.clone(), "unhealthy".to_owned()))
    });
    assert_eq!(good.requests(), 0);
}

#[test]
fn a_grpc_server_says_that_it_is_not_serving() {
    let server = echo("grpc");
    let proxy = start(&[]);
    let check = check(Probe::Grpc("echo".into()));
    proxy.apply(&everything(&checked(
        &[server.address],
        BackendProtocol::H2c,
        Some(&check),
    )));
    until("it is healthy", || verdict(&proxy, &server) == "healthy");
    server.set_health(503);
    until("it is unhealthy", || verdict(&proxy, &server) == "unhealthy");
    let (authority, agent) = server.last_health_check().unwrap();
    assert_eq!(authority, server.address.to_string());
    assert!(agent.starts_with("propylon-health/"), "{agent}");
}
