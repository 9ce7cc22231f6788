//! The folder of manifests: what is read, how fast an edit is live, what is reported.

use std::{fs, os::unix::fs::symlink, time::Duration};

use propylon_e2e::{
    Gate,
    manifests::{backend, echo, ingress, site},
    report::Report,
};
use propylon_testkit::manifest::{self, IsDefault};

const ONE_SECOND: Duration = Duration::from_secs(1);

#[test]
fn every_manifest_below_the_folder_is_read() {
    let echo = echo("echo");
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "list"}, "spec": {"rules": [
            {"host": "list.example", "http": {"paths": [{"path": "/", "pathType": "Prefix",
             "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}}]}"#;
    let two_documents = ingress("one").prefix("one.example", "/", "web", 80).yaml()
        + &ingress("two").prefix("two.example", "/", "web", 80).yaml();
    let gate = Gate::start_files(
        &[
            ("a.yaml", &backend("web", &[echo.address])),
            ("b.yml", &two_documents),
            ("c.json", list),
            ("notes.txt", "{{{"),
        ],
        &[],
    );
    let below = gate.folder().join("below/deeper");
    fs::create_dir_all(&below).unwrap();
    fs::write(
        below.join("d.yaml"),
        ingress("deep").prefix("deep.example", "/", "web", 80).yaml(),
    )
    .unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(
        outside.path().join("e"),
        ingress("link").prefix("link.example", "/", "web", 80).yaml(),
    )
    .unwrap();
    symlink(outside.path().join("e"), gate.folder().join("e.yaml")).unwrap();
    gate.write(
        ".hidden.yaml",
        &ingress("hidden").prefix("hidden.example", "/", "web", 80).yaml(),
    );

    for host in [
        "one.example",
        "two.example",
        "list.example",
        "deep.example",
        "link.example",
    ] {
        gate.until_status(host, "/", 200);
    }
    assert_eq!(gate.get("hidden.example", "/").status, 404);
}

#[test]
fn an_edit_is_live_within_a_second_however_it_is_saved() {
    let (first, second) = (echo("first"), echo("second"));
    let gate = Gate::start(&site("web.example", "web", &[first.address]));
    let name_of = |gate: &Gate| Report::of(&gate.get("web.example", "/")).name();
    assert_eq!(name_of(&gate), "first");

    gate.replace(&site("web.example", "web", &[second.address]));
    let renamed = gate.until("the renamed file is live", || name_of(&gate) == "second");
    fs::write(
        gate.folder().join("manifests.yaml"),
        site("web.example", "web", &[first.address]),
    )
    .unwrap();
    let written = gate.until("the file written in place is live", || name_of(&gate) == "first");
    assert!(renamed < ONE_SECOND, "{renamed:?}");
    assert!(written < ONE_SECOND, "{written:?}");
}

/// How a `ConfigMap` volume and similar writers replace all files at once.
#[test]
fn an_edit_by_swapping_a_symlink_is_live_within_a_second() {
    let (first, second) = (echo("first"), echo("second"));
    let gate = Gate::start_files(&[], &[]);
    for (folder, echo) in [("..one", &first), ("..two", &second)] {
        fs::create_dir(gate.folder().join(folder)).unwrap();
        fs::write(
            gate.folder().join(folder).join("web.yaml"),
            site("web.example", "web", &[echo.address]),
        )
        .unwrap();
    }
    symlink("..one", gate.folder().join("..data")).unwrap();
    symlink("..data/web.yaml", gate.folder().join("web.yaml")).unwrap();
    gate.until_status("web.example", "/", 200);
    assert_eq!(Report::of(&gate.get("web.example", "/")).name(), "first");

    symlink("..two", gate.folder().join("..new")).unwrap();
    fs::rename(gate.folder().join("..new"), gate.folder().join("..data")).unwrap();
    let swapped = gate.until("the other file is live", || {
        Report::of(&gate.get("web.example", "/")).name() == "second"
    });
    assert!(swapped < ONE_SECOND, "{swapped:?}");
}

#[test]
fn a_removed_file_takes_its_routes_along() {
    let echo = echo("echo");
    let gate = Gate::start_files(
        &[
            ("a.yaml", &site("a.example", "a", &[echo.address])),
            ("b.yaml", &site("b.example", "b", &[echo.address])),
        ],
        &[],
    );
    assert_eq!(gate.get("b.example", "/").status, 200);
    gate.remove("b.yaml");
    let removed = gate.until_status("b.example", "/", 404);
    assert!(removed < ONE_SECOND, "{removed:?}");
    assert_eq!(gate.get("a.example", "/").status, 200);
}

#[test]
fn a_file_that_stops_parsing_keeps_what_it_last_gave() {
    let echo = echo("echo");
    let gate = Gate::start_files(&[("web.yaml", &site("web.example", "web", &[echo.address]))], &[]);
    gate.write("web.yaml", "apiVersion: [broken\n  kind");
    gate.line(&["error", "web.yaml", "InvalidManifest"]);
    assert_eq!(gate.get("web.example", "/").status, 200);
    gate.write("other.yaml", &site("other.example", "other", &[echo.address]));
    gate.until_status("other.example", "/", 200);
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn of_two_equal_objects_the_first_path_in_order_wins() {
    let (first, second) = (echo("first"), echo("second"));
    let gate = Gate::start_files(
        &[
            ("b.yaml", &site("web.example", "web", &[second.address])),
            ("a.yaml", &site("web.example", "web", &[first.address])),
        ],
        &[],
    );
    assert_eq!(Report::of(&gate.get("web.example", "/")).name(), "first");
    gate.line(&["DuplicateObject", "default/web Ingress"]);
    gate.remove("a.yaml");
    gate.until("the second takes over", || {
        Report::of(&gate.get("web.example", "/")).name() == "second"
    });
}

#[test]
fn objects_that_the_api_server_would_refuse_are_reported() {
    let echo = echo("echo");
    let without_type = "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: bad}\nspec:\n  rules:\n  \
                        - {host: bad.example, http: {paths: [{path: /, backend: {service: {name: web, port: {number: 80}}}}]}}\n";
    let gate = Gate::start(&(site("web.example", "web", &[echo.address]) + without_type));
    gate.line(&["error default/bad Ingress: InvalidObject", "pathType"]);
    assert_eq!(gate.get("bad.example", "/").status, 404);
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn a_service_without_slices_has_no_endpoints_unless_it_is_mapped() {
    let echo = echo("echo");
    let manifests = site("web.example", "web", &[]) + &site("mapped.example", "mapped", &[]);
    let map = format!("default/mapped={}", echo.address);
    let gate = Gate::start_with(&manifests, &["--map", &map]);
    let refused = gate.get("web.example", "/");
    assert_eq!(refused.status, 503);
    assert_eq!(gate.get("mapped.example", "/").status, 200);
    gate.line(&["default/web", "NoReadyEndpoints"]);
}

#[test]
fn a_mapped_port_leaves_the_other_ports_alone() {
    let (echo, mapped) = (echo("echo"), echo("mapped"));
    let map = format!("default/web:80={}", mapped.address);
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &["--map", &map]);
    assert_eq!(Report::of(&gate.get("web.example", "/")).name(), "mapped");
    let map = format!("default/web:81={}", mapped.address);
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &["--map", &map]);
    assert_eq!(Report::of(&gate.get("web.example", "/")).name(), "echo");
}

#[test]
fn a_missing_tls_secret_gets_a_self_signed_certificate_and_a_notice() {
    let echo = echo("echo");
    let yaml = ingress("web")
        .prefix("web.example", "/", "web", 80)
        .tls(&["web.example"], Some("absent"))
        .yaml();
    let gate = Gate::start(&(yaml + &backend("web", &[echo.address])));
    gate.line(&["notice", "TLSSecretNotFound", "absent"]);
    assert_eq!(gate.get_tls("web.example", "/").status, 200);
}

#[test]
fn without_classes_every_ingress_is_served() {
    let echo = echo("echo");
    let yaml = ingress("a")
        .prefix("a.example", "/", "web", 80)
        .class("some-class")
        .yaml()
        + &ingress("b").prefix("b.example", "/", "web", 80).yaml()
        + &backend("web", &[echo.address]);
    let gate = Gate::start(&yaml);
    assert_eq!(gate.get("a.example", "/").status, 200);
    assert_eq!(gate.get("b.example", "/").status, 200);
}

#[test]
fn with_classes_the_class_rules_hold() {
    let echo = echo("echo");
    let yaml = manifest::ingress_class("ours", "propylon.dev/ingress-controller", IsDefault::No)
        + &manifest::ingress_class("theirs", "example.com/other", IsDefault::No)
        + &ingress("ours")
            .prefix("ours.example", "/", "web", 80)
            .class("ours")
            .yaml()
        + &ingress("theirs")
            .prefix("theirs.example", "/", "web", 80)
            .class("theirs")
            .yaml()
        + &ingress("unknown")
            .prefix("unknown.example", "/", "web", 80)
            .class("absent")
            .yaml()
        + &ingress("none").prefix("none.example", "/", "web", 80).yaml()
        + &ingress("legacy")
            .prefix("legacy.example", "/", "web", 80)
            .annotation("kubernetes.io/ingress.class", "ours")
            .yaml()
        + &ingress("both")
            .prefix("both.example", "/", "web", 80)
            .class("theirs")
            .annotation("kubernetes.io/ingress.class", "ours")
            .yaml()
        + &backend("web", &[echo.address]);
    let gate = Gate::start(&yaml);
    let statuses = |gate: &Gate| {
        ["ours", "theirs", "unknown", "none", "legacy", "both"]
            .map(|name| gate.get(&format!("{name}.example"), "/").status)
    };
    assert_eq!(statuses(&gate), [200, 404, 404, 404, 200, 404]);

    let yaml = yaml + &manifest::ingress_class("ours-by-default", "propylon.dev/ingress-controller", IsDefault::Yes);
    gate.replace(&yaml);
    gate.until_status("none.example", "/", 200);
    assert_eq!(statuses(&gate), [200, 404, 404, 200, 200, 404]);

    let gate = Gate::start_with(&yaml, &["--ingress-class", "theirs"]);
    assert_eq!(gate.get("theirs.example", "/").status, 200);
    assert_eq!(gate.get("ours.example", "/").status, 404);
}
