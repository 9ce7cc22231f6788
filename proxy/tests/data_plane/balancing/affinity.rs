//! Clients that stay with their endpoint.

use propylon_model::{Affinity, AffinityCookie};

use super::*;

fn by_cookie() -> PoolPolicy {
    PoolPolicy {
        affinity: Affinity::Cookie(AffinityCookie::default()),
        ..PoolPolicy::default()
    }
}

/// The field that sends a cookie back.
fn send_back(response: &RawResponse) -> String {
    let cookie = response.header("set-cookie").unwrap_or_default();
    let pair = cookie.split(';').next().unwrap_or_default();
    assert!(pair.starts_with("PROPYLON="), "{}", response.head);
    format!("Cookie: theme=dark; {pair}\r\n")
}

#[test]
fn a_cookie_binds_a_client_until_its_endpoint_goes() {
    let servers = [echo("a"), echo("b"), echo("c")];
    let addresses = servers.each_ref().map(|server| server.address);
    let before = site(&addresses, &by_cookie(), &RoutePolicy::default());
    let proxy = serve(&before);
    let first = get(&proxy, "/", "");
    let (bound, cookie) = (name(&first), send_back(&first));
    let field = first.header("set-cookie").unwrap().to_owned();
    assert!(field.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{field}");
    for _ in 0..30 {
        let next = get(&proxy, "/", &cookie);
        assert_eq!((name(&next), next.header("set-cookie")), (bound.clone(), None));
    }
    let rest: Vec<SocketAddr> = servers
        .iter()
        .filter(|server| {
            let report = RawClient::connect(server.address).unwrap().get(HOST, "/").unwrap();
            name(&report) != bound
        })
        .map(|server| server.address)
        .collect();
    let after = site(&rest, &by_cookie(), &RoutePolicy::default());
    proxy.apply(&Delta::between(&before, &after));
    let moved = get(&proxy, "/", &cookie);
    let (rebound, cookie) = (name(&moved), send_back(&moved));
    assert_ne!(rebound, bound);
    assert_eq!(name(&get(&proxy, "/", &cookie)), rebound);
}

#[test]
fn what_is_no_cookie_of_ours_is_replaced() {
    let servers = [echo("a"), echo("b")];
    let proxy = serve(&site(
        &servers.each_ref().map(|server| server.address),
        &by_cookie(),
        &RoutePolicy::default(),
    ));
    for forged in [
        "PROPYLON=",
        "PROPYLON=127.0.0.1:80",
        "PROPYLON=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        let response = get(&proxy, "/", &format!("Cookie: {forged}\r\n"));
        assert!(response.header("set-cookie").is_some(), "{forged}");
    }
}

#[test]
fn replicas_with_the_same_key_file_agree_and_others_do_not() {
    let servers: Vec<EchoServer> = (0..8).map(|number| echo(&format!("s{number}"))).collect();
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let resources = site(&addresses, &by_cookie(), &RoutePolicy::default());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let start_with_key = || {
        let proxy = start(&["--workers", "1", "--sticky-key-file", file.to_str().unwrap()]);
        proxy.apply(&everything(&resources));
        proxy
    };
    let (one, two, stranger) = (start_with_key(), start_with_key(), serve(&resources));
    for _ in 0..10 {
        let first = get(&one, "/", "");
        let (bound, cookie) = (name(&first), send_back(&first));
        let second = get(&two, "/", &cookie);
        assert_eq!((name(&second), second.header("set-cookie")), (bound, None));
        assert!(get(&stranger, "/", &cookie).header("set-cookie").is_some());
    }
}

#[test]
fn on_https_the_cookie_is_secure() {
    let server = echo("a");
    let proxy = serve(&site(&[server.address], &by_cookie(), &RoutePolicy::default()));
    let mut client = RawClient::connect_tls(proxy.addresses().https[0], Some(HOST), &["http/1.1"]).unwrap();
    let response = client.get(HOST, "/").unwrap();
    let field = response.header("set-cookie").unwrap_or_default();
    assert!(field.ends_with("; HttpOnly; SameSite=Lax; Secure"), "{field}");
}

#[test]
fn client_ip_affinity_needs_no_cookie() {
    let servers = [echo("a"), echo("b"), echo("c")];
    let by_address = PoolPolicy {
        affinity: Affinity::ClientIp(Duration::from_hours(3)),
        ..PoolPolicy::default()
    };
    let proxy = start(&["--workers", "2"]);
    let addresses = servers.each_ref().map(|server| server.address);
    proxy.apply(&everything(&site(&addresses, &by_address, &RoutePolicy::default())));
    let first = get(&proxy, "/", "");
    for _ in 0..20 {
        assert_eq!(name(&get(&proxy, "/", "")), name(&first));
    }
    assert_eq!(first.header("set-cookie"), None);
}
