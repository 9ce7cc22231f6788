//! Ingress semantics: hosts, paths, default backends, ports, conflicts, endpoints.

use propylon_e2e::{
    Gate,
    manifests::{backend, echo, ingress},
    report::Report,
};
use propylon_testkit::{echo::EchoServer, manifest};

/// Backends named as their Services, in one string of manifests.
fn services(names: &[&str]) -> (Vec<EchoServer>, String) {
    let servers: Vec<EchoServer> = names.iter().map(|name| echo(name)).collect();
    let yaml = names
        .iter()
        .zip(&servers)
        .map(|(name, server)| backend(name, &[server.address]))
        .collect();
    (servers, yaml)
}

/// The name of the backend that answers, or the status where none does.
fn answer(gate: &Gate, host: &str, path: &str) -> String {
    let response = gate.get(host, path);
    if response.status == 200 {
        Report::of(&response).name()
    } else {
        response.status.to_string()
    }
}

#[test]
fn the_longest_path_wins_and_exact_before_prefix() {
    let (_servers, yaml) = services(&["root", "short", "exact", "long", "any"]);
    let gate = Gate::start(
        &(yaml
            + &ingress("web")
                .prefix("web.example", "/", "root", 80)
                .prefix("web.example", "/a", "short", 80)
                .exact("web.example", "/a", "exact", 80)
                .prefix("web.example", "/a/b/", "long", 80)
                .path("web.example", ("/any", "ImplementationSpecific"), "any", 80)
                .yaml()),
    );
    for (path, name) in [
        ("/", "root"),
        ("/other", "root"),
        ("/a", "exact"),
        ("/a/", "short"),
        ("/a/c", "short"),
        ("/ab", "root"),
        ("/a/b", "long"),
        ("/a/b/c?query=1", "long"),
        ("/a/bc", "short"),
        ("/any", "any"),
        ("/any/thing", "any"),
        ("/anything", "root"),
    ] {
        assert_eq!(answer(&gate, "web.example", path), name, "{path}");
    }
}

#[test]
fn exact_hosts_come_before_one_label_wildcards_before_none() {
    let (_servers, yaml) = services(&["exact", "wildcard", "none"]);
    let gate = Gate::start(
        &(yaml
            + &ingress("web")
                .prefix("a.web.example", "/only", "exact", 80)
                .prefix("*.web.example", "/", "wildcard", 80)
                .prefix("", "/", "none", 80)
                .yaml()),
    );
    for (host, path, name) in [
        ("a.web.example", "/only", "exact"),
        ("A.Web.Example:8080", "/only", "exact"),
        ("a.web.example.", "/only", "exact"),
        ("a.web.example", "/other", "404"),
        ("b.web.example", "/", "wildcard"),
        ("web.example", "/", "none"),
        ("a.b.web.example", "/", "none"),
        ("127.0.0.1", "/", "none"),
    ] {
        assert_eq!(answer(&gate, host, path), name, "{host}{path}");
    }
}

#[test]
fn default_backends_take_what_no_rule_matches() {
    let (_servers, yaml) = services(&["rule", "own", "catch-all"]);
    let gate = Gate::start(
        &(yaml
            + &ingress("with-rules")
                .prefix("web.example", "/a", "rule", 80)
                .default_backend("own", 80)
                .yaml()
            + &ingress("plain").prefix("plain.example", "/a", "rule", 80).yaml()
            + &ingress("alone").default_backend("catch-all", 80).yaml()),
    );
    assert_eq!(answer(&gate, "web.example", "/a"), "rule");
    assert_eq!(answer(&gate, "web.example", "/b"), "own");
    assert_eq!(answer(&gate, "plain.example", "/b"), "404");
    assert_eq!(answer(&gate, "unknown.example", "/b"), "catch-all");
}

#[test]
fn a_resource_backend_is_refused_and_the_rest_works() {
    let (_servers, yaml) = services(&["web"]);
    let resource = "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: mixed}\nspec:\n  rules:\n  \
                    - host: web.example\n    http:\n      paths:\n      \
                    - {path: /bucket, pathType: Prefix, backend: {resource: {apiGroup: example.com, kind: Bucket, name: b}}}\n      \
                    - {path: /web, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}\n";
    let gate = Gate::start(&(yaml + resource));
    gate.line(&["default/mixed Ingress: BackendResourceUnsupported"]);
    assert_eq!(answer(&gate, "web.example", "/web"), "web");
    assert_eq!(answer(&gate, "web.example", "/bucket"), "404");
}

#[test]
fn service_ports_are_found_by_name_and_number_and_target_ports_differ_per_slice() {
    let (first, second) = (echo("first"), echo("second"));
    let yaml = format!(
        "{}---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web}}
spec:
  rules:
  - host: web.example
    http:
      paths:
      - {{path: /name, pathType: Prefix, backend: {{service: {{name: web, port: {{name: http}}}}}}}}
      - {{path: /number, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}
      - {{path: /no-name, pathType: Prefix, backend: {{service: {{name: web, port: {{name: absent}}}}}}}}
      - {{path: /no-number, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 81}}}}}}}}
",
        backend("web", &[first.address, second.address])
    );
    let gate = Gate::start(&yaml);
    for path in ["/name", "/number"] {
        let mut seen = std::collections::BTreeSet::new();
        gate.until("both slices are used", || {
            seen.insert(answer(&gate, "web.example", path));
            seen.len() == 2
        });
        assert!(seen.contains("first") && seen.contains("second"), "{seen:?}");
    }
    assert_eq!(answer(&gate, "web.example", "/no-name"), "503");
    assert_eq!(answer(&gate, "web.example", "/no-number"), "503");
    gate.line(&["default/web Ingress: BackendPortNotFound"]);
}

#[test]
fn several_ingresses_share_a_host_across_namespaces() {
    let (one, two) = (echo("one"), echo("two"));
    let gate = Gate::start(
        &(ingress("web").prefix("web.example", "/one", "web", 80).yaml()
            + &backend("web", &[one.address])
            + &manifest::ingress("other", "web")
                .prefix("web.example", "/two", "web", 80)
                .yaml()
            + &manifest::service("other", "web", 80, "")
            + &manifest::endpoint_slice("other", "web", "s", &[two.address])),
    );
    assert_eq!(answer(&gate, "web.example", "/one"), "one");
    assert_eq!(answer(&gate, "web.example", "/two"), "two");
}

#[test]
fn the_oldest_wins_a_conflict_and_the_loser_keeps_its_other_paths() {
    let (_servers, yaml) = services(&["old", "young", "undated"]);
    let gate = Gate::start(
        &(yaml
            + &ingress("a-undated")
                .prefix("web.example", "/same/", "undated", 80)
                .prefix("web.example", "/c", "undated", 80)
                .yaml()
            + &ingress("b-young")
                .path("web.example", ("/same", "ImplementationSpecific"), "young", 80)
                .prefix("web.example", "/b", "young", 80)
                .created("2024-01-01T00:00:00Z")
                .yaml()
            + &ingress("c-old")
                .prefix("web.example", "/same", "old", 80)
                .created("2023-01-01T00:00:00Z")
                .yaml()),
    );
    assert_eq!(answer(&gate, "web.example", "/same"), "old");
    assert_eq!(answer(&gate, "web.example", "/b"), "young");
    assert_eq!(answer(&gate, "web.example", "/c"), "undated");
    gate.line(&["warning default/b-young Ingress: RouteConflict", "default/c-old"]);
    gate.line(&["warning default/a-undated Ingress: RouteConflict", "default/c-old"]);
}

#[test]
fn undated_objects_are_ordered_by_namespace_and_name() {
    let (_servers, yaml) = services(&["first", "second"]);
    let gate = Gate::start(
        &(yaml
            + &ingress("b").prefix("web.example", "/", "second", 80).yaml()
            + &ingress("a").prefix("web.example", "/", "first", 80).yaml()),
    );
    assert_eq!(answer(&gate, "web.example", "/"), "first");
    gate.line(&["default/b Ingress: RouteConflict", "default/a"]);
}

#[test]
fn a_missing_service_is_503_and_a_missing_rule_404() {
    let gate = Gate::start(&ingress("web").prefix("web.example", "/", "absent", 80).yaml());
    assert_eq!(gate.get("web.example", "/").status, 503);
    assert_eq!(gate.get("other.example", "/").status, 404);
    gate.line(&["default/web Ingress: BackendServiceNotFound", "absent"]);
}

/// An `EndpointSlice` of the Service `web` with one endpoint of each pair of address and conditions.
fn slice(endpoints: &[(&EchoServer, &str)]) -> String {
    let slices = endpoints.iter().enumerate().map(|(number, (server, conditions))| {
        format!(
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: web-{number}\n  labels: \
             {{kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{{name: http, port: {}, protocol: TCP}}]\nendpoints: \
             [{{addresses: [\"{}\"], conditions: {conditions}}}]\n",
            server.address.port(),
            server.address.ip()
        )
    });
    slices.collect()
}

/// The backends that answer twenty requests.
fn answers(gate: &Gate) -> Vec<String> {
    let mut names: Vec<String> = (0..20).map(|_| answer(gate, "web.example", "/")).collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn terminating_endpoints_serve_only_when_no_ready_one_is_left() {
    let (ready, unset, leaving, gone) = (echo("ready"), echo("unset"), echo("leaving"), echo("gone"));
    let base =
        ingress("web").prefix("web.example", "/", "web", 80).yaml() + &manifest::service("default", "web", 80, "");
    let leaving = (&leaving, "{ready: false, serving: true, terminating: true}");
    let gone = (&gone, "{ready: false, serving: false, terminating: true}");
    let gate =
        Gate::start(&(base.clone() + &slice(&[(&ready, "{ready: true}"), (&unset, "{ready: null}"), leaving, gone])));
    assert_eq!(answers(&gate), ["ready", "unset"]);
    gate.replace(&(base.clone() + &slice(&[leaving, gone])));
    gate.until("the leaving one serves", || answers(&gate) == ["leaving"]);
    gate.replace(&(base + &slice(&[gone])));
    gate.until("none serves", || answers(&gate) == ["503"]);
}

#[test]
fn not_ready_addresses_are_published_where_the_service_says_so() {
    let server = echo("starting");
    let service = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {clusterIP: None, \
                   publishNotReadyAddresses: true, ports: [{name: http, port: 80}]}\n";
    let yaml = ingress("web").prefix("web.example", "/", "web", 80).yaml() + service;
    // The EndpointSlice controller writes ready: true for such Services; a slice written by hand may not.
    let gate = Gate::start(&(yaml + &slice(&[(&server, "{ready: false, serving: false}")])));
    assert_eq!(answers(&gate), ["starting"]);
}

#[test]
fn endpoints_of_both_families_serve() {
    use propylon_testkit::echo::EchoOptions;
    let four = echo("four");
    let Ok(six) = EchoServer::start(EchoOptions {
        address: "[::1]:0".parse().unwrap(),
        ..EchoOptions::named("six")
    }) else {
        panic!("this machine has no IPv6 loopback address");
    };
    let gate = Gate::start(
        &(ingress("web").prefix("web.example", "/", "web", 80).yaml() + &backend("web", &[four.address, six.address])),
    );
    let mut seen = std::collections::BTreeSet::new();
    gate.until("both families are used", || {
        seen.insert(answer(&gate, "web.example", "/"));
        seen.len() == 2
    });
    assert!(seen.contains("six"), "{seen:?}");
}
