//! The whole data plane in this process: what goes in comes out.

use std::time::Duration;

use propylon_testkit::{
    echo::{EchoOptions, EchoServer},
    raw::RawClient,
    wait,
};

use super::common::{Builder, everything, start};

#[test]
fn requests_reach_the_endpoint_of_their_host() {
    let backend = EchoServer::start(EchoOptions::named("web-1")).unwrap();
    let proxy = start(&[]);
    proxy.apply(&everything(
        &Builder::default().host("web.example.com", &[backend.address]).build(),
    ));
    let mut client = RawClient::connect(proxy.addresses().http[0]).unwrap();
    for _ in 0..3 {
        let response = client.get("web.example.com", "/a?b=c").unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.json()["name"], "web-1");
    }
    let missing = client.get("other.example.com", "/").unwrap();
    assert_eq!(missing.status, 404);
    assert_eq!(
        missing.header("proxy-status"),
        Some("propylon; error=destination_not_found; details=\"route_not_found.host\"")
    );
}

#[test]
fn a_drained_proxy_answers_then_ends() {
    let backend = EchoServer::start(EchoOptions::named("web-1")).unwrap();
    let proxy = start(&["--drain-timeout", "10s"]);
    proxy.apply(&everything(
        &Builder::default().host("web.example.com", &[backend.address]).build(),
    ));
    let mut client = RawClient::connect(proxy.addresses().http[0]).unwrap();
    assert_eq!(client.get("web.example.com", "/").unwrap().status, 200);
    proxy.drain(Duration::ZERO);
    proxy.join();
    assert!(client.closes_within(Duration::from_secs(5)).unwrap());
}

#[test]
fn an_idle_connection_is_parked_and_serves_again() {
    let backend = EchoServer::start(EchoOptions::named("web-1")).unwrap();
    let proxy = start(&[]);
    proxy.apply(&everything(
        &Builder::default().host("web.example.com", &[backend.address]).build(),
    ));
    let mut client = RawClient::connect(proxy.addresses().http[0]).unwrap();
    for _ in 0..2 {
        assert_eq!(client.get("web.example.com", "/").unwrap().status, 200);
        // Longer than the time after which a worker parks; the condition is time itself.
        assert!(wait::until(Duration::from_millis(1_300), || false).is_none());
    }
    assert_eq!(client.get("web.example.com", "/").unwrap().status, 200);
    assert_eq!(backend.requests(), 3);
}
