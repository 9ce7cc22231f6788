//! What `helm uninstall` leaves.

use std::time::Duration;

use propylon_e2e::stage::{App, NAMESPACE, PATIENCE, Stage, ingress};
use serde_json::{Value, json};

use crate::stage;

/// The annotations, labels and finalizers of ours begin so.
const OURS: &str = "propylon.dev/";

/// Above the proxies' `terminationGracePeriodSeconds`, 90.
const DRAINED: Duration = Duration::from_mins(2);

#[test]
fn uninstalling_leaves_nothing_but_the_documented_definitions() {
    let stage = stage();
    let space = stage.namespace("uninstall");
    let app = App::new("app", 1);
    space.deploy(&app);
    space.apply(&ingress("app", "app.uninstall.example", "app", None).to_string());
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "outside"},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "app"},
            "ports": [{"port": 18080, "targetPort": 8080}],
        },
    });
    space.apply(&service.to_string());
    stage.until_status("app.uninstall.example", "/", 200);
    stage.until("status is written", PATIENCE, || !space.addresses("app").is_empty());

    stage.uninstall();
    // The last connections of the proxies may drain for a minute.
    let mut left = Vec::new();
    let gone = propylon_testkit::wait::until(DRAINED, || {
        let objects = all_objects(&stage);
        let ours = objects
            .iter()
            .filter(|object| is_ours(object) && !is_documented(object));
        left = ours.map(describe).collect();
        left.is_empty()
    });
    assert!(gone.is_some(), "{left:#?}");
    // No finalizer of ours holds what users delete afterwards.
    stage.objects.kubectl(&[
        "--namespace",
        &space.name,
        "delete",
        "service/outside",
        "ingress/app",
        "--timeout=30s",
    ]);
    stage
        .objects
        .kubectl(&["delete", "namespace", NAMESPACE, "--timeout=60s"]);
}

/// Every object of the cluster, of every kind that can be listed, but Events.
fn all_objects(stage: &Stage) -> Vec<Value> {
    let kinds = stage
        .objects
        .kubectl(&["api-resources", "--verbs=list", "--output=name"]);
    let kinds: Vec<&str> = kinds
        .lines()
        .filter(|kind| !kind.starts_with("events") && !kind.ends_with("metrics.k8s.io"))
        .collect();
    let text = stage
        .objects
        .kubectl(&["get", &kinds.join(","), "--all-namespaces", "--output=json"]);
    let list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
    list["items"].as_array().cloned().unwrap_or_default()
}

/// Whether the release or one of its programs made an object, or left a mark on it.
fn is_ours(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let text = |value: &Value| value.to_string();
    let has_mark = ["labels", "annotations", "finalizers"]
        .iter()
        .any(|part| text(&metadata[part]).contains(OURS));
    let of_release = metadata["labels"]["app.kubernetes.io/name"] == "propylon";
    let of_namespace = metadata["namespace"] == NAMESPACE && !is_of_every_namespace(object);
    let has_finalizer = text(&metadata["finalizers"]).contains("load-balancer-cleanup");
    has_mark || has_finalizer || of_release || of_namespace || name.starts_with("propylon-")
}

/// The `ConfigMap` and the `ServiceAccount` that Kubernetes puts into every namespace.
fn is_of_every_namespace(object: &Value) -> bool {
    let name = &object["metadata"]["name"];
    name == "kube-root-ca.crt" || (object["kind"] == "ServiceAccount" && name == "default")
}

/// What `docs/uninstall.md` says that stays: the definitions, and the namespace that Helm made.
fn is_documented(object: &Value) -> bool {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match object["kind"].as_str() {
        Some("CustomResourceDefinition") => name.ends_with(".propylon.dev"),
        Some("Namespace") => name == NAMESPACE,
        _ => false,
    }
}

fn describe(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{} {}/{}", object["kind"], metadata["namespace"], metadata["name"])
}
