use propylon_controller::replica::Told;

use super::*;
use crate::check::facts::{Class, Leader, Replica};

const NOW: i64 = 1_800_000_000;

fn workload_of(component: &str) -> Workload {
    Workload {
        component: component.to_owned(),
        title: format!("Deployment propylon-{component}"),
        desired: 2,
        ready: 2,
        updated: 2,
        version: "0.1.0".to_owned(),
    }
}

fn pod_of(component: &str, name: &str) -> PodFact {
    PodFact {
        name: name.to_owned(),
        component: component.to_owned(),
        node: "n1".to_owned(),
        is_ready: true,
        is_ending: false,
        trouble: None,
        restarts: 0,
    }
}

fn told(version: &str) -> Told {
    Told {
        node: "n1".to_owned(),
        version: version.repeat(32).parse().unwrap(),
        unix: 5,
    }
}

/// A release as it should be.
fn well() -> Facts {
    Facts {
        namespace: "ns".to_owned(),
        kubernetes: "v1.36.3".to_owned(),
        ahead_s: Some(0),
        now_unix_s: NOW,
        workloads: vec![workload_of("controller"), workload_of("proxy")],
        pods: vec![pod_of("controller", "c"), pod_of("proxy", "p1"), pod_of("proxy", "p2")],
        leader: Some(Leader {
            holder: "c".to_owned(),
            renewed_unix_s: NOW - 2,
            duration_s: 15,
        }),
        replicas: vec![Replica {
            pod: "c".to_owned(),
            told: Ok([("ns/p1".to_owned(), told("a")), ("ns/p2".to_owned(), told("a"))].into()),
        }],
        classes: vec![Class {
            name: "propylon".to_owned(),
            controller: OURS.to_owned(),
            is_default: true,
        }],
        pools: Some(1),
        authority_end_unix_s: Some(NOW + 300 * DAY_S),
        ..Facts::default()
    }
}

/// The findings that are worse than `Ok`, as `level check message`.
fn troubles(facts: &Facts) -> Vec<String> {
    let found = findings(facts).into_iter().filter(|finding| finding.level > Level::Ok);
    found
        .map(|finding| format!("{} {} {}", finding.level.as_str(), finding.check, finding.message))
        .collect()
}

#[test]
fn a_release_that_works_has_no_trouble() {
    assert_eq!(troubles(&well()), [""; 0]);
    assert!(
        findings(&well())
            .iter()
            .any(|finding| finding.message.starts_with("2 proxies serve the same state, aaaaaaaa"))
    );
}

/// A change of a release that works, and what is then told.
type Case = (fn(&mut Facts), &'static str);

const OF_THE_RELEASE: &[Case] = &[
    (
        |facts| facts.ahead_s = Some(-60),
        "warning clock the clock of this machine is 60 s behind",
    ),
    (
        |facts| facts.workloads.truncate(1),
        "error installed there is no proxy in the namespace ns",
    ),
    (
        |facts| facts.workloads[1].ready = 0,
        "error installed Deployment propylon-proxy, version 0.1.0: 0 of 2",
    ),
    (|facts| facts.workloads[1].updated = 1, "1 of the newest version"),
    (
        |facts| facts.workloads[1].version = "0.2.0".to_owned(),
        "warning version controller and proxies are of different",
    ),
    (
        |facts| {
            facts.pods[1].is_ready = false;
            facts.pods[1].trouble = Some("proxy CrashLoopBackOff".to_owned());
            facts.pods[1].restarts = 3;
        },
        "warning pod p1 on n1: proxy CrashLoopBackOff, started again 3 times",
    ),
    (
        |facts| facts.denied = vec!["watch pods".to_owned()],
        "error permissions the controller may not watch pods",
    ),
    (|facts| facts.leader = None, "error leader no controller leads"),
    (
        |facts| facts.leader.as_mut().unwrap().renewed_unix_s = NOW - 60,
        "error leader c leads, but has not renewed its Lease for 60 s",
    ),
];

const OF_THE_CLUSTER: &[Case] = &[
    (|facts| facts.replicas.clear(), "warning state p1 follows no controller"),
    (
        |facts| facts.replicas[0].told = Err("x".to_owned()),
        "warning state what c tells of its proxies cannot be read: x",
    ),
    (
        |facts| {
            facts.replicas[0]
                .told
                .as_mut()
                .unwrap()
                .insert("ns/p2".to_owned(), told("b"));
        },
        "notice state state bbbbbbbb is served by p2",
    ),
    (|facts| facts.classes.clear(), "warning class there is no IngressClass"),
    (
        |facts| {
            facts.classes.push(Class {
                name: "nginx".to_owned(),
                controller: "k8s.io/ingress-nginx".to_owned(),
                is_default: true,
            });
        },
        "error class propylon, nginx are all default classes",
    ),
    (
        |facts| facts.pools = None,
        "notice pools the custom resource IPAddressPool is not defined",
    ),
    (|facts| facts.pools = Some(0), "notice pools there is no pool"),
    (
        |facts| facts.authority_end_unix_s = None,
        "error certificates the ConfigMap propylon-trust is missing",
    ),
    (
        |facts| facts.authority_end_unix_s = Some(NOW + 3600),
        "error certificates the proxies' trust ends in 1 hours",
    ),
    (
        |facts| facts.certificates = vec![("a/b".to_owned(), NOW + 3 * DAY_S)],
        "warning certificates the certificate of the Secret a/b ends in 3 days",
    ),
    (
        |facts| facts.certificates = vec![("a/b".to_owned(), NOW - 3 * DAY_S)],
        "error certificates the certificate of the Secret a/b ended 3 days ago",
    ),
    (
        |facts| facts.unread = vec![("pools", "forbidden".to_owned())],
        "notice unchecked pools: forbidden",
    ),
];

#[test]
fn every_trouble_is_told_with_a_hint() {
    for (edit, wanted) in OF_THE_RELEASE.iter().chain(OF_THE_CLUSTER) {
        let mut facts = well();
        edit(&mut facts);
        let mut bad = findings(&facts);
        bad.retain(|finding| finding.level >= Level::Warning);
        assert!(bad.iter().all(|finding| !finding.hint.is_empty()), "{bad:?}");
        let found = troubles(&facts).join("\n");
        assert!(found.contains(wanted), "{found} is not {wanted}");
    }
}

#[test]
fn a_pod_that_ends_is_no_trouble() {
    let mut facts = well();
    facts.pods[1].is_ready = false;
    facts.pods[1].is_ending = true;
    assert_eq!(troubles(&facts), [""; 0]);
}
