//! The proxy's certificate: renewed without a gap, and words for what is wrong.

use std::{fs, sync::atomic::Ordering::Relaxed, time::Duration};

use propylon_controller::identity::authority::Authority;
use propylon_e2e::{
    load::{Load, Plan},
    manifests::{echo, site},
};
use propylon_testkit::wait;

use crate::{
    controller::{World, now_unix_s},
    gateway::Node,
};

const DAY: Duration = Duration::from_hours(24);

#[test]
fn a_renewed_certificate_replaces_the_connection_and_no_request_fails() {
    let mut world = World::new(Duration::from_secs(6));
    let node = Node::new(&world);
    let echo = echo("web");
    world.publish(&site("web.example", "web", &[echo.address]));
    let proxy = node.start("a", &[]);
    proxy.becomes("readyz");
    let load = Load::start(Plan {
        address: node.http,
        new: 100,
        kept: 100,
    });
    let renewed = || world.issuing.renewed.load(Relaxed);
    let twice = wait::until(Duration::from_mins(1), || renewed() >= 2);
    assert!(twice.is_some(), "{}", proxy.process.transcript());
    let connected = wait::until(Duration::from_secs(20), || {
        node.metric("propylon_stream_connected") == Some(1.0)
    });
    assert!(connected.is_some(), "{}", proxy.process.transcript());
    let outcome = load.stop();
    assert_eq!(
        outcome.failures,
        0,
        "{:#?}\n{}",
        outcome.described,
        proxy.process.transcript()
    );
    assert_eq!(world.issuing.issued.load(Relaxed), renewed() + 1, "bought once");
}

#[test]
fn an_authority_that_is_not_trusted_is_named_with_what_to_do() {
    let world = World::new(DAY);
    let node = Node::new(&world);
    let other = Authority::create(now_unix_s(), DAY).unwrap();
    fs::write(node.folder.path().join("ca.crt"), other.certificate_pem()).unwrap();
    let proxy = node.start("a", &[]);
    let line = proxy.says("propylon-trust");
    assert!(line.contains("not of an authority in"), "{line}");
    // The kubelet brings the right one: no restart is needed.
    fs::write(node.folder.path().join("ca.crt"), world.authority.certificate_pem()).unwrap();
    proxy.says("stream from the controller is open");
}

#[test]
fn a_token_that_is_refused_is_told_and_read_again() {
    let world = World::new(DAY);
    let node = Node::new(&world);
    let token = node.folder.path().join("token");
    fs::write(&token, "bad").unwrap();
    let proxy = node.start("a", &[]);
    proxy.says("the controller issues no certificate: refused: the token is not good");
    fs::remove_file(&token).unwrap();
    proxy.says("mount a projected ServiceAccount token");
    fs::write(&token, crate::controller::TOKEN).unwrap();
    proxy.says("stream from the controller is open");
}
