//! External names: what the DNS says becomes endpoints, and what it fails to say does no harm.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::Duration,
};

use propylon_model::{
    Action, Delta, Endpoints, EndpointsName, ExternalName, PathMatch, ReportReason, Resources, RouteGroup,
};
use propylon_proxy::ProxyHandle;
use propylon_testkit::{
    dns::{DnsAnswer, DnsServer},
    echo::{EchoOptions, EchoServer},
    raw::RawClient,
    wait::{self, PATIENCE},
};
use socket2::{Domain, Socket, Type};
use tokio::time::Instant;

use super::common::{Builder, everything, start};

const HOST: &str = "web.example.com";
const NAME: &str = "backend.example.org";

fn external(port: u16, allow_local: bool) -> Endpoints {
    Endpoints {
        external: Some(ExternalName {
            host: NAME.into(),
            port,
            allow_local,
        }),
        ..Endpoints::default()
    }
}

fn resources(endpoints: Endpoints) -> Resources {
    let mut resources = Builder::default().host(HOST, &[]).build();
    resources.endpoints.insert(name(), Arc::new(endpoints));
    resources
}

fn name() -> EndpointsName {
    EndpointsName::new("default/web-example-com:80")
}

/// A proxy that asks this server.
fn serve(dns: &DnsServer, resources: &Resources) -> ProxyHandle {
    let proxy = start(&["--dns-server", &dns.address.to_string()]);
    proxy.apply(&everything(resources));
    proxy
}

fn echo(address: SocketAddr) -> std::io::Result<EchoServer> {
    EchoServer::start(EchoOptions {
        address,
        ..EchoOptions::named(&address.ip().to_string())
    })
}

/// Two backends on one port: 127.0.0.1 and another address.
fn twins(other: &str) -> (EchoServer, EchoServer) {
    for _ in 0..100 {
        let first = echo((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        if let Ok(second) = echo(SocketAddr::new(other.parse().unwrap(), first.address.port())) {
            return (first, second);
        }
    }
    panic!("no port is free at both addresses");
}

fn get(proxy: &ProxyHandle) -> (u16, String) {
    let mut client = RawClient::connect(proxy.addresses().http[0]).unwrap();
    let response = client.get(HOST, "/").unwrap();
    let served = if response.status == 200 {
        response.json()["name"].as_str().unwrap_or_default().to_owned()
    } else {
        String::new()
    };
    (response.status, served)
}

#[track_caller]
fn until(what: &str, condition: impl FnMut() -> bool) -> Duration {
    wait::until(PATIENCE, condition).unwrap_or_else(|| panic!("waited in vain until {what}"))
}

fn has_report(proxy: &ProxyHandle, reason: ReportReason) -> bool {
    proxy.reports().iter().any(|report| report.reason == reason)
}

#[test]
fn a_changed_answer_is_followed_without_a_failed_request() {
    let dns = DnsServer::start().unwrap();
    let (old, new) = twins("127.0.0.2");
    dns.set_addresses(NAME, &["127.0.0.1"], 1);
    let proxy = serve(&dns, &resources(external(old.address.port(), true)));
    until("the name is resolved", || get(&proxy).0 == 200);
    assert_eq!(get(&proxy).1, "127.0.0.1");
    dns.set_addresses(NAME, &["127.0.0.2"], 1);
    until("the new address serves", || {
        let (status, served) = get(&proxy);
        assert_eq!(status, 200);
        served == "127.0.0.2"
    });
    let before = old.requests();
    for _ in 0..20 {
        assert_eq!(get(&proxy), (200, "127.0.0.2".to_owned()));
    }
    assert_eq!(old.requests(), before);
    assert!(new.requests() >= 20);
    assert_eq!(dns.client_subnets(), 0);
}

#[test]
fn the_time_to_live_is_honoured_down_to_that_of_an_alias() {
    let dns = DnsServer::start().unwrap();
    let backend = echo((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    dns.set(NAME, DnsAnswer::Alias(vec![Ipv4Addr::LOCALHOST.into()], 300, 2));
    let proxy = serve(&dns, &resources(external(backend.address.port(), true)));
    until("the name is resolved", || get(&proxy).0 == 200);
    until("it is asked for again", || dns.queries(NAME) >= 2);
    let between = until("it is asked for a third time", || dns.queries(NAME) >= 3);
    assert!(between >= Duration::from_millis(1700), "{between:?}");
}

#[test]
fn the_last_good_answer_stays_when_the_dns_fails() {
    let dns = DnsServer::start().unwrap();
    let backend = echo((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    dns.set_addresses(NAME, &["127.0.0.1"], 1);
    let proxy = serve(&dns, &resources(external(backend.address.port(), true)));
    until("the name is resolved", || get(&proxy).0 == 200);
    for failure in [DnsAnswer::Failure, DnsAnswer::NoSuchName(1)] {
        dns.set(NAME, failure);
        until("it is reported", || {
            has_report(&proxy, ReportReason::ExternalNameUnresolved)
        });
        let report = proxy.reports().pop().unwrap().to_string();
        assert!(
            report.starts_with("warning default/web-example-com Service: ExternalNameUnresolved: port 80:"),
            "{report}"
        );
        assert!(report.contains("last good answer"), "{report}");
        assert_eq!(get(&proxy).0, 200);
        dns.set_addresses(NAME, &["127.0.0.1"], 1);
        until("it is over", || proxy.reports().is_empty());
    }
    assert_eq!(get(&proxy).0, 200);
}

#[test]
fn a_name_that_never_resolved_is_a_503_and_a_report() {
    let dns = DnsServer::start().unwrap();
    let proxy = serve(&dns, &resources(external(80, true)));
    until("it is reported", || {
        has_report(&proxy, ReportReason::ExternalNameUnresolved)
    });
    assert_eq!(get(&proxy).0, 503);
    assert!(proxy.reports()[0].message.contains("503"), "{:?}", proxy.reports());
}

#[test]
fn local_addresses_are_left_out_in_every_form() {
    let dns = DnsServer::start().unwrap();
    let backend = echo((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let port = backend.address.port();
    let answers = [
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1",
    ];
    dns.set_addresses(NAME, &answers, 60);
    let proxy = serve(&dns, &resources(external(port, false)));
    until("it is reported", || has_report(&proxy, ReportReason::EndpointDenied));
    assert_eq!(get(&proxy).0, 503);
    assert_eq!(backend.connections(), 0);
    let before = resources(external(port, false));
    proxy.apply(&Delta::between(&before, &resources(external(port, true))));
    until("it is allowed", || get(&proxy).0 == 200);
}

#[test]
fn a_service_that_is_gone_is_not_asked_for() {
    let dns = DnsServer::start().unwrap();
    let backend = echo((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    dns.set_addresses(NAME, &["127.0.0.1"], 1);
    let before = resources(external(backend.address.port(), true));
    let proxy = serve(&dns, &before);
    until("it is asked for twice", || dns.queries(NAME) >= 2);
    let fixed = propylon_model::Endpoint::new(backend.address);
    proxy.apply(&Delta::between(&before, &resources(Endpoints::new(vec![fixed]))));
    // A question may be under way.
    let asked = dns.queries(NAME) + 1;
    assert!(wait::until(Duration::from_millis(2500), || dns.queries(NAME) > asked).is_none());
    assert_eq!(get(&proxy).0, 200);
}

/// A listener that never completes a handshake: its queue is full.
fn black_hole(address: SocketAddr) -> std::io::Result<(Socket, Vec<Socket>)> {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    listener.bind(&address.into())?;
    listener.listen(0)?;
    let fill = |_| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        client.set_nonblocking(true)?;
        match client.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(IN_PROGRESS) => Err(error),
            _ => Ok(client),
        }
    };
    let clients = (0..4).map(fill).collect::<Result<Vec<Socket>, _>>()?;
    Ok((listener, clients))
}

const IN_PROGRESS: i32 = 115;

#[test]
fn a_dead_family_does_not_hold_up_connections() {
    let dns = DnsServer::start().unwrap();
    let alive = echo("[::1]:0".parse().unwrap()).unwrap();
    let port = alive.address.port();
    let _hole = black_hole((Ipv4Addr::new(127, 0, 0, 9), port).into()).unwrap();
    dns.set_addresses(NAME, &["127.0.0.9", "::1"], 60);
    let mut resources = resources(external(port, true));
    for group in resources.groups.values_mut() {
        patient(Arc::make_mut(group));
    }
    let proxy = serve(&dns, &resources);
    until("the name is resolved", || !proxy_endpoints(&proxy).is_empty());
    let address = proxy.addresses().http[0];
    let began = Instant::now();
    // All at once, so that each needs a connection of its own.
    let clients: Vec<_> = (0..16)
        .map(|_| {
            thread::spawn(move || {
                let mut client = RawClient::connect(address).unwrap();
                let response = client.get(HOST, "/delay/500").unwrap();
                (response.status, response.json()["name"].to_string())
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), (200, "\"::1\"".to_owned()));
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(alive.requests(), 16);
    // And before long nobody is sent there first.
    until("the dead address is left out", || {
        assert_eq!(get(&proxy).0, 200);
        let series = format!("endpoint=\"127.0.0.9:{port}\"}} 0");
        proxy.registry().render().lines().any(|line| line.contains(&series))
    });
}

/// So long a connect timeout that only the race can be why it went quickly.
fn patient(group: &mut RouteGroup) {
    for rule in &mut group.rules {
        assert!(matches!(
            (&rule.path, &rule.action),
            (PathMatch::Prefix(_), Action::Forward(_))
        ));
        rule.policy.connect_timeout = Duration::from_mins(1);
    }
}

fn proxy_endpoints(proxy: &ProxyHandle) -> String {
    let mut client = RawClient::connect(proxy.addresses().admin.unwrap()).unwrap();
    let lists = client.get("localhost", "/endpoints").unwrap().json();
    let endpoints = lists["endpoints"][0]["endpoints"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    endpoints
        .iter()
        .map(|endpoint| endpoint["address"].to_string())
        .collect()
}
