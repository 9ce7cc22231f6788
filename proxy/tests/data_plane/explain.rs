//! What is explained is what happens: random rules and requests, explained by the running proxy and sent through it.

use std::sync::Arc;

use fastrand::Rng;
use propylon_model::{
    Action, BackendProtocol, BackendTls, Delta, Endpoint, Endpoints, EndpointsName, GroupName, HostPattern, Kind,
    NormalPath, ObjectRef, PathMatch, Pool, PoolName, Refusal, Resources, RouteGroup, RoutePolicy, Rule, RulePosition,
    balance::PoolPolicy,
};
use propylon_proxy::explain::{Explanation, Query};
use propylon_testkit::{
    echo::{EchoOptions, EchoServer},
    raw::{RawClient, RawResponse},
};

use super::common::start;

const RULE_HOSTS: [&str; 4] = ["", "a.test", "b.a.test", "*.a.test"];
const HOSTS: [&str; 6] = ["a.test", "B.a.test", "c.a.test", "x.test:8080", "a.test.", "other"];
const SEGMENTS: [&str; 9] = ["a", "b", "ab", "%61", "a.b", "", ".", "..", "%20"];
const PIECES: [&str; 16] = [
    "/", "/", "/", "a", "a", "b", "%2f", "%2F", "%61", "..", ".", "//", ";x", "%5c", "{a}", "%C3%A9",
];
const FIELDS: [&str; 10] = [
    "Cookie: a=1",
    "Cookie: b=2",
    "Connection: x-own",
    "X-Own: 1",
    "X-Forwarded-For: 192.0.2.7",
    "X-Forwarded-Proto: https",
    "TE: trailers",
    "Accept: */*",
    "Forwarded: for=192.0.2.7",
    "X_Under: 1",
];

fn pick<T: Copy>(random: &mut Rng, from: &[T]) -> T {
    from[random.usize(..from.len())]
}

/// Rules of a few hosts; each leads to one of the Services, or is refused.
fn resources(random: &mut Rng, backends: &[EchoServer]) -> Resources {
    let mut resources = Resources::default();
    for backend in backends {
        let name = format!("default/{}:80", backend_name(backend, backends));
        let pool = Pool {
            service: ObjectRef::new(Kind::Service, "default", backend_name(backend, backends)),
            port: 80,
            endpoints: EndpointsName::new(name.as_str()),
            protocol: BackendProtocol::Http1,
            tls: BackendTls::default(),
            policy: PoolPolicy::default(),
        };
        let list = Endpoints::new(vec![Endpoint::new(backend.address)]);
        resources.pools.insert(PoolName::new(name.as_str()), Arc::new(pool));
        resources.endpoints.insert(EndpointsName::new(name), Arc::new(list));
    }
    for number in 0..random.usize(1..5) {
        let action = |random: &mut Rng| match random.usize(..8) {
            0 => Action::Refuse(Refusal::BackendNotFound("default/gone".into())),
            other => Action::Forward(PoolName::new(format!("default/s{}:80", other % backends.len()))),
        };
        let count = random.usize(..6);
        let rules = (0..count).filter_map(|index| {
            let segments: Vec<&str> = (0..random.usize(..3)).map(|_| pick(random, &SEGMENTS)).collect();
            let path = NormalPath::parse_rule(&format!("/{}", segments.join("/"))).ok()?;
            Some(Rule {
                path: if random.bool() {
                    PathMatch::Exact(path)
                } else {
                    PathMatch::Prefix(path)
                },
                action: action(random),
                policy: RoutePolicy::default(),
                position: RulePosition::new(number, index),
            })
        });
        let rules = rules.collect();
        let group = RouteGroup {
            source: ObjectRef::new(Kind::Ingress, "default", format!("i{number}")),
            created_unix_s: random.bool().then(|| random.i64(1..3)),
            host: HostPattern::parse(pick(random, &RULE_HOSTS)).unwrap(),
            rules,
            default_backend: random.bool().then(|| (action(random), RoutePolicy::default())),
            redirect_https: random.usize(..8) == 0,
        };
        let name = GroupName::new(format!("default/i{number}/{}", group.host));
        resources.groups.insert(name, Arc::new(group));
    }
    resources
}

fn backend_name(backend: &EchoServer, backends: &[EchoServer]) -> String {
    let index = backends.iter().position(|other| other.address == backend.address);
    format!("s{}", index.unwrap())
}

fn query(random: &mut Rng) -> Query {
    let path: String = (0..random.usize(..7)).map(|_| pick(random, &PIECES)).collect();
    let host = pick(random, &HOSTS);
    let text = if random.usize(..5) == 0 { "?q=/../%2f" } else { "" };
    let mut query = Query::get(format!("http://{host}/{path}{text}"));
    query.method = pick(random, &["GET", "GET", "PUT", "POST", "DELETE", "TRACE"]).to_owned();
    for _ in 0..random.usize(..4) {
        query.headers.push(Query::header(pick(random, &FIELDS)).unwrap());
    }
    query
}

/// Sends the request that the query describes.
fn send(address: std::net::SocketAddr, query: &Query) -> RawResponse {
    let rest = query.url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut head = format!("{} /{path} HTTP/1.1\r\nHost: {host}\r\n", query.method);
    for (name, value) in &query.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    let mut client = RawClient::connect(address).unwrap();
    client.send((head + "\r\n").as_bytes()).unwrap();
    client.response().unwrap()
}

/// The fields that the echo backend got, but for the random one, sorted.
fn received(report: &serde_json::Value) -> Vec<String> {
    let pairs = report["headers"].as_array().unwrap().iter();
    let mut lines: Vec<String> = pairs
        .map(|pair| format!("{}: {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .filter(|line| !line.starts_with("x-request-id: "))
        .collect();
    lines.sort();
    lines
}

fn told(explanation: &Explanation) -> (String, Vec<String>) {
    let sent = &explanation.sent[0];
    let mut lines: Vec<String> = sent.head[1..].to_vec();
    lines.retain(|line| !line.starts_with("x-request-id: "));
    lines.sort();
    (sent.head[0].clone(), lines)
}

#[test]
fn what_is_explained_is_what_happens() {
    let backends: Vec<EchoServer> = (0..3)
        .map(|number| EchoServer::start(EchoOptions::named(&format!("s{number}"))).unwrap())
        .collect();
    let proxy = start(&[]);
    let (http, admin) = (proxy.addresses().http[0], proxy.addresses().admin.unwrap());
    let mut live = Resources::default();
    let mut ends = std::collections::BTreeMap::new();
    for seed in 0..40 {
        let mut random = Rng::with_seed(seed);
        let wanted = resources(&mut random, &backends);
        proxy.apply(&Delta::between(&live, &wanted));
        live = wanted;
        for _ in 0..15 {
            let query = query(&mut random);
            let path = format!("/explain?{}", query.to_query_string());
            let answer = RawClient::connect(admin).unwrap().get("127.0.0.1", &path).unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let explanation: Explanation = serde_json::from_slice(&answer.body).unwrap();
            let response = send(http, &query);
            let result = &explanation.result;
            let context = format!("seed {seed} {query:?} {result:?} {}", response.text());
            assert_eq!(response.status, result.status.unwrap_or(200), "{context}");
            *ends.entry(result.reason.clone().unwrap_or_default()).or_insert(0) += 1;
            if let Some(reason) = &result.reason {
                let details = format!("details=\"{reason}\"");
                assert!(
                    response
                        .header("proxy-status")
                        .is_some_and(|status| status.contains(&details)),
                    "{context}"
                );
                assert_eq!(response.header("location"), result.location.as_deref(), "{context}");
                continue;
            }
            let report = response.json();
            let (line, fields) = told(&explanation);
            let service = explanation.backend.as_ref().unwrap().service.clone();
            assert_eq!(
                service,
                format!("default/{} Service", report["name"].as_str().unwrap()),
                "{context}"
            );
            let target = report["target"].as_str().unwrap();
            assert_eq!(line, format!("{} {target} HTTP/1.1", query.method), "{context}");
            assert_eq!(fields, received(&report), "{context}");
            assert!(explanation.winner.is_some(), "{context}");
            assert_eq!(
                explanation
                    .rules
                    .iter()
                    .filter(|rule| rule.verdict == "selected")
                    .count(),
                1
            );
        }
    }
    // Whatever the seeds are: every kind of end is among them.
    for reason in [
        "",
        "backend_not_found",
        "path_ambiguous",
        "path_invalid",
        "redirect_https",
        "route_not_found.host",
        "route_not_found.path",
    ] {
        assert!(ends.contains_key(reason), "{reason} is not in {ends:?}");
    }
}

#[test]
fn a_bad_query_is_refused_with_what_is_wrong() {
    let proxy = start(&[]);
    let admin = proxy.addresses().admin.unwrap();
    for (query, words) in [
        ("", "no URL is given"),
        ("?url=ftp://a/", "has no scheme"),
        ("?url=http://a/&verbose=1", "'verbose' is not known"),
        ("?url=http://a/&client-ip=here", "is no IP address"),
    ] {
        let answer = RawClient::connect(admin)
            .unwrap()
            .get("127.0.0.1", &format!("/explain{query}"))
            .unwrap();
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    let foreign = RawClient::connect(admin)
        .unwrap()
        .get("rebound.example", "/explain?url=http://a/")
        .unwrap();
    assert_eq!(foreign.status, 403);
}
