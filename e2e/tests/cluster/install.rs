//! From `helm install` and an ordinary application to the first answer.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use propylon_e2e::stage::{App, PATIENCE, get, ingress, is_ready, tls_secret};
use propylon_testkit::{certs::Authority, raw::RawClient, wait};
use tokio::time::Instant;

use crate::stage;

/// The budget between the moment when the pods are ready and the first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

#[test]
fn an_ordinary_application_is_served_as_soon_as_its_pods_are_ready() {
    let stage = stage();
    let space = stage.namespace("install");
    let (host, app) = ("shop.install.example", App::new("shop", 2));
    let leaf = Authority::new("install").leaf(&[host]);
    space.apply(&app.manifest());
    space.apply(&tls_secret("shop-tls", &leaf).to_string());
    space.apply(&ingress("shop", host, "shop", Some("shop-tls")).to_string());

    let address = stage.http()[0];
    let first = std::thread::scope(|scope| {
        let answered = scope.spawn(|| {
            let came = wait::until(PATIENCE, || {
                // With TLS, plain requests are redirected: that needs no pod. What the pods answer comes by TLS.
                let https = RawClient::connect_tls(stage.https()[0], Some(host), &["http/1.1"]);
                https
                    .and_then(|mut client| client.get(host, "/"))
                    .is_ok_and(|answer| answer.status == 200)
            });
            came.map(|_| Instant::now())
        });
        let ready = wait::until(PATIENCE, || {
            let pods: Vec<Pod> = space.pods(&app);
            pods.len() == app.replicas && pods.iter().all(is_ready)
        });
        let ready_at = Instant::now();
        assert!(ready.is_some(), "the pods are ready\n{}", stage.diagnosis());
        let answered_at = answered.join().expect("the client does not panic");
        answered_at.map(|at| at.saturating_duration_since(ready_at))
    });
    let first = first.unwrap_or_else(|| panic!("{address} never answers\n{}", stage.diagnosis()));
    println!("first 200 {} ms after the pods were ready", first.as_millis());
    assert!(first <= FIRST_ANSWER, "{first:?}");

    for https in stage.https() {
        let mut client = RawClient::connect_tls(https, Some(host), &["http/1.1"]).unwrap();
        assert_eq!(
            client.certificates()[0],
            leaf.cert_der,
            "the Secret's certificate at {https}"
        );
        let report = client.get(host, "/").unwrap().json();
        assert_eq!(report["namespace"], space.name.as_str());
    }
    let plain = get(address, host, "/path").unwrap();
    let location = plain.header("location").unwrap_or_default().to_owned();
    assert_eq!(
        (plain.status, location.as_str()),
        (308, "https://shop.install.example/path")
    );
}

#[test]
fn status_names_the_nodes_and_an_event_says_that_it_is_live() {
    let stage = stage();
    let space = stage.namespace("status");
    let app = App::new("shop", 1);
    space.deploy(&app);
    space.apply(&ingress("shop", "shop.status.example", "shop", None).to_string());
    stage.until_status("shop.status.example", "/", 200);

    let mut expected: Vec<String> = stage.cluster.nodes().iter().map(|node| node.ipv4.to_string()).collect();
    expected.sort();
    let mut last = Vec::new();
    let came = wait::until(PATIENCE, || {
        last = space.addresses("shop");
        let mut sorted = last.clone();
        sorted.sort();
        sorted == expected
    });
    assert!(
        came.is_some(),
        "{last:?} instead of {expected:?}\n{}",
        stage.diagnosis()
    );
    let mut events = Vec::new();
    let came = wait::until(PATIENCE, || {
        events = space.events("Ingress", "shop");
        events
            .iter()
            .any(|(kind, reason, _)| kind == "Normal" && reason == "Programmed")
    });
    assert!(came.is_some(), "{events:?}\n{}", stage.diagnosis());
    assert!(events.iter().all(|(kind, ..)| kind == "Normal"), "{events:?}");
}
