//! Which endpoint takes a request by the policy of its pool, what is tried again, and who waits.

mod affinity;
mod limits;
mod retries;
mod survival;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use propylon_model::{Algorithm, Delta, HashOn, PoolPolicy, Resources, RoutePolicy, TrafficDistribution};
use propylon_proxy::ProxyHandle;
use propylon_testkit::{
    echo::{EchoOptions, EchoServer},
    raw::{RawClient, RawResponse, ScriptedServer, Step, scripted_server},
    wait,
};

use super::common::{Builder, everything, start};

const HOST: &str = "web.example.com";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const PATIENCE: Duration = Duration::from_secs(20);

fn echo(name: &str) -> EchoServer {
    EchoServer::start(EchoOptions::named(name)).unwrap()
}

/// An address on which nothing listens.
fn refused() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// A server that gives the same answer to every request, and closes.
fn always(answer: &str) -> ScriptedServer {
    scripted_server(vec![vec![Step::ReadHead, Step::write(answer)]]).unwrap()
}

/// A host whose only rule leads to these endpoints.
fn site(endpoints: &[SocketAddr], pool: &PoolPolicy, route: &RoutePolicy) -> Resources {
    let mut resources = Builder::default().host(HOST, endpoints).build();
    for spec in resources.pools.values_mut() {
        Arc::make_mut(spec).policy = pool.clone();
    }
    for group in resources.groups.values_mut() {
        for rule in &mut Arc::make_mut(group).rules {
            rule.policy = route.clone();
        }
    }
    resources
}

/// A proxy with one worker, that nothing but chance is left to.
fn serve(resources: &Resources) -> ProxyHandle {
    let proxy = start(&["--workers", "1"]);
    proxy.apply(&everything(resources));
    proxy
}

fn policy(algorithm: Algorithm) -> PoolPolicy {
    PoolPolicy {
        algorithm,
        ..PoolPolicy::default()
    }
}

fn client(proxy: &ProxyHandle) -> RawClient {
    RawClient::connect(proxy.addresses().http[0]).unwrap()
}

fn get(proxy: &ProxyHandle, path: &str, fields: &str) -> RawResponse {
    let mut client = client(proxy);
    client
        .send(format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n").as_bytes())
        .unwrap();
    client.response().unwrap()
}

fn name(response: &RawResponse) -> String {
    assert_eq!(response.status, 200, "{}{}", response.head, response.text());
    response.json()["name"].as_str().unwrap_or_default().to_owned()
}

/// The value of a metric's series whose line begins with this text; 0 where there is none.
fn metric(proxy: &ProxyHandle, series: &str) -> u64 {
    let mut client = RawClient::connect(proxy.addresses().admin.unwrap()).unwrap();
    client
        .send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let text = client.response().unwrap().text();
    let values = text.lines().filter(|line| line.starts_with(series));
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn counts(proxy: &ProxyHandle, requests: u32) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    let mut client = client(proxy);
    for _ in 0..requests {
        *counts.entry(name(&client.get(HOST, "/").unwrap())).or_insert(0) += 1;
    }
    counts
}

#[test]
fn round_robin_takes_turns_by_weight() {
    let servers = [echo("a"), echo("b"), echo("c")];
    let addresses = servers.each_ref().map(|server| server.address);
    let even = site(&addresses, &policy(Algorithm::RoundRobin), &RoutePolicy::default());
    let proxy = serve(&even);
    assert!(counts(&proxy, 30).values().all(|count| *count == 10));
    let mut weighted = even.clone();
    for list in weighted.endpoints.values_mut() {
        for (endpoint, weight) in Arc::make_mut(list).endpoints.iter_mut().zip([1, 2, 3]) {
            endpoint.weight = weight;
        }
    }
    proxy.apply(&Delta::between(&even, &weighted));
    let counts = counts(&proxy, 60);
    assert_eq!(["a", "b", "c"].map(|name| counts[name]), [10, 20, 30]);
}

#[test]
fn maglev_sends_a_key_to_one_endpoint_on_every_worker_and_spreads_keys() {
    let servers: Vec<EchoServer> = (0..5).map(|number| echo(&format!("s{number}"))).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let maglev = PoolPolicy {
        hash_on: HashOn::Header("x-user".into()),
        ..policy(Algorithm::Maglev)
    };
    let (one, other) = (start(&["--workers", "2"]), start(&["--workers", "1"]));
    for proxy in [&one, &other] {
        proxy.apply(&everything(&site(&addresses, &maglev, &RoutePolicy::default())));
    }
    let mut used = BTreeMap::new();
    for user in 0..60 {
        let field = format!("X-User: user-{user}\r\n");
        let first = name(&get(&one, "/", &field));
        assert_eq!(name(&get(&one, "/", &field)), first);
        assert_eq!(name(&get(&other, "/", &field)), first, "another replica");
        *used.entry(first).or_insert(0) += 1;
    }
    assert!(used.len() == 5 && used.values().all(|count| *count < 30), "{used:?}");
}

#[test]
fn ewma_avoids_an_endpoint_that_answers_slowly() {
    let slow = scripted_server(vec![vec![
        Step::ReadHead,
        Step::Pause(Duration::from_millis(300)),
        Step::write(OK),
    ]])
    .unwrap();
    let fast = echo("fast");
    let addresses = [slow.address, fast.address];
    let proxy = serve(&site(&addresses, &policy(Algorithm::Ewma), &RoutePolicy::default()));
    for _ in 0..40 {
        assert_eq!(get(&proxy, "/", "").status, 200);
    }
    assert!(slow.connections() <= 3, "{}", slow.connections());
}

#[test]
fn a_new_endpoint_starts_slowly() {
    let (old, new) = (echo("old"), echo("new"));
    let slow_start = PoolPolicy {
        slow_start: Some(Duration::from_mins(10)),
        ..policy(Algorithm::RoundRobin)
    };
    let before = site(&[old.address], &slow_start, &RoutePolicy::default());
    let after = site(&[old.address, new.address], &slow_start, &RoutePolicy::default());
    let proxy = serve(&before);
    assert_eq!(counts(&proxy, 5)["old"], 5);
    proxy.apply(&Delta::between(&before, &after));
    let counts = counts(&proxy, 110);
    assert_eq!((counts["old"], counts["new"]), (100, 10));
}

#[test]
fn near_endpoints_are_preferred_while_they_can_be_used() {
    let failing = always("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let (near, far) = (echo("near"), [echo("far"), echo("far")]);
    let addresses = [near.address, far[0].address, far[1].address];
    let zoned = |addresses: &[SocketAddr]| {
        let mut resources = site(addresses, &PoolPolicy::default(), &RoutePolicy::default());
        for list in resources.endpoints.values_mut() {
            let list = Arc::make_mut(list);
            list.distribution = TrafficDistribution::PreferSameZone;
            for (endpoint, zone) in list.endpoints.iter_mut().zip(["here", "there", "there"]) {
                endpoint.zone = Some(zone.into());
            }
        }
        resources
    };
    let proxy = start(&["--workers", "1", "--zone", "here"]);
    let before = zoned(&addresses);
    proxy.apply(&everything(&before));
    assert_eq!(counts(&proxy, 20)["near"], 20);
    proxy.apply(&Delta::between(
        &before,
        &zoned(&[failing.address, addresses[1], addresses[2]]),
    ));
    let statuses: Vec<u16> = (0..30).map(|_| get(&proxy, "/", "").status).collect();
    assert_eq!(
        statuses.iter().filter(|status| **status == 500).count(),
        5,
        "{statuses:?}"
    );
}

/// One live endpoint beside nine that refuse: no request fails, and at most half are left out.
#[test]
fn endpoints_that_refuse_cost_no_request() {
    let live = echo("live");
    let mut addresses: Vec<SocketAddr> = (0..9).map(|_| refused()).collect();
    addresses.push(live.address);
    let proxy = serve(&site(&addresses, &PoolPolicy::default(), &RoutePolicy::default()));
    for _ in 0..200 {
        assert_eq!(name(&get(&proxy, "/", "")), "live");
    }
    let ejected = metric(&proxy, "propylon_endpoint_ejected_total{");
    assert!((1..=5).contains(&ejected), "{ejected}");
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_left_out() {
    let failing = always("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let sound = [echo("a"), echo("b")];
    let addresses = [failing.address, sound[0].address, sound[1].address];
    let proxy = serve(&site(&addresses, &PoolPolicy::default(), &RoutePolicy::default()));
    let statuses: Vec<u16> = (0..100).map(|_| get(&proxy, "/", "").status).collect();
    let failures = statuses.iter().filter(|status| **status == 500).count();
    assert_eq!(failures, 5, "{statuses:?}");
    assert_eq!(metric(&proxy, "propylon_endpoint_up{"), 2);
}

#[test]
fn without_outlier_ejection_nobody_is_left_out() {
    let failing = always("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
    let sound = echo("a");
    let trusting = PoolPolicy {
        outlier_ejection: false,
        ..policy(Algorithm::RoundRobin)
    };
    let addresses = [failing.address, sound.address];
    let proxy = serve(&site(&addresses, &trusting, &RoutePolicy::default()));
    let failures = (0..40).filter(|_| get(&proxy, "/", "").status == 500).count();
    assert_eq!(failures, 20);
}
