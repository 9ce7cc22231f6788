//! The life of a proxy: its start, a controller that goes and comes, its end.

use std::{fs, time::Duration};

use propylon_e2e::manifests::{echo, site};
use propylon_testkit::wait::{self, PATIENCE};
use rustix::process::Signal;

use crate::{controller::World, gateway::Node};

const DAY: Duration = Duration::from_hours(24);

#[test]
fn it_is_ready_once_it_has_a_state() {
    let mut world = World::new(DAY);
    let node = Node::new(&world);
    let mut proxy = node.start("a", &["--drain-accept-grace", "0s"]);
    proxy.becomes("startupz");
    proxy.becomes("livez");
    proxy.says("stream from the controller is open");
    let (ready, answer) = proxy.probe("readyz");
    assert!(!ready && answer.contains("no configuration"), "{answer}");
    let echo = echo("web");
    world.publish(&site("web.example", "web", &[echo.address]));
    proxy.becomes("readyz");
    assert_eq!(node.get(), 200);
    assert_eq!(node.metric("propylon_stream_connected"), Some(1.0));
    // A change comes without anybody asking.
    let other = propylon_e2e::manifests::echo("other");
    world.publish(&site("web.example", "web", &[other.address]));
    let moved = wait::until(PATIENCE, || node.get() == 200 && other.requests() > 0);
    assert!(moved.is_some(), "{}", proxy.process.transcript());
    let line = proxy.says("serving");
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["level"], "info", "a log that is not a terminal's is JSON");
    proxy.process.signal(Signal::TERM).unwrap();
    proxy.ends_well();
}

#[test]
fn it_serves_the_last_good_state_without_a_controller() {
    let mut world = World::new(DAY);
    let node = Node::new(&world);
    let echo = echo("web");
    world.publish(&site("web.example", "web", &[echo.address]));
    let proxy = node.start("a", &[]);
    proxy.becomes("readyz");
    let snapshot = node.folder.path().join("a/snapshot");
    assert!(wait::until(PATIENCE, || snapshot.is_file()).is_some(), "no snapshot");
    world.stop();
    proxy.says("no stream from the controller; what is live stays");
    assert_eq!(node.get(), 200);
    // A crash: nothing is written any more, and nobody is there to ask.
    proxy.process.signal(Signal::KILL).unwrap();
    drop(proxy);
    let proxy = node.start("a", &[]);
    proxy.becomes("readyz");
    proxy.says("serving the last good state of the process before");
    assert_eq!(node.get(), 200);
    // The certificate of the process before is still good: no token is needed.
    world.issuing.refuses.store(true, std::sync::atomic::Ordering::Relaxed);
    world.start();
    let connected = wait::until(PATIENCE * 2, || node.metric("propylon_stream_connected") == Some(1.0));
    assert!(connected.is_some(), "{}", proxy.process.transcript());
    assert_eq!(world.issuing.issued.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[test]
fn an_empty_cluster_is_a_state() {
    let mut world = World::new(DAY);
    world.publish("");
    let node = Node::new(&world);
    let proxy = node.start("a", &[]);
    proxy.becomes("readyz");
    assert_eq!(node.get(), 404);
    let snapshot = node.folder.path().join("a/snapshot");
    assert!(wait::until(PATIENCE, || snapshot.is_file()).is_some(), "no snapshot");
    proxy.process.signal(Signal::KILL).unwrap();
    drop(proxy);
    world.stop();
    let proxy = node.start("a", &[]);
    proxy.becomes("readyz");
    assert_eq!(node.get(), 404);
}

#[test]
fn a_damaged_snapshot_is_as_none() {
    let mut world = World::new(DAY);
    let node = Node::new(&world);
    fs::create_dir(node.folder.path().join("a")).unwrap();
    fs::write(
        node.folder.path().join("a/snapshot"),
        b"propylon snapshot 1\nand then nothing",
    )
    .unwrap();
    let proxy = node.start("a", &[]);
    proxy.says("no last good state");
    assert!(!proxy.probe("readyz").0);
    let echo = echo("web");
    world.publish(&site("web.example", "web", &[echo.address]));
    proxy.becomes("readyz");
    assert_eq!(node.get(), 200);
}

#[test]
fn it_can_be_ended_before_it_has_a_state() {
    let world = World::new(DAY);
    let node = Node::new(&world);
    let mut proxy = node.start("a", &[]);
    proxy.says("waiting for the first state");
    proxy.process.signal(Signal::TERM).unwrap();
    proxy.ends_well();
}
