//! Who the client is: forwarded fields, trusted proxies, the PROXY protocol.

use std::{net::SocketAddr, time::Duration};

use propylon_e2e::{
    Gate,
    manifests::{echo, site},
    report::Report,
};
use propylon_testkit::raw::RawClient;

const SPOOFED: &str = "GET /x HTTP/1.1\r\nHost: web.example\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\
                       X-Forwarded-Host: evil.example\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\nX-Real-IP: 203.0.113.9\r\n\
                       X-Request-ID: chosen-by-client\r\nForwarded: for=203.0.113.9\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\n\
                       X_Forwarded_For: 203.0.113.9\r\nUnder_Score: 1\r\n\r\n";

#[test]
fn what_an_untrusted_client_says_about_itself_is_dropped() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let report = Report::of(&gate.send(SPOOFED));
    let port = gate.http.port().to_string();
    assert_eq!(report.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(report.headers("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(report.headers("x-forwarded-proto"), ["http"]);
    assert_eq!(report.headers("x-forwarded-host"), ["web.example"]);
    assert_eq!(report.headers("x-forwarded-port"), [port.as_str()]);
    for name in [
        "forwarded",
        "x-original-url",
        "x-rewrite-url",
        "x_forwarded_for",
        "under_score",
        "x-forwarded-prefix",
    ] {
        assert_eq!(report.headers(name), [""; 0], "{name}");
    }
    let ids = report.headers("x-request-id");
    assert!(
        ids.len() == 1 && ids.first().is_some_and(|id| id != "chosen-by-client" && id.len() >= 16),
        "{ids:?}"
    );
    let again = Report::of(&gate.send(SPOOFED)).headers("x-request-id");
    assert_ne!(ids, again);
}

#[test]
fn a_trusted_proxy_is_believed() {
    let echo = echo("web");
    let gate = Gate::start_with(
        &site("web.example", "web", &[echo.address]),
        &["--trusted-proxies", "127.0.0.0/8,198.51.100.0/24"],
    );
    let report = Report::of(&gate.send(
        "GET /x HTTP/1.1\r\nHost: web.example\r\nX-Forwarded-For: 192.0.2.7, 203.0.113.9, 198.51.100.4\r\nX-Forwarded-Proto: https\r\n\
         X-Request-ID: from-the-edge-1234\r\n\r\n",
    ));
    assert_eq!(report.headers("x-real-ip"), ["203.0.113.9"]);
    let hops: Vec<String> = report
        .headers("x-forwarded-for")
        .join(", ")
        .split(',')
        .map(|hop| hop.trim().to_owned())
        .collect();
    assert_eq!(hops, ["192.0.2.7", "203.0.113.9", "198.51.100.4", "127.0.0.1"]);
    assert_eq!(report.headers("x-forwarded-proto"), ["https"]);
    assert_eq!(report.headers("x-request-id"), ["from-the-edge-1234"]);
}

#[test]
fn forwarded_fields_over_tls_say_so() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let report = Report::of(&gate.get_tls("web.example", "/"));
    assert_eq!(report.headers("x-forwarded-proto"), ["https"]);
    assert_eq!(report.headers("x-forwarded-port"), [gate.https.port().to_string()]);
}

/// Sends a PROXY header and a request, and gives the address that the backend was told.
fn real_ip(gate: &Gate, header: &[u8]) -> Option<String> {
    let mut client = gate.connect();
    client.send(header).unwrap();
    let response = client.get("web.example", "/").ok()?;
    Report::of(&response).header("x-real-ip")
}

/// A version 2 header: PROXY over TCP, with these addresses.
fn version_2(source: SocketAddr, target: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let (family, mut addresses) = match (source.ip(), target.ip()) {
        (std::net::IpAddr::V4(source), std::net::IpAddr::V4(target)) => {
            (0x11, [source.octets(), target.octets()].concat())
        }
        (std::net::IpAddr::V6(source), std::net::IpAddr::V6(target)) => {
            (0x21, [source.octets(), target.octets()].concat())
        }
        _ => return Vec::new(),
    };
    addresses.extend(source.port().to_be_bytes());
    addresses.extend(target.port().to_be_bytes());
    header.push(family);
    header.extend(u16::try_from(addresses.len()).unwrap_or_default().to_be_bytes());
    header.extend(addresses);
    header
}

#[test]
fn the_proxy_protocol_names_the_client_in_both_versions() {
    let echo = echo("web");
    let gate = Gate::start_with(
        &site("web.example", "web", &[echo.address]),
        &["--proxy-protocol", "127.0.0.1/32"],
    );
    assert_eq!(
        real_ip(&gate, b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n").as_deref(),
        Some("203.0.113.9")
    );
    assert_eq!(
        real_ip(&gate, b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 80\r\n").as_deref(),
        Some("2001:db8::9")
    );
    assert_eq!(real_ip(&gate, b"PROXY UNKNOWN\r\n").as_deref(), Some("127.0.0.1"));
    let four = version_2("203.0.113.9:4711".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
    assert_eq!(real_ip(&gate, &four).as_deref(), Some("203.0.113.9"));
    let six = version_2(
        "[2001:db8::9]:4711".parse().unwrap(),
        "[2001:db8::1]:80".parse().unwrap(),
    );
    assert_eq!(real_ip(&gate, &six).as_deref(), Some("2001:db8::9"));
    // LOCAL: a health check of the load balancer itself.
    assert_eq!(
        real_ip(&gate, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").as_deref(),
        Some("127.0.0.1")
    );
}

#[test]
fn the_proxy_protocol_comes_before_tls() {
    use std::{io::Write, net::TcpStream, process::Command};
    let echo = echo("web");
    let gate = Gate::start_with(
        &site("web.example", "web", &[echo.address]),
        &["--proxy-protocol", "127.0.0.1/32"],
    );
    let port = gate.https.port();
    let output = Command::new("curl")
        .args([
            "--silent",
            "--insecure",
            "--haproxy-protocol",
            "--max-time",
            "20",
            "--resolve",
        ])
        .arg(format!("web.example:{port}:127.0.0.1"))
        .arg(format!("https://web.example:{port}/"))
        .output()
        .unwrap();
    assert_eq!(Report::parse(&output.stdout).name(), "web");
    let mut bare = TcpStream::connect(gate.https).unwrap();
    bare.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
}

#[test]
fn a_peer_that_must_send_a_proxy_header_is_closed_without_one() {
    let echo = echo("web");
    let gate = Gate::start_with(
        &site("web.example", "web", &[echo.address]),
        &["--proxy-protocol", "127.0.0.1/32"],
    );
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n"[..],
        b"PROXY TCP4 nonsense\r\n",
        b"PROXY TCP4 1.2.3.4\r\n\r\n",
    ] {
        let mut client = gate.connect();
        client.send(bytes).unwrap();
        assert_eq!(client.rest().unwrap_or_default(), b"");
    }
    assert_eq!(echo.requests(), 0);
    // A header that does not come has a deadline.
    let mut silent = gate.connect();
    silent.send(b"PROXY TCP4 203.0.11").unwrap();
    assert!(silent.closes_within(Duration::from_secs(15)).unwrap());
}

#[test]
fn a_proxy_header_of_anyone_else_is_refused() {
    let echo = echo("web");
    for flags in [&["--proxy-protocol", "198.51.100.0/24"][..], &[]] {
        let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), flags);
        let mut client = RawClient::connect(gate.http).unwrap();
        client
            .send(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\nGET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
            .unwrap();
        let answer = client.rest().unwrap_or_default();
        assert!(
            !answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        assert_eq!(gate.get("web.example", "/").status, 200);
    }
    assert_eq!(echo.requests(), 2);
}
