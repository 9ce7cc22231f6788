//! Message framing (RFC 9112): what is refused, what is repaired, on both sides.

use std::net::SocketAddr;

use propylon_e2e::{
    Gate,
    manifests::{echo, ingress, site},
    report::Report,
};
use propylon_testkit::{
    manifest,
    raw::{RawResponse, ScriptedServer, Step, scripted_server},
    wait,
};

/// A backend that reads a head, sends a fixed response, and keeps reading.
fn backend_that_says(response: &str) -> ScriptedServer {
    scripted_server(vec![vec![Step::ReadHead, Step::write(response), Step::Hold]]).unwrap()
}

fn gate_to(address: SocketAddr) -> Gate {
    Gate::start(&site("web.example", "web", &[address]))
}

/// The first response to bytes, or none where the connection is closed without one.
fn first_response(gate: &Gate, request: &str) -> Option<RawResponse> {
    let mut client = gate.connect();
    client.send(request.as_bytes()).unwrap();
    client.response().ok()
}

/// What follows the request line and `Host` of a POST.
const FIELDS_IN_DOUBT: &[(&str, &str)] = &[
    (
        "different lengths",
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ),
    ("a list of different lengths", "Content-Length: 5, 6\r\n\r\nhello!"),
    ("a signed length", "Content-Length: +5\r\n\r\nhello"),
    ("a negative length", "Content-Length: -5\r\n\r\nhello"),
    ("a hexadecimal length", "Content-Length: 0x5\r\n\r\nhello"),
    (
        "a length beyond 64 bits",
        "Content-Length: 99999999999999999999999\r\n\r\n",
    ),
    ("an empty length", "Content-Length:\r\n\r\nhello"),
    ("an unknown coding", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("chunked not last", "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked in two lines",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a folded field", "X-Fold: a\r\n b\r\n\r\n"),
    ("a blank before the colon", "X-Blank : a\r\n\r\n"),
    ("no colon", "nonsense\r\n\r\n"),
    ("an empty name", ": a\r\n\r\n"),
    ("a character that is no token", "X(y): a\r\n\r\n"),
    ("NUL in a value", "X-Nul: a\0b\r\n\r\n"),
    ("a bare CR in a value", "X-Cr: a\rb\r\n\r\n"),
];

const LINES_IN_DOUBT: &[(&str, &str)] = &[
    (
        "a coding in HTTP/1.0",
        "POST / HTTP/1.0\r\nHost: web.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a blank before the first field",
        "GET / HTTP/1.1\r\n Host: web.example\r\n\r\n",
    ),
    ("a tab in the method", "G\tET / HTTP/1.1\r\nHost: web.example\r\n\r\n"),
    (
        "two blanks in the request line",
        "GET  / HTTP/1.1\r\nHost: web.example\r\n\r\n",
    ),
    ("an unknown version", "GET / HTTP/1.7\r\nHost: web.example\r\n\r\n"),
    (
        "a version of two digits",
        "GET / HTTP/11.1\r\nHost: web.example\r\n\r\n",
    ),
    ("no version", "GET /\r\nHost: web.example\r\n\r\n"),
];

#[test]
fn requests_in_doubt_are_refused_and_their_connection_is_closed() {
    let echo = echo("web");
    let gate = gate_to(echo.address);
    let posts = FIELDS_IN_DOUBT
        .iter()
        .map(|(what, rest)| (*what, format!("POST / HTTP/1.1\r\nHost: web.example\r\n{rest}")));
    let lines = LINES_IN_DOUBT
        .iter()
        .map(|(what, request)| (*what, (*request).to_owned()));
    for (what, request) in posts.chain(lines) {
        let mut client = gate.connect();
        client.send(request.as_bytes()).unwrap();
        client
            .send(b"GET /smuggled HTTP/1.1\r\nHost: web.example\r\n\r\n")
            .unwrap_or_default();
        let bytes = client.rest().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(echo.requests(), 0, "{what} reached the backend: {text}");
        if !text.is_empty() {
            let status: u16 = text
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .unwrap_or_default();
            assert!(matches!(status, 400 | 413 | 501 | 505), "{what}: {text}");
            assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{what}: {text}");
        }
    }
}

#[test]
fn malformed_chunks_never_make_a_complete_request() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "g\r\nhello\r\n0\r\n\r\n",
    ] {
        let server = backend_that_says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let gate = gate_to(server.address);
        let request = format!("POST / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let mut client = gate.connect();
        client.send(request.as_bytes()).unwrap();
        // The backend may answer before the body; then the connection must end behind that answer.
        let text = String::from_utf8_lossy(&client.rest().unwrap_or_default()).into_owned();
        assert!(text.matches("HTTP/1.1 ").count() <= 1, "{body:?}: {text}");
        let received = server.received().into_iter().next().unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&received).ends_with("0\r\n\r\n"),
            "{body:?} arrived as a complete request"
        );
    }
}

/// Extensions are to be ignored (RFC 9112 7.1.1), whatever is in them; they end here.
#[test]
fn chunk_extensions_are_not_passed_on() {
    let server = backend_that_says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gate = gate_to(server.address);
    let head = "POST / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = gate.connect();
    client
        .send(format!("{head}5;name=\"evil\"\r\nhello\r\n0;last\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(client.response().unwrap().status, 200);
    gate.until("the body has arrived", || {
        let received = server.received().concat();
        let text = String::from_utf8_lossy(&received).into_owned();
        assert!(!text.contains("evil") && !text.contains("last"), "{text}");
        text.contains("hello")
    });
}

#[test]
fn length_beside_coding_goes_on_as_one_message_and_ends_the_connection() {
    for order in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    ] {
        let echo = echo("web");
        let gate = gate_to(echo.address);
        let mut client = gate.connect();
        let request = format!("POST /one HTTP/1.1\r\nHost: web.example\r\n{order}\r\n5\r\nhello\r\n0\r\n\r\n");
        client
            .send((request + "GET /two HTTP/1.1\r\nHost: web.example\r\n\r\n").as_bytes())
            .unwrap();
        let response = client.response().unwrap();
        let report = Report::of(&response);
        assert_eq!(report.number("body_bytes"), 5);
        assert!(
            report.headers("content-length").is_empty() != report.headers("transfer-encoding").is_empty(),
            "{report:?}"
        );
        assert_eq!(client.rest().unwrap_or_default(), b"", "{order}");
        assert_eq!(echo.requests(), 1);
    }
}

#[test]
fn equal_lengths_go_on_as_one() {
    let echo = echo("web");
    let gate = gate_to(echo.address);
    let request = "POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello";
    let Some(response) = first_response(&gate, request) else {
        return;
    };
    if response.status == 200 {
        let report = Report::of(&response);
        assert_eq!(report.headers("content-length"), ["5"]);
        assert_eq!(report.number("body_bytes"), 5);
    } else {
        assert_eq!(response.status, 400);
    }
}

#[test]
fn lines_that_end_in_a_bare_line_feed_go_on_well_formed() {
    let server = backend_that_says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let gate = gate_to(server.address);
    let Some(response) = first_response(&gate, "GET / HTTP/1.1\nHost: web.example\nX-Line: a\n\n") else {
        return;
    };
    if response.status == 200 {
        let received = server.received().into_iter().next().unwrap();
        let text = String::from_utf8_lossy(&received).into_owned();
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "{text:?}");
        assert!(text.to_lowercase().contains("\r\nx-line: a\r\n"), "{text:?}");
    } else {
        assert_eq!(response.status, 400);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let echo = echo("web");
    let gate = gate_to(echo.address);
    let mut client = gate.connect();
    let requests: Vec<String> = (0..10)
        .map(|number| format!("GET /{number} HTTP/1.1\r\nHost: web.example\r\n\r\n"))
        .collect();
    client.send(requests.concat().as_bytes()).unwrap();
    for number in 0..10 {
        assert_eq!(
            Report::of(&client.response().unwrap()).text("target"),
            format!("/{number}")
        );
    }
}

#[test]
fn hosts_are_missing_only_in_http_1_0() {
    let echo = echo("web");
    let yaml = ingress("any").prefix("", "/", "any", 80).yaml()
        + &manifest::service("default", "any", 80, "")
        + &manifest::endpoint_slice("default", "any", "s", &[echo.address]);
    let gate = Gate::start(&yaml);
    assert_eq!(gate.send("GET / HTTP/1.1\r\n\r\n").status, 400);
    assert_eq!(gate.send("GET / HTTP/1.0\r\n\r\n").status, 200);
    assert_eq!(gate.send("GET / HTTP/1.0\r\nHost: a.example\r\n\r\n").status, 200);
}

#[test]
fn the_connection_stays_open_as_each_version_says() {
    let echo = echo("web");
    let gate = gate_to(echo.address);
    let head = |version: &str, field: &str| format!("GET / HTTP/{version}\r\nHost: web.example\r\n{field}\r\n");
    for (version, field, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
    ] {
        let mut client = gate.connect();
        client.send(head(version, field).as_bytes()).unwrap();
        assert_eq!(client.response().unwrap().status, 200);
        if stays {
            assert_eq!(client.get("web.example", "/").unwrap().status, 200, "{version} {field}");
        } else {
            assert_eq!(client.rest().unwrap_or_default(), b"", "{version} {field}");
        }
    }
}

#[test]
fn responses_in_doubt_are_502() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Blank : a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX-Nul: a\0b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 099 Low\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "nonsense\r\n\r\n",
    ] {
        let server = backend_that_says(response);
        let gate = gate_to(server.address);
        let answer = gate.get("web.example", "/");
        assert_eq!(answer.status, 502, "{response:?} gave {}", answer.head);
        assert!(
            answer.header("proxy-status").is_some(),
            "{response:?} gave {}",
            answer.head
        );
    }
}

#[test]
fn a_truncated_response_never_looks_complete() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf",
    ] {
        let server = scripted_server(vec![vec![Step::ReadHead, Step::write(response)]]).unwrap();
        let gate = gate_to(server.address);
        let mut client = gate.connect();
        client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
        let error = client.response().unwrap_err();
        assert!(
            matches!(
                error.kind(),
                std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::ConnectionReset
            ),
            "{error}"
        );

        let mut client = propylon_e2e::Http2::plain(gate.http);
        let failure = client.get("web.example", "/").unwrap_err();
        assert!(
            failure.reason().is_some_and(|reason| reason != h2::Reason::NO_ERROR),
            "{failure:?}"
        );
    }
}

#[test]
fn bytes_behind_a_response_poison_the_backend_connection() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    let clean = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean";
    let server = scripted_server(vec![
        vec![Step::ReadHead, Step::write(poison), Step::Hold],
        vec![Step::ReadHead, Step::write(clean), Step::Hold],
    ])
    .unwrap();
    let gate = Gate::start_with(&site("web.example", "web", &[server.address]), &["--workers", "1"]);
    let mut client = gate.connect();
    assert_eq!(client.get("web.example", "/").unwrap().text(), "ok");
    assert_eq!(client.get("web.example", "/").unwrap().text(), "clean");
    assert_eq!(server.connections(), 2);
}

#[test]
fn a_response_until_the_end_of_the_connection_is_delivered() {
    let server = scripted_server(vec![vec![
        Step::ReadHead,
        Step::write("HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nuntil the end"),
    ]])
    .unwrap();
    let gate = gate_to(server.address);
    let response = gate.get("web.example", "/");
    assert!(response.head.starts_with("HTTP/1.1 200"), "{}", response.head);
    assert_eq!(response.text(), "until the end");
}

#[test]
fn a_body_that_the_backend_did_not_read_is_not_the_next_request() {
    let answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno";
    let server = backend_that_says(answer);
    let gate = gate_to(server.address);
    let mut client = gate.connect();
    client
        .send(b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 60\r\n\r\n")
        .unwrap();
    assert_eq!(client.response().unwrap().status, 413);
    client
        .send(b"GET /smuggled HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap_or_default();
    let rest = client.rest().unwrap_or_default();
    assert_eq!(String::from_utf8_lossy(&rest), "", "the body was read as a request");
    assert!(wait::until(wait::PATIENCE, || server.connections() == 1).is_some());
}
