//! Two pods of one node: the next one takes the sockets over through a folder of the host.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use propylon_e2e::{
    load::{Load, Plan},
    manifests::{echo, site},
};
use propylon_testkit::{
    process::binary,
    wait::{self, PATIENCE},
};
use rustix::process::Signal;

use crate::{controller::World, gateway::Node};

#[test]
fn the_next_pod_takes_over_under_load() {
    let mut world = World::new(Duration::from_hours(24));
    let node = Node::new(&world);
    let echo = echo("web");
    world.publish(&site("web.example", "web", &[echo.address]));
    let host = node.folder.path().join("host");
    let prepared = Command::new(binary("propylon-proxy").unwrap())
        .arg("prepare")
        .arg(format!("--directory={}", host.display()))
        .arg(format!("--uid={}", rustix::process::geteuid().as_raw()))
        .arg(format!("--gid={}", rustix::process::getegid().as_raw()))
        .status()
        .unwrap();
    assert!(prepared.success());
    assert_eq!(fs::metadata(&host).unwrap().permissions().mode() & 0o777, 0o700);
    let path = host.join("takeover.sock").display().to_string();
    let flags = [
        "--takeover",
        &path,
        "--takeover-linger",
        "1h",
        "--drain-accept-grace",
        "1s",
    ];
    let mut old = node.start("a", &flags);
    old.becomes("readyz");
    let load = Load::start(Plan {
        address: node.http,
        new: 200,
        kept: 200,
    });
    let answered = |count: u64| {
        let goal = load.answers() + count;
        assert!(wait::until(PATIENCE, || load.answers() >= goal).is_some(), "no answers");
    };
    answered(100);
    let new = node.start("b", &flags);
    new.becomes("readyz");
    answered(100);
    // The old pod is alive and not ready, each as its own socket says.
    assert!(old.probe("livez").0);
    assert!(!old.probe("readyz").0);
    assert!(new.probe("livez").0);
    old.process.signal(Signal::TERM).unwrap();
    old.ends_well();
    answered(100);
    let outcome = load.stop();
    assert_eq!(
        outcome.failures,
        0,
        "{:#?}\n{}",
        outcome.described,
        new.process.transcript()
    );
}

#[test]
fn the_running_pod_serves_on_where_the_next_one_has_no_state() {
    let mut world = World::new(Duration::from_hours(24));
    let node = Node::new(&world);
    let echo = echo("web");
    world.publish(&site("web.example", "web", &[echo.address]));
    let path = node.folder.path().join("takeover.sock").display().to_string();
    let flags = ["--takeover", &path];
    let old = node.start("a", &flags);
    old.becomes("readyz");
    world.stop();
    let mut new = node.start("b", &flags);
    new.becomes("startupz");
    assert!(new.probe("livez").0, "a pod that waits is alive");
    assert!(!new.probe("readyz").0, "{}", new.process.transcript());
    assert_eq!(node.get(), 200);
    assert!(old.probe("readyz").0);
    new.process.signal(Signal::TERM).unwrap();
    new.ends_well();
    assert_eq!(node.get(), 200);
    assert!(old.probe("readyz").0);
}
