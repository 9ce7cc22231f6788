//! The lab itself: clusters come up, survive what tests do to them, and leave nothing. `cargo xtask test cluster`.

#![expect(clippy::unwrap_used, reason = "tests: a failure here is a failed test")]

use std::{
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use propylon_e2e::lab::Cluster;
use propylon_testkit::{
    process::{Output as From, Process, binary},
    wait,
};
use rustix::process::Signal;

/// Not the name of a cluster that somebody works with.
const NAME: &str = "selftest";

/// Far above what the steps of a cluster take.
const PATIENCE: Duration = Duration::from_mins(2);

/// One test at a time has the cluster of that name; it is gone before and after.
struct Turn(#[expect(dead_code, reason = "held until the test ends")] MutexGuard<'static, ()>);

impl Turn {
    fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = Self(TURN.lock().unwrap_or_else(PoisonError::into_inner));
        Cluster::down(NAME).unwrap();
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        Cluster::down(NAME).unwrap();
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("lab").unwrap());
    command.args(["--name", NAME]).args(arguments);
    command
}

fn lab(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// The standard output of a call that succeeds.
fn succeed(arguments: &[&str]) -> String {
    let output = lab(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "lab {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_dual_stack_cluster_comes_up_once_survives_and_leaves_nothing() {
    let _turn = Turn::take();
    succeed(&["up", "--nodes", "1", "--dual-stack"]);
    assert_eq!(succeed(&["up", "--nodes", "1", "--dual-stack"]), "it is up already\n");
    assert!(succeed(&["status"]).contains("node1"));

    let families = "jsonpath={.items[0].spec.podCIDRs[*]} {.items[0].status.addresses[*].address}";
    let addresses = succeed(&["kubectl", "get", "nodes", "-o", families]);
    for expected in ["10.244.0.0/24", "fd00:244::/64", "10.99.0.11", "fd00:99::11"] {
        assert!(addresses.contains(expected), "{addresses}");
    }
    succeed(&[
        "exec",
        "cl",
        "--",
        "busybox",
        "ping",
        "-c",
        "1",
        "-W",
        "5",
        "fd00:99::11",
    ]);
    assert_eq!(lab(&["exec", "cl", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));

    let cluster = Cluster::attach(NAME).unwrap();
    cluster.kill("kube-apiserver").unwrap();
    assert!(!cluster.is_ready());
    cluster.start("kube-apiserver").unwrap();
    cluster.wait_for_api().unwrap();
    let pods = [
        "-n",
        "kube-system",
        "wait",
        "--for=condition=Ready",
        "pods",
        "--all",
        "--timeout=60s",
    ];
    assert!(cluster.kubectl(&pods).succeeded());

    assert!(!Cluster::traces(NAME).unwrap().is_empty());
    succeed(&["down"]);
    assert_eq!(Cluster::traces(NAME).unwrap(), Vec::<String>::new());
    succeed(&["down"]);
    assert!(!lab(&["status"]).status.success());
}

#[test]
fn what_a_killed_start_leaves_is_found_and_removed() {
    let _turn = Turn::take();
    // Right after the fabric, and when the nodes' programs run.
    for mark in ["network", "control plane"] {
        let mut up = Process::spawn(command(&["up", "--nodes", "1"])).unwrap();
        up.line(From::Stdout, PATIENCE, |line| line.ends_with(mark)).unwrap();
        up.signal(Signal::KILL).unwrap();
        up.wait(wait::PATIENCE).unwrap().unwrap();
        assert!(!Cluster::traces(NAME).unwrap().is_empty());
        succeed(&["down"]);
        assert_eq!(
            Cluster::traces(NAME).unwrap(),
            Vec::<String>::new(),
            "killed at '{mark}'"
        );
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let _turn = Turn::take();
    let agent = lab(&["up", "--dataplane", "propylon"]);
    assert!(!agent.status.success());
    assert!(String::from_utf8_lossy(&agent.stderr).contains("the node agent does not exist yet"));
    let many = lab(&["up", "--nodes", "200"]);
    assert!(!many.status.success());
    assert!(String::from_utf8_lossy(&many.stderr).contains("1 to 80"));
}
