//! What `/stats` and the page say of traffic that went through.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use propylon_model::L4Protocol;
use propylon_proxy::{
    ProxyHandle,
    stats::{Health, Stats, Window},
};
use propylon_testkit::{
    echo::{EchoOptions, EchoServer},
    raw::{RawClient, RawResponse},
    wait::{self, PATIENCE},
};

use super::{
    common::{Builder, everything, start},
    l4::{Backend, Served, ask, connect, free, service},
};

fn admin(proxy: &ProxyHandle, path: &str) -> RawResponse {
    let mut client = RawClient::connect(proxy.addresses().admin.unwrap()).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client.send(head.as_bytes()).unwrap();
    client.response().unwrap()
}

fn stats(proxy: &ProxyHandle) -> Stats {
    serde_json::from_slice(&admin(proxy, "/stats").body).expect("the document of /stats")
}

/// Waits until the document is as it should be: the workers publish what endpoints did every 100 ms.
fn stats_with(proxy: &ProxyHandle, condition: impl Fn(&Stats) -> bool) -> Stats {
    let found = wait::some(PATIENCE, || Some(stats(proxy)).filter(&condition));
    found.map_or_else(|| panic!("in vain: {:#?}", stats(proxy)), |(stats, _)| stats)
}

fn get(proxy: &ProxyHandle, host: &str, times: usize) -> u16 {
    let mut client = RawClient::connect(proxy.addresses().http[0]).unwrap();
    let mut status = 0;
    for _ in 0..times {
        status = client.get(host, "/").unwrap().status;
    }
    status
}

/// An address at which nothing listens.
fn refusing() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

#[test]
fn routes_and_endpoints_are_counted() {
    let backend = EchoServer::start(EchoOptions::named("web-1")).unwrap();
    let (proxy, dead) = (start(&[]), refusing());
    let resources = Builder::default()
        .host("web.example", &[backend.address])
        .host("dead.example", &[dead])
        .build();
    proxy.apply(&everything(&resources));
    let first = stats(&proxy);
    assert_eq!(get(&proxy, "web.example", 5), 200);
    assert_eq!(get(&proxy, "dead.example", 1), 502);
    assert_eq!(get(&proxy, "other.example", 2), 404);
    let second = stats_with(&proxy, |stats| {
        stats.endpoints.iter().map(|endpoint| endpoint.requests).sum::<u64>() == 5 + 3
            && stats.routes.iter().map(|route| route.served.requests).sum::<u64>() == 6
    });
    let route = |host: &str| second.routes.iter().find(|route| route.host == host).unwrap();
    let web = route("web.example");
    assert_eq!((web.path.as_deref(), web.path_type.as_str()), (Some("/"), "Prefix"));
    assert_eq!(web.source, "default/web.example Ingress");
    assert_eq!(web.service.as_deref(), Some("default/web-example:80"));
    assert_eq!(
        (web.served.requests, web.served.errors, web.served.status.success),
        (5, 0, 5)
    );
    assert_eq!(web.served.latency.iter().map(|(_, count)| count).sum::<u64>(), 5);
    let dead_route = route("dead.example");
    assert_eq!(
        (dead_route.served.errors, dead_route.served.status.server_error),
        (1, 1)
    );
    assert_eq!(dead_route.served.reasons.get("connection_refused"), Some(&1));
    assert_eq!(
        (second.unmatched.requests, second.unmatched.status.client_error),
        (2, 2)
    );
    let endpoint = |address: SocketAddr| {
        let address = address.to_string();
        second
            .endpoints
            .iter()
            .find(|endpoint| endpoint.address == address)
            .unwrap()
    };
    let alive = endpoint(backend.address);
    assert_eq!(
        (alive.requests, alive.failures, alive.health),
        (5, 0, Health::Unchecked)
    );
    assert!(alive.latency_us.is_some() && alive.last_failure.is_none());
    let refused = endpoint(dead);
    assert_eq!((refused.requests, refused.failures), (3, 3), "one request, two repeats");
    assert_eq!(refused.last_failure.as_ref().unwrap().what, "connection_refused");
    let window = Window::between(Some(&first), &second);
    assert!(window.seconds > 0.0);
    let rates: Vec<_> = second.routes.iter().zip(&window.routes).collect();
    assert!(
        rates
            .iter()
            .all(|(route, rates)| (route.served.requests > 0) == (rates.requests > 0.0))
    );
}

#[test]
fn what_is_under_way_is_shown_until_it_ends() {
    let backend = EchoServer::start(EchoOptions::named("web-1")).unwrap();
    let proxy = start(&[]);
    proxy.apply(&everything(
        &Builder::default().host("web.example", &[backend.address]).build(),
    ));
    let mut client = RawClient::connect(proxy.addresses().http[0]).unwrap();
    // The body is still to come: the request is under way.
    client
        .send(b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 2\r\n\r\n")
        .unwrap();
    let busy = stats_with(&proxy, |stats| {
        stats.endpoints.iter().any(|endpoint| endpoint.in_flight == 1)
    });
    assert_eq!(busy.routes[0].served.in_flight, 1);
    assert_eq!(busy.endpoints[0].connections, 1);
    client.send(b"ok").unwrap();
    assert_eq!(client.response().unwrap().status, 200);
    let idle = stats_with(&proxy, |stats| {
        stats.endpoints.iter().all(|endpoint| endpoint.in_flight == 0)
    });
    assert_eq!(
        (idle.routes[0].served.in_flight, idle.routes[0].served.requests),
        (0, 1)
    );
}

#[test]
fn counts_outlive_a_change_of_endpoints_and_of_other_routes() {
    let backend = EchoServer::start(EchoOptions::named("web-1")).unwrap();
    let proxy = start(&[]);
    let before = Builder::default().host("web.example", &[backend.address]).build();
    proxy.apply(&everything(&before));
    get(&proxy, "web.example", 3);
    stats_with(&proxy, |stats| stats.endpoints[0].requests == 3);
    let after = Builder::default()
        .host("new.example", &[backend.address])
        .host("web.example", &[refusing(), backend.address])
        .build();
    proxy.apply(&propylon_model::Delta::between(&before, &after));
    let later = stats(&proxy);
    let web = later.routes.iter().find(|route| route.host == "web.example").unwrap();
    assert_eq!(web.served.requests, 3);
    let kept = later.endpoints.iter().find(|endpoint| {
        endpoint.service == "default/web-example:80" && endpoint.address == backend.address.to_string()
    });
    assert_eq!(kept.unwrap().requests, 3);
}

#[test]
fn the_page_and_its_events_tell_of_the_routes() {
    let backend = EchoServer::start(EchoOptions::named("web-1")).unwrap();
    let proxy = start(&[]);
    proxy.apply(&everything(
        &Builder::default().host("web.example", &[backend.address]).build(),
    ));
    let page = admin(&proxy, "/");
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-security-policy")
            .is_some_and(|policy| policy.contains("sha256-"))
    );
    assert!(page.text().contains("web.example /") && page.text().contains("added routes"));
    let mut stream = TcpStream::connect(proxy.addresses().admin.unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"GET /events?q=web HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut seen = String::new();
    while !seen.contains("</html>") {
        let mut chunk = [0; 4096];
        let length = stream.read(&mut chunk).unwrap();
        assert!(length > 0, "closed after {seen}");
        seen.push_str(&String::from_utf8_lossy(&chunk[..length]));
    }
    assert!(seen.contains("data: <tbody id=\"routes-rows\" data-live>"), "{seen}");
}

#[test]
fn connections_and_sessions_of_layer_4_count_and_their_listeners_are_told() {
    let backend = Backend::echo("a:");
    let (address, gone) = (free(L4Protocol::Tcp), free(L4Protocol::Tcp));
    let mut served = Served::new(start(&["--workers", "2"]));
    served.endpoints("web", &[backend.address]);
    served.endpoints("gone", &[free(L4Protocol::Tcp)]);
    served.put(service("web", L4Protocol::Tcp, address));
    served.put(service("gone", L4Protocol::Tcp, gone));
    for _ in 0..3 {
        assert_eq!(ask(&mut connect(address), b"x").unwrap(), b"a:x");
    }
    assert!(ask(&mut connect(gone), b"x").is_err());
    let open = connect(address);
    let of = |stats: &Stats, name: &str| {
        let found = stats.endpoints.iter().find(|row| row.service.contains(name));
        found.map(|row| (row.requests, row.failures, row.in_flight))
    };
    stats_with(&served.proxy, |stats| of(stats, "web") == Some((4, 0, 1)));
    stats_with(&served.proxy, |stats| {
        of(stats, "gone").is_some_and(|(requests, failures, _)| requests > 0 && requests == failures)
    });
    drop(open);
    stats_with(&served.proxy, |stats| of(stats, "web") == Some((4, 0, 0)));
    let told: serde_json::Value = serde_json::from_slice(&admin(&served.proxy, "/listeners").body).unwrap();
    let mut listeners = told["listeners"].as_array().unwrap().clone();
    listeners.sort_by_key(|listener| listener["service"].to_string());
    let expected = serde_json::json!([
        { "protocol": "TCP", "address": gone.to_string(), "service": "default/gone" },
        { "protocol": "TCP", "address": address.to_string(), "service": "default/web" },
    ]);
    assert_eq!(serde_json::Value::from(listeners), expected);
}
