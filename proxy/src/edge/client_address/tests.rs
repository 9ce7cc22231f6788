use http::HeaderValue;

use super::*;

fn trust(networks: &[&str]) -> TrustedProxies {
    TrustedProxies::new(networks.iter().map(|network| network.parse::<IpNet>().unwrap()))
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

fn client(peer: &str, networks: &[&str], lists: &[&'static str]) -> String {
    let trust = trust(networks);
    let fields: Vec<_> = lists.iter().map(|list| ("x-forwarded-for", *list)).collect();
    let peer = PeerInfo::new(peer.parse().unwrap(), &trust);
    peer.client_address(&headers(&fields), &trust).to_string()
}

#[test]
fn the_client_is_the_rightmost_untrusted_address() {
    let own = &["10.0.0.0/8", "fd00::/8"][..];
    let cases: &[(&str, &[&'static str], &str)] = &[
        ("10.0.0.1:5", &["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1:5", &["203.0.113.9, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1:5", &["192.0.2.1, 10.0.0.2,10.0.0.3"], "192.0.2.1"),
        ("10.0.0.1:5", &["203.0.113.9", "192.0.2.1", "10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1:5", &["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1:5", &[], "10.0.0.1"),
        ("10.0.0.1:5", &[""], "10.0.0.1"),
        ("10.0.0.1:5", &["192.0.2.1, unknown"], "10.0.0.1"),
        ("10.0.0.1:5", &["192.0.2.1, _hidden, 10.0.0.9"], "10.0.0.9"),
        ("10.0.0.1:5", &["192.0.2.1, ,10.0.0.9"], "10.0.0.9"),
        ("10.0.0.1:5", &["192.0.2.1:1234"], "192.0.2.1"),
        ("10.0.0.1:5", &["[2001:db8::1]:1234"], "2001:db8::1"),
        ("10.0.0.1:5", &["[2001:db8::1]"], "2001:db8::1"),
        ("10.0.0.1:5", &["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1:5", &["[2001:db8::1]x"], "10.0.0.1"),
        ("10.0.0.1:5", &["192.0.2.1:99999"], "10.0.0.1"),
        ("10.0.0.1:5", &["::ffff:192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1:5", &["192.0.2.1, ::ffff:10.0.0.7"], "192.0.2.1"),
        ("[fd00::1]:5", &["192.0.2.1"], "192.0.2.1"),
        ("[::ffff:10.0.0.1]:5", &["192.0.2.1"], "192.0.2.1"),
        ("192.0.2.8:5", &["203.0.113.9"], "192.0.2.8"),
        ("[::ffff:192.0.2.8]:5", &["203.0.113.9"], "192.0.2.8"),
    ];
    for (peer, lists, expected) in cases {
        assert_eq!(client(peer, own, lists), *expected, "{peer} {lists:?}");
    }
    assert_eq!(
        client("10.0.0.1:5", &[], &["192.0.2.1"]),
        "10.0.0.1",
        "nobody is trusted by default"
    );
    assert_eq!(
        client("10.0.0.1:5", &["::ffff:10.0.0.0/104"], &["192.0.2.1"]),
        "192.0.2.1"
    );
    assert!(TrustedProxies::default().is_empty());
}

fn written(peer: &str, fields: &[(&'static str, &'static str)], seen: &Seen<'_>) -> Vec<String> {
    let trust = trust(&["10.0.0.0/8"]);
    let (peer, headers) = (PeerInfo::new(peer.parse().unwrap(), &trust), headers(fields));
    let (mut scratch, mut lines) = (Scratch::default(), Vec::new());
    let fields = ForwardedFields::new(&peer, &trust, &headers, seen);
    for (name, value) in fields.list(&mut scratch).iter() {
        lines.push(format!("{name}: {}", str::from_utf8(value).unwrap()));
    }
    lines
}

const HTTP: Seen<'static> = Seen {
    scheme: Scheme::Http,
    host: "a.example:8080",
    port: 8080,
    random: 0xabc,
};

const SENT: [(&str, &str); 6] = [
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "front.example"),
    ("x-forwarded-port", "443"),
    ("x-real-ip", "203.0.113.5"),
    ("x-request-id", "their-id"),
];

#[test]
fn a5_20_an_untrusted_peers_fields_are_replaced() {
    let expected = [
        "x-forwarded-for: 192.0.2.8",
        "x-real-ip: 192.0.2.8",
        "x-forwarded-proto: http",
        "x-forwarded-port: 8080",
        "x-request-id: 00000000000000000000000000000abc",
        "x-forwarded-host: a.example:8080",
    ];
    assert_eq!(written("192.0.2.8:5", &SENT, &HTTP), expected);
}

#[test]
fn a5_20_a_trusted_peers_fields_are_kept_and_extended() {
    let expected = [
        "x-forwarded-for: 192.0.2.1, 10.0.0.1",
        "x-real-ip: 192.0.2.1",
        "x-forwarded-proto: https",
        "x-forwarded-port: 443",
        "x-request-id: their-id",
        "x-forwarded-host: front.example",
    ];
    assert_eq!(written("10.0.0.1:5", &SENT, &HTTP), expected);
    let lists = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "192.0.2.1")];
    assert_eq!(
        written("10.0.0.1:5", &lists, &HTTP)[0],
        "x-forwarded-for: 203.0.113.9, 192.0.2.1, 10.0.0.1"
    );
}

#[test]
fn a_trusted_peers_insane_fields_are_replaced() {
    let fields = [
        ("x-forwarded-proto", "gopher"),
        ("x-forwarded-host", "a b"),
        ("x-forwarded-port", "70000"),
        ("x-request-id", "with space"),
    ];
    let lines = written("10.0.0.1:5", &fields, &HTTP);
    assert_eq!(lines[2..4], ["x-forwarded-proto: http", "x-forwarded-port: 8080"]);
    assert!(lines[4].starts_with("x-request-id: 0000"));
    assert_eq!(lines[5], "x-forwarded-host: a.example:8080");
    let twice = [("x-request-id", "one"), ("x-request-id", "two")];
    assert!(written("10.0.0.1:5", &twice, &HTTP)[4].starts_with("x-request-id: 0000"));
}

#[test]
fn the_port_follows_a_trusted_scheme() {
    let lines = written("10.0.0.1:5", &[("x-forwarded-proto", "https")], &HTTP);
    assert_eq!(lines[3], "x-forwarded-port: 443");
    let same = written("10.0.0.1:5", &[("x-forwarded-proto", "http")], &HTTP);
    assert_eq!(same[3], "x-forwarded-port: 8080");
}

#[test]
fn no_host_means_no_forwarded_host() {
    let lines = written("192.0.2.8:5", &[], &Seen { host: "", ..HTTP });
    assert_eq!(lines.len(), 5);
    assert!(!lines.iter().any(|line| line.starts_with("x-forwarded-host")));
}

#[test]
fn only_a_trusted_peer_can_say_https() {
    let trust = trust(&["10.0.0.0/8"]);
    let headers = headers(&[("x-forwarded-proto", "https")]);
    let https = |peer: &str| {
        let peer = PeerInfo::new(peer.parse().unwrap(), &trust);
        ForwardedFields::new(&peer, &trust, &headers, &HTTP).is_https()
    };
    assert!(https("10.0.0.1:5"));
    assert!(!https("192.0.2.8:5"));
}

#[test]
fn a_request_id_is_the_random_number_in_hex() {
    assert_eq!(&hex(u128::MAX), b"ffffffffffffffffffffffffffffffff");
    assert_eq!(
        hex(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        *b"0123456789abcdef0123456789abcdef"
    );
}
