//! The controller against a real API server, with exactly the rights of the chart, and a proxy that follows it.

mod scene;

use std::time::Duration;

use propylon_e2e::lab::{ApiServer, Options, Part, Store};
use propylon_testkit::wait;
use rustix::process::Signal;

use scene::{PATIENCE, Scene};

/// The takeover of a Lease that was released, or has expired: 15 s of it and one attempt; the rest is for a busy machine.
const TAKEOVER: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn an_ingress_reaches_the_proxy_and_outlives_the_api_server() {
    let server = ApiServer::start(Options::default()).unwrap();
    let scene = Scene::install(&server).await;
    let controller = scene.release.controller(&[]).await.unwrap();
    scene.ingress("first", "first.example");
    let proxy = scene.release.proxy(&[&controller], &[]).await.unwrap();
    scene.until_served(&proxy, "first.example");
    // What the API server says of it is gone for a while, and its history for ever.
    server.kill(Part::ApiServer);
    assert!(
        wait::until(PATIENCE, || scene
            .metric(&controller, "propylon_watch_up{kind=\"Ingress\"")
            == Some(0.0))
        .is_some()
    );
    assert_eq!(scene.code(&proxy, "first.example"), "503");
    assert!(scene.is_ready(&controller), "the proxies go on, and so it does");
    server.restart(Part::ApiServer).unwrap();
    server.compact().unwrap();
    scene.ingress("second", "second.example");
    scene.until_served(&proxy, "second.example");
    assert_eq!(scene.code(&proxy, "first.example"), "503");
    scene.kubectl(&["delete", "ingress", "first"]);
    assert!(wait::until(PATIENCE, || scene.code(&proxy, "first.example") == "404").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_without_streaming_lists_is_read_in_pages() {
    let server = ApiServer::start(Options {
        store: Store::Etcd34,
        ..Options::default()
    })
    .unwrap();
    let scene = Scene::install(&server).await;
    scene.ingress("first", "first.example");
    let controller = scene.release.controller(&[]).await.unwrap();
    let log = scene.log(&controller);
    assert!(log.contains("has no streaming lists"), "{log}");
    let proxy = scene.release.proxy(&[&controller], &[]).await.unwrap();
    scene.until_served(&proxy, "first.example");
    scene.ingress("second", "second.example");
    scene.until_served(&proxy, "second.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_and_the_rest_works() {
    let server = ApiServer::start(Options::default()).unwrap();
    let scene = Scene::install(&server).await;
    // Somebody took the Secrets from the controller.
    let roles = scene.kubectl(&["get", "clusterrole", "--output", "name"]);
    let role = roles
        .lines()
        .find(|role| role.ends_with("-controller-secrets"))
        .unwrap();
    let role = role.rsplit('/').next().unwrap();
    let saved = scene.kubectl(&["get", "clusterrole", role, "--output", "jsonpath={.rules}"]);
    let rules = |rules: &str| {
        scene.kubectl(&[
            "patch",
            "clusterrole",
            role,
            "--type=merge",
            &format!("--patch={{\"rules\":{rules}}}"),
        ])
    };
    rules("[]");
    let controller = scene.release.controller(&[]).await.unwrap();
    let log = scene.log(&controller);
    assert!(
        log.contains("a right is missing") && log.contains("get, list and watch on secrets"),
        "{log}"
    );
    let missing = "propylon_right_missing{verb=\"list,watch\",resource=\"secrets\"";
    assert_eq!(scene.metric(&controller, missing), Some(1.0));
    scene.ingress("first", "first.example");
    let proxy = scene.release.proxy(&[&controller], &[]).await.unwrap();
    scene.until_served(&proxy, "first.example");
    rules(&saved);
    assert!(wait::until(PATIENCE, || scene.metric(&controller, missing).is_none()).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_passes_to_another_replica_and_proxies_go_on() {
    let server = ApiServer::start(Options::default()).unwrap();
    let scene = Scene::install(&server).await;
    let first = scene.release.controller(&[]).await.unwrap();
    assert!(wait::until(PATIENCE, || scene.leads(&first)).is_some());
    let second = scene.release.controller(&[]).await.unwrap();
    scene.ingress("first", "first.example");
    let proxy = scene.release.proxy(&[&first, &second], &[]).await.unwrap();
    scene.until_served(&proxy, "first.example");
    assert!(!scene.leads(&second));
    // Asked to end, it gives the Lease back: the other one leads with its next attempt, within 2 s.
    first.stop();
    let released = wait::until(TAKEOVER, || scene.leads(&second)).expect("the second one leads");
    assert!(
        released < Duration::from_secs(10),
        "{released:?}, as if the Lease had to expire"
    );
    scene.ingress("second", "second.example");
    scene.until_served(&proxy, "second.example");
    let third = scene.release.controller(&[]).await.unwrap();
    second.signal(Signal::KILL).unwrap();
    assert!(wait::until(TAKEOVER, || scene.leads(&third)).is_some());
    assert_eq!(scene.code(&proxy, "first.example"), "503");
}
