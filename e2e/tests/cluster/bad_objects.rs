//! Objects that the API admits and that cannot be served, among many that can.

use std::fmt::Write as _;

use propylon_e2e::stage::{App, PATIENCE, Stage, get, ingress};
use propylon_testkit::wait;
use serde_json::json;

use crate::stage;

/// Ingresses without a fault.
const GOOD: usize = 200;

#[test]
fn two_bad_objects_among_two_hundred_good_ones_are_reported_and_hinder_nothing() {
    let stage = stage();
    let space = stage.namespace("bad");
    space.deploy(&App::new("app", 2));
    let mut objects = String::new();
    for number in 0..GOOD {
        let good = ingress(&format!("good-{number}"), &host(number), "app", None);
        writeln!(objects, "{good}\n---").unwrap();
    }
    // Admitted: the API checks no more of a resource backend than its form.
    let resource = json!({"resource": {"apiGroup": "storage.example", "kind": "Bucket", "name": "files"}});
    let mut unservable = ingress("unservable", "unservable.bad.example", "app", None);
    unservable["spec"]["rules"][0]["http"]["paths"][0]["backend"] = resource;
    // The API checks that both keys are there, not what they are.
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "broken"},
        "stringData": {"tls.crt": "no certificate", "tls.key": "no key"},
    });
    let broken = ingress("broken-tls", "broken.bad.example", "app", Some("broken"));
    write!(objects, "{unservable}\n---\n{secret}\n---\n{broken}\n").unwrap();
    space.apply(&objects);

    for number in 0..GOOD {
        stage.until_status(&host(number), "/", 200);
    }
    let expected = [
        ("Ingress", "unservable", "BackendResourceUnsupported"),
        ("Secret", "broken", "TLSSecretInvalid"),
    ];
    for (object, name, reason) in expected {
        let mut events = Vec::new();
        let reported = wait::until(PATIENCE, || {
            events = space.events(object, name);
            events
                .iter()
                .any(|(kind, found, _)| kind == "Warning" && found == reason)
        });
        assert!(reported.is_some(), "{name}: {events:?}\n{}", stage.diagnosis());
        println!("{name}: {events:?}");
    }
    let reported = warned(&stage, &space.name);
    assert_eq!(reported, ["Ingress unservable", "Secret broken"], "these and no others");
    let broken = get(stage.http()[0], "broken.bad.example", "/").unwrap();
    println!("the host of the broken Secret answers {} in the clear", broken.status);
    let answer = get(stage.http()[0], "unservable.bad.example", "/").unwrap();
    assert!(answer.status >= 404, "{}", answer.head);
}

fn host(number: usize) -> String {
    format!("good-{number}.bad.example")
}

/// What of the kinds that we report on Warnings in a namespace are about, sorted.
fn warned(stage: &Stage, namespace: &str) -> Vec<String> {
    let events: Vec<k8s_openapi::api::core::v1::Event> = stage.objects.list(namespace, "");
    let warnings = events
        .into_iter()
        .filter(|event| event.type_.as_deref() == Some("Warning"));
    let objects = warnings.filter_map(|event| {
        let (kind, name) = (event.involved_object.kind?, event.involved_object.name?);
        matches!(kind.as_str(), "Ingress" | "Secret" | "Service").then(|| format!("{kind} {name}"))
    });
    let names: std::collections::BTreeSet<String> = objects.collect();
    names.into_iter().collect()
}
