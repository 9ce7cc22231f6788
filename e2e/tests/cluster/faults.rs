//! Crashes: of the leader, of a proxy, of the API server.

use std::time::Duration;

use propylon_e2e::{
    faults,
    load::{Load, Target},
    stage::{App, PATIENCE, get, ingress, kill_container},
};

use crate::stage;

/// A Lease lasts 15 s, and a new leader looks every 2 s.
const TAKEOVER: Duration = Duration::from_secs(30);

/// The kubelet starts a container that crashed for the first time at once.
const RESTART: Duration = Duration::from_secs(20);

#[test]
fn a_killed_leader_is_replaced_and_nothing_is_missed_meanwhile() {
    let stage = stage();
    let space = stage.namespace("leader");
    let host = "app.leader.example";
    space.deploy(&App::new("app", 2));
    space.apply(&ingress("app", host, "app", None).to_string());
    stage.until_status(host, "/", 200);
    let mut leader = None;
    stage.until("someone leads", PATIENCE, || {
        leader = stage.leader();
        leader.is_some()
    });
    let leader = leader.unwrap();

    let target = Target {
        addresses: stage.http(),
        host: host.to_owned(),
        path: "/headers".to_owned(),
    };
    let load = Load::spread(target, 50, 50);
    kill_container(&leader, "/propylon-controller");
    // Every replica serves the proxies: changes need no leader.
    space.apply(&ingress("late", "late.leader.example", "app", None).to_string());
    stage.until_status("late.leader.example", "/", 200);
    // What needs one comes when there is one again.
    let took = stage.until("the new Ingress has addresses", TAKEOVER + RESTART, || {
        !space.addresses("late").is_empty()
    });
    let outcome = load.stop();
    println!(
        "status was written {:.1} s after its Ingress was live; {} failed",
        took.as_secs_f64(),
        outcome.failures
    );
    assert_eq!(outcome.failures, 0, "{:#?}", outcome.described);
    assert_eq!(
        space.addresses("app").len(),
        stage.cluster.nodes().len(),
        "nothing was withdrawn"
    );
}

#[test]
fn a_killed_proxy_comes_back_and_the_others_do_not_notice() {
    let stage = stage();
    let space = stage.namespace("proxy");
    let host = "app.proxy.example";
    space.deploy(&App::new("app", 2));
    space.apply(&ingress("app", host, "app", None).to_string());
    stage.until_status(host, "/", 200);
    let victim = stage.pods_of("proxy").into_iter().next().unwrap();
    let node = stage.node_of(&victim);
    let (of_victim, others): (Vec<_>, Vec<_>) = stage.http().into_iter().partition(|address| address.ip() == node.ipv4);

    let target = Target {
        addresses: others,
        host: host.to_owned(),
        path: "/headers".to_owned(),
    };
    let load = Load::spread(target, 100, 100);
    kill_container(&victim, "/propylon-proxy");
    let back = stage.until("its node answers again", RESTART, || {
        get(of_victim[0], host, "/").is_ok_and(|answer| answer.status == 200)
    });
    let outcome = load.stop();
    println!(
        "the node of the killed proxy answers again after {} ms",
        back.as_millis()
    );
    assert_eq!(outcome.failures, 0, "at the other nodes: {:#?}", outcome.described);
}

#[test]
fn proxies_serve_and_come_back_while_the_api_server_is_away() {
    let stage = stage();
    let report = faults::api_server_away(&stage, Duration::from_secs(20)).unwrap();
    println!("{report}");
}
