//! SIGTERM, SIGINT, and the second of them.

use std::time::Duration;

use propylon_e2e::{
    Gate,
    frames::{self, FrameClient, flag, kind},
    manifests::{echo, site},
    websocket,
};
use propylon_testkit::{echo::EchoServer, raw::RawClient, wait::PATIENCE};
use rustix::process::Signal;

fn web(grace: &str, drain: &str) -> (Gate, EchoServer) {
    let echo = echo("web");
    let flags = ["--drain-accept-grace", grace, "--drain-timeout", drain];
    (
        Gate::start_with(&site("web.example", "web", &[echo.address]), &flags),
        echo,
    )
}

/// Waits for the end of the process, which must be exit code 0.
fn ends_well(gate: &mut Gate) {
    let status = gate.process.wait(PATIENCE).unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}\n{}",
        gate.transcript()
    );
}

#[test]
fn sigterm_fails_readiness_at_once_and_keeps_accepting_for_the_grace() {
    let (mut gate, _echo) = web("3s", "10s");
    let mut kept = gate.connect();
    assert_eq!(kept.get("web.example", "/").unwrap().header("connection"), None);
    gate.signal(Signal::TERM);
    let failed = gate.until("readiness fails", || gate.admin("/readyz").status == 503);
    assert!(failed < Duration::from_millis(500), "{failed:?}");
    assert_eq!(gate.admin("/livez").status, 200);
    let response = gate.get("web.example", "/");
    assert_eq!(response.status, 200);
    let response = kept.get("web.example", "/");
    assert!(response.is_ok_and(|response| response.status == 200 && response.header("connection") == Some("close")));
    ends_well(&mut gate);
    assert!(RawClient::connect(gate.http).is_err());
}

#[test]
fn requests_under_way_finish() {
    let (mut gate, echo) = web("100ms", "15s");
    let mut slow = gate.connect();
    slow.send(b"GET /delay/2000 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    let mut stream = FrameClient::connect(gate.http).unwrap();
    stream
        .request(1, &frames::get("web.example", "/delay/2000"), flag::END_STREAM)
        .unwrap();
    gate.until("both are under way", || echo.requests() == 2);
    gate.signal(Signal::TERM);
    let response = slow.response().unwrap();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    let frames = stream.rest();
    assert!(
        frames
            .iter()
            .any(|frame| frame.kind == kind::HEADERS && frame.stream == 1),
        "{frames:?}"
    );
    ends_well(&mut gate);
}

#[test]
fn http2_gets_goaway_in_two_steps() {
    let (mut gate, echo) = web("1s", "15s");
    let mut client = FrameClient::connect(gate.http).unwrap();
    client
        .request(1, &frames::get("web.example", "/delay/1500"), flag::END_STREAM)
        .unwrap();
    gate.until("it is under way", || echo.requests() == 1);
    gate.signal(Signal::TERM);
    let is_goaway = |frame: &frames::Frame| frame.kind == kind::GOAWAY;
    let first = client.read_until(is_goaway).unwrap();
    assert_eq!((first.number_at(0), first.number_at(4)), (Some(0x7fff_ffff), Some(0)));
    let second = client.read_until(is_goaway).unwrap();
    assert_eq!((second.number_at(0), second.number_at(4)), (Some(1), Some(0)));
    let rest = client.rest();
    assert!(
        rest.iter()
            .any(|frame| frame.kind == kind::HEADERS && frame.stream == 1),
        "{rest:?}"
    );
    ends_well(&mut gate);
}

#[test]
fn the_drain_ends_within_its_time() {
    let (mut gate, echo) = web("0s", "1s");
    let mut endless = gate.connect();
    endless
        .send(b"GET /delay/60000 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    gate.until("it is under way", || echo.requests() == 1);
    gate.signal(Signal::TERM);
    let (gate_transcript, took) = {
        let mut status = None;
        let took = propylon_testkit::wait::until(PATIENCE, || {
            status = gate.process.wait(Duration::ZERO).unwrap();
            status.is_some()
        });
        (gate.transcript(), took)
    };
    assert!(
        took.is_some_and(|took| took < Duration::from_secs(5)),
        "{took:?}\n{gate_transcript}"
    );
}

#[test]
fn a_tunnel_lives_through_the_drain() {
    let (mut gate, _echo) = web("100ms", "4s");
    let mut tunnel = gate.connect();
    tunnel.send(websocket::request("web.example", "/").as_bytes()).unwrap();
    assert!(tunnel.head().unwrap().starts_with("HTTP/1.1 101"));
    gate.signal(Signal::TERM);
    gate.until("listeners are closed", || RawClient::connect(gate.http).is_err());
    tunnel.send(&websocket::client_text("still here")).unwrap();
    assert_eq!(tunnel.exactly(12).unwrap(), websocket::server_text("still here"));
    drop(tunnel);
    ends_well(&mut gate);
}

#[test]
fn sigint_has_no_grace() {
    let echo = echo("web");
    let mut gate = Gate::start(&site("web.example", "web", &[echo.address]));
    gate.signal(Signal::INT);
    let mut status = None;
    let took = propylon_testkit::wait::until(PATIENCE, || {
        status = gate.process.wait(Duration::ZERO).unwrap();
        status.is_some()
    });
    assert!(took.is_some_and(|took| took < Duration::from_secs(3)), "{took:?}");
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let (mut gate, echo) = web("30s", "60s");
        let mut endless = gate.connect();
        endless
            .send(b"GET /delay/60000 HTTP/1.1\r\nHost: web.example\r\n\r\n")
            .unwrap();
        gate.until("it is under way", || echo.requests() == 1);
        gate.signal(Signal::TERM);
        gate.until("the drain has begun", || {
            gate.try_admin("/readyz").is_ok_and(|response| response.status == 503)
        });
        gate.signal(second);
        let took = propylon_testkit::wait::until(PATIENCE, || gate.process.wait(Duration::ZERO).unwrap().is_some());
        assert!(
            took.is_some_and(|took| took < Duration::from_secs(1)),
            "{second:?} {took:?}"
        );
    }
}
