//! The scenarios as data.

use serde_json::{Value, json};

/// A feature file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Feature {
    /// `default_backend.feature`
    DefaultBackend,
    /// `host_rules.feature`
    HostRules,
    /// `ingress_class.feature`
    IngressClass,
    /// `load_balancing.feature`
    LoadBalancing,
    /// `path_rules.feature`
    PathRules,
}

/// What must answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    /// Nobody: 404.
    NotFound,
    /// 200 from this Service.
    Service(&'static str),
}

/// One scenario, or one example of an outline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) feature: Feature,
    pub(super) scenario: &'static str,
    pub(super) method: &'static str,
    pub(super) is_https: bool,
    /// Empty: the address itself.
    pub(super) host: &'static str,
    pub(super) path: &'static str,
    pub(super) wanted: Wanted,
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = Case> {
    let outline = EXAMPLES.iter().map(|(method, host, path)| Case {
        feature: Feature::DefaultBackend,
        scenario: "An Ingress with no rules should send all requests to the default backend",
        method,
        is_https: false,
        host,
        path,
        wanted: Service("echo-service"),
    });
    let scenarios = SCENARIOS.iter().map(|(feature, scenario, url, wanted)| {
        let (scheme, rest) = url.split_once("://").expect("a URL has a scheme");
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        Case {
            feature: *feature,
            scenario,
            method: "GET",
            is_https: scheme == "https",
            host,
            path: if path.is_empty() { "/" } else { path },
            wanted: *wanted,
        }
    });
    outline.chain(scenarios)
}

/// Those of one feature, in the order of the file.
pub(super) fn of(feature: Feature) -> impl Iterator<Item = Case> {
    all().filter(move |case| case.feature == feature)
}

/// Method, host and path of the outline's examples.
const EXAMPLES: [(&str, &str, &str); 6] = [
    ("GET", "my-host", "/"),
    ("GET", "my-host", "/sub-path"),
    ("POST", "some-host", "/"),
    ("PUT", "", "/resource"),
    ("DELETE", "some-host", "/resource"),
    ("PATCH", "my-host", "/resource"),
];

use Feature::{HostRules, IngressClass, LoadBalancing, PathRules};
use Wanted::{NotFound, Service};

const SCENARIOS: [(Feature, &str, &str, Wanted); 24] = [
    (
        HostRules,
        "host rule: TLS traffic to the matching backend service",
        "https://foo.bar.com",
        Service("foo-bar-com"),
    ),
    (
        HostRules,
        "host rule: traffic to the matching backend service",
        "http://foo.bar.com",
        Service("foo-bar-com"),
    ),
    (
        HostRules,
        "host rule: no traffic when the hostname does not match",
        "http://subdomain.bar.com",
        NotFound,
    ),
    (
        HostRules,
        "wildcard host rule: traffic to the matching backend service",
        "http://bar.foo.com",
        Service("wildcard-foo-com"),
    ),
    (
        HostRules,
        "wildcard host rule: not more than a single DNS label",
        "http://baz.bar.foo.com",
        NotFound,
    ),
    (
        HostRules,
        "wildcard host rule: not without a DNS label",
        "http://foo.com",
        NotFound,
    ),
    (
        IngressClass,
        "an invalid ingress class: no traffic to the matching backend service",
        "http://ingress-class/",
        NotFound,
    ),
    (
        LoadBalancing,
        "no rules: all requests to the default backend and all of its pods",
        "http://load-balancing",
        Service("echo-service"),
    ),
    (
        PathRules,
        "exact path rule: traffic to the matching backend service",
        "http://exact-path-rules/foo",
        Service("foo-exact"),
    ),
    (
        PathRules,
        "exact path rule: no match with a trailing slash",
        "http://exact-path-rules/foo/",
        NotFound,
    ),
    (
        PathRules,
        "exact path rule: case sensitive",
        "http://exact-path-rules/FOO",
        NotFound,
    ),
    (
        PathRules,
        "exact path rule: no match of another label",
        "http://exact-path-rules/bar",
        NotFound,
    ),
    (
        PathRules,
        "prefix path rule: traffic to the matching backend service",
        "http://prefix-path-rules/foo",
        Service("foo-prefix"),
    ),
    (
        PathRules,
        "prefix path rule: the request's trailing slash is ignored",
        "http://prefix-path-rules/foo/",
        Service("foo-prefix"),
    ),
    (
        PathRules,
        "prefix path rule: case sensitive",
        "http://prefix-path-rules/FOO",
        NotFound,
    ),
    (
        PathRules,
        "prefix path rule: several labels, the longest path",
        "http://prefix-path-rules/aaa/bbb",
        Service("aaa-slash-bbb-prefix"),
    ),
    (
        PathRules,
        "prefix path rule: several labels, the longest path, and what is below",
        "http://prefix-path-rules/aaa/bbb/ccc",
        Service("aaa-slash-bbb-prefix"),
    ),
    (
        PathRules,
        "prefix path rule: what is below",
        "http://prefix-path-rules/aaa/ccc",
        Service("aaa-prefix"),
    ),
    (
        PathRules,
        "prefix path rule: whole labels only",
        "http://prefix-path-rules/aaaccc",
        NotFound,
    ),
    (
        PathRules,
        "prefix path rule: the request's trailing slash is ignored (stated twice)",
        "http://prefix-path-rules/foo/",
        Service("foo-prefix"),
    ),
    (
        PathRules,
        "mixed path rules: exact is preferred",
        "http://mixed-path-rules/foo",
        Service("foo-exact"),
    ),
    (
        PathRules,
        "trailing slash in a prefix rule is ignored: request without",
        "http://trailing-slash-path-rules/aaa/bbb",
        Service("aaa-slash-bbb-slash-prefix"),
    ),
    (
        PathRules,
        "trailing slash in a prefix rule is ignored: request with",
        "http://trailing-slash-path-rules/aaa/bbb/",
        Service("aaa-slash-bbb-slash-prefix"),
    ),
    (
        PathRules,
        "trailing slash in an exact rule: no match without",
        "http://trailing-slash-path-rules/foo",
        NotFound,
    ),
];

/// The Services of [`path_rules`].
pub(super) const PATH_SERVICES: [&str; 6] = [
    "foo-exact",
    "foo-prefix",
    "aaa-slash-bbb-prefix",
    "aaa-prefix",
    "aaa-slash-bbb-slash-prefix",
    "foo-slash-exact",
];

/// The Ingress of `host_rules.feature`.
pub(super) fn host_rules() -> Value {
    let rules = [
        rule("*.foo.com", &[("/", "Prefix", "wildcard-foo-com")]),
        rule("foo.bar.com", &[("/", "Prefix", "foo-bar-com")]),
    ];
    let mut ingress = ingress("host-rules", &rules);
    ingress["spec"]["tls"] = json!([{"hosts": ["foo.bar.com"], "secretName": "conformance-tls"}]);
    ingress
}

/// The Ingress of `path_rules.feature`.
pub(super) fn path_rules() -> Value {
    ingress(
        "path-rules",
        &[
            rule("exact-path-rules", &[("/foo", "Exact", "foo-exact")]),
            rule(
                "prefix-path-rules",
                &[
                    ("/foo", "Prefix", "foo-prefix"),
                    ("/aaa/bbb", "Prefix", "aaa-slash-bbb-prefix"),
                    ("/aaa", "Prefix", "aaa-prefix"),
                ],
            ),
            rule(
                "mixed-path-rules",
                &[("/foo", "Prefix", "foo-prefix"), ("/foo", "Exact", "foo-exact")],
            ),
            rule(
                "trailing-slash-path-rules",
                &[
                    ("/aaa/bbb/", "Prefix", "aaa-slash-bbb-slash-prefix"),
                    ("/foo/", "Exact", "foo-slash-exact"),
                ],
            ),
        ],
    )
}

fn ingress(name: &str, rules: &[Value]) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {"ingressClassName": "propylon", "rules": rules},
    })
}

fn rule(host: &str, paths: &[(&str, &str, &str)]) -> Value {
    let paths: Vec<Value> = paths
        .iter()
        .map(|(path, kind, service)| {
            let backend = json!({"service": {"name": service, "port": {"number": 80}}});
            json!({"path": path, "pathType": kind, "backend": backend})
        })
        .collect();
    json!({"host": host, "http": {"paths": paths}})
}
