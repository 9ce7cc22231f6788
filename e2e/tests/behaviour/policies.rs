//! Balancing as annotations and Services ask for it: affinity, hashing, retries, limits, ejection, and what an edit of them
//! does not reset.

use std::{collections::BTreeMap, net::SocketAddr, thread};

use propylon_e2e::{
    Gate,
    manifests::{backend, echo, ingress},
    report::Report,
};
use propylon_testkit::{
    echo::EchoServer,
    raw::{RawResponse, ScriptedServer, Step, scripted_server},
    wait::{self, PATIENCE},
};

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// A site whose Ingress has these annotations.
fn site(endpoints: &[SocketAddr], annotations: &[(&str, &str)]) -> String {
    let mut rules = ingress("web").prefix("web.example", "/", "web", 80);
    for (name, value) in annotations {
        rules = rules.annotation(&format!("propylon.dev/{name}"), value);
    }
    rules.yaml() + &backend("web", endpoints)
}

fn always(answer: &str) -> ScriptedServer {
    scripted_server(vec![vec![Step::ReadHead, Step::write(answer)]]).unwrap()
}

fn get(gate: &Gate, fields: &str) -> RawResponse {
    gate.send(&format!("GET / HTTP/1.1\r\nHost: web.example\r\n{fields}\r\n"))
}

fn name(response: &RawResponse) -> String {
    Report::of(response).name()
}

#[test]
fn a_cookie_keeps_a_client_at_its_endpoint_over_edits_and_restarts() {
    let servers = [echo("a"), echo("b"), echo("c")];
    let addresses = servers.each_ref().map(|server| server.address);
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, [b'k'; 32]).unwrap();
    let flags = ["--sticky-key-file", key.to_str().unwrap()];
    let annotations = [
        ("affinity", "cookie"),
        ("affinity-cookie-name", "SID"),
        ("affinity-cookie-max-age", "1h"),
        ("affinity-cookie-same-site", "Strict"),
    ];
    let gate = Gate::start_with(&site(&addresses, &annotations), &flags);
    let first = get(&gate, "");
    let field = first.header("set-cookie").unwrap_or_default().to_owned();
    assert!(
        field.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Strict"),
        "{field}"
    );
    let cookie = format!("Cookie: {}\r\n", field.split(';').next().unwrap());
    let another = Gate::start_with(&site(&addresses, &annotations), &flags);
    let edited = [annotations.as_slice(), &[("request-timeout", "90s")]].concat();
    gate.replace(&site(&addresses, &edited));
    for gate in [&gate, &another] {
        for _ in 0..10 {
            let response = get(gate, &cookie);
            assert_eq!((name(&response), response.header("set-cookie")), (name(&first), None));
        }
    }
}

#[test]
fn without_a_key_file_a_warning_says_what_that_means() {
    let server = echo("a");
    let gate = Gate::start(&site(&[server.address], &[("affinity", "cookie")]));
    gate.until("it warns", || gate.transcript().contains("--sticky-key-file"));
}

#[test]
fn a_hashed_header_decides() {
    let servers = [echo("a"), echo("b"), echo("c")];
    let addresses = servers.each_ref().map(|server| server.address);
    let annotations = [("load-balancing", "maglev"), ("hash-on", "header:x-user")];
    let gate = Gate::start(&site(&addresses, &annotations));
    let mut used = BTreeMap::new();
    for user in 0..30 {
        let field = format!("X-User: {user}\r\n");
        let first = name(&get(&gate, &field));
        assert_eq!(name(&get(&gate, &field)), first);
        *used.entry(first).or_insert(0) += 1;
    }
    assert_eq!(used.len(), 3, "{used:?}");
}

#[test]
fn client_ip_affinity_of_the_service_counts() {
    let servers = [echo("a"), echo("b"), echo("c")];
    let yaml = site(&servers.each_ref().map(|server| server.address), &[]);
    let yaml = yaml.replacen("spec:\n  ports:", "spec:\n  sessionAffinity: ClientIP\n  ports:", 1);
    assert!(yaml.contains("sessionAffinity"), "{yaml}");
    let gate = Gate::start(&yaml);
    let first = name(&get(&gate, ""));
    assert!((0..20).all(|_| name(&get(&gate, "")) == first));
}

#[test]
fn a_status_is_tried_again_where_an_annotation_says_so() {
    let (busy, sound) = (always(BUSY), echo("sound"));
    let annotations = [
        ("load-balancing", "round-robin"),
        ("retry-on", "connect-failure,503"),
        ("outlier-ejection", "false"),
    ];
    let endpoints = [busy.address, sound.address];
    let gate = Gate::start_with(&site(&endpoints, &annotations), &["--workers", "1"]);
    for _ in 0..6 {
        assert_eq!(name(&get(&gate, "")), "sound");
    }
    assert!(busy.connections() >= 3);
    let metrics = gate.admin("/metrics").text();
    assert!(metrics.contains("propylon_retries_total{reason=\"503\"}"), "{metrics}");
}

#[test]
fn requests_beyond_the_limit_wait_and_those_beyond_the_queue_are_refused() {
    let server = echo("a");
    let annotations = [
        ("max-requests-per-endpoint", "2"),
        ("max-pending-requests", "3"),
        ("pending-timeout", "10s"),
    ];
    let gate = Gate::start(&site(&[server.address], &annotations));
    let responses: Vec<RawResponse> = thread::scope(|scope| {
        let ask = || gate.get("web.example", "/delay/700");
        let threads: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let served = responses.iter().filter(|response| response.status == 200).count();
    assert_eq!(served, 5, "two at once and three that waited");
    let refused = responses.iter().find(|response| response.status == 503).unwrap();
    assert!(refused.text().contains("endpoint_queue_full"), "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(get(&gate, "").status, 200, "it recovers");
}

/// Ejections, connections and counts outlive edits of annotations, of other objects and of the endpoints.
#[test]
fn edits_reset_nothing() {
    let failing = always("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let servers = [echo("a"), echo("b")];
    let endpoints = [failing.address, servers[0].address, servers[1].address];
    let gate = Gate::start_with(&site(&endpoints, &[]), &["--workers", "1"]);
    let ejected = |gate: &Gate| {
        gate.admin("/metrics")
            .text()
            .contains("propylon_endpoint_ejected_total{")
    };
    let found = wait::until(PATIENCE, || {
        get(&gate, "");
        ejected(&gate)
    });
    assert!(found.is_some());
    // Which of two idle endpoints a request goes to is chance.
    gate.until("each good endpoint has served", || {
        get(&gate, "");
        servers.iter().all(|server| server.connections() > 0)
    });
    let (met, connections) = (failing.connections(), servers.each_ref().map(EchoServer::connections));
    let more = echo("more");
    let wider = [endpoints.as_slice(), &[more.address]].concat();
    let edits = [
        site(&endpoints, &[("slow-start", "1s")]),
        site(&endpoints, &[("retries", "1")]),
        site(&wider, &[]),
        site(&endpoints, &[]),
    ];
    for (number, edit) in edits.iter().enumerate() {
        let host = format!("edit{number}.example");
        let marker = ingress("marker").prefix(&host, "/", "web", 80).yaml();
        gate.replace(&format!("{edit}{marker}"));
        gate.until("the edit is served", || gate.get(&host, "/").status != 404);
        for _ in 0..5 {
            assert_eq!(get(&gate, "").status, 200);
        }
    }
    assert_eq!(failing.connections(), met, "it is still left out");
    assert_eq!(servers.each_ref().map(EchoServer::connections), connections);
}
