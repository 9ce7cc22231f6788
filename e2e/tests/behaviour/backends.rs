//! Backends that misbehave: what the client sees, and what becomes of their connections.

use std::time::Duration;

use propylon_e2e::{
    Gate,
    frames::{flag, frame, kind},
    manifests::{backend_with, echo, ingress},
    report::Report,
};
use propylon_testkit::raw::{RawResponse, ScriptedServer, Step, scripted_server};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// One worker, so that connections are used again, before a backend of this protocol that plays these scripts.
fn before(app_protocol: &str, scripts: Vec<Vec<Step>>) -> (Gate, ScriptedServer) {
    let server = scripted_server(scripts).unwrap();
    let yaml = ingress("web")
        .prefix("web.example", "/", "web", 80)
        .annotation("propylon.dev/connect-timeout", "500ms")
        .annotation("propylon.dev/response-timeout", "2s")
        .yaml()
        + &backend_with("web", app_protocol, &[server.address]);
    (Gate::start_with(&yaml, &["--workers", "1"]), server)
}

fn reason(response: &RawResponse) -> &str {
    response.header("proxy-status").unwrap_or_default()
}

/// Reads the preface and the request of a client of HTTP/2, having said what SETTINGS a server must say first.
fn http2_greeting() -> Vec<Step> {
    let settings = [
        frame(kind::SETTINGS, 0, 0, &[]),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
    ]
    .concat();
    // The end of the head of a HEADERS frame: its type, END_HEADERS and END_STREAM, the first stream.
    let request = vec![kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 0, 0, 0, 1];
    vec![
        Step::ReadUntil(b"SM\r\n\r\n".to_vec()),
        Step::Write(settings),
        Step::ReadUntil(request),
    ]
}

#[test]
fn a_backend_that_speaks_http1_where_http2_was_announced_is_502() {
    let (gate, _server) = before("kubernetes.io/h2c", vec![vec![Step::Read(24), Step::write(OK)]]);
    let response = gate.get("web.example", "/");
    assert_eq!(response.status, 502, "{}", response.head);
}

#[test]
fn a_backend_that_does_not_finish_its_handshake_has_the_time_of_a_connect() {
    let (gate, _server) = before("https", vec![vec![Step::Hold]]);
    let response = gate.get("web.example", "/");
    assert_eq!(response.status, 504, "{}", response.head);
    assert!(reason(&response).contains("connection_timeout"), "{}", response.head);
    let (gate, _server) = before(
        "https",
        vec![vec![Step::Read(5), Step::write("HTTP/1.1 400 Bad Request\r\n\r\n")]],
    );
    let response = gate.get("web.example", "/");
    assert_eq!(response.status, 502, "{}", response.head);
    assert!(reason(&response).contains("tls_"), "{}", response.head);
}

#[test]
fn a_reset_stream_of_a_backend_is_an_error_and_never_the_end() {
    let reset = frame(kind::RST_STREAM, 0, 1, &2_u32.to_be_bytes());
    // :status 200 is index 8 of the static table.
    let head = frame(kind::HEADERS, flag::END_HEADERS, 1, &[0x88]);
    let (gate, _server) = before(
        "kubernetes.io/h2c",
        vec![[http2_greeting(), vec![Step::Write(reset.clone()), Step::Hold]].concat()],
    );
    assert_eq!(gate.get("web.example", "/").status, 502);

    let half = [head, frame(kind::DATA, 0, 1, b"half"), reset].concat();
    let (gate, _server) = before(
        "kubernetes.io/h2c",
        vec![[http2_greeting(), vec![Step::Write(half), Step::Hold]].concat()],
    );
    assert!(gate.connect().get("web.example", "/").is_err());
}

#[test]
fn a_connection_that_says_goaway_is_replaced() {
    let head = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[0x88]);
    let goaway = frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
    let script = [http2_greeting(), vec![Step::Write([head, goaway].concat()), Step::Hold]].concat();
    let (gate, server) = before("kubernetes.io/h2c", vec![script]);
    for _ in 0..5 {
        assert_eq!(gate.get("web.example", "/").status, 200);
    }
    assert_eq!(server.connections(), 5);
}

#[test]
fn a_switch_of_protocols_that_nobody_asked_for_is_502() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (gate, _server) = before("", vec![vec![Step::ReadHead, Step::write(switch), Step::Hold]]);
    let response = gate.get("web.example", "/");
    assert_eq!(response.status, 502, "{}", response.head);
}

#[test]
fn a_body_where_none_may_be_is_not_the_next_response() {
    for (method, first) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        ),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"),
    ] {
        let (gate, _server) = before(
            "",
            vec![
                vec![Step::ReadHead, Step::write(first), Step::Hold],
                vec![Step::ReadHead, Step::write(OK), Step::Hold],
            ],
        );
        let mut client = gate.connect();
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: web.example\r\n\r\n").as_bytes())
            .unwrap();
        let head = client.head().unwrap();
        let response = client.get("web.example", "/").unwrap();
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "ok"),
            "{method} behind {head}"
        );
    }
}

#[test]
fn folded_fields_of_a_response_never_reach_the_client_folded() {
    let folded = "HTTP/1.1 200 OK\r\nX-Fold: a\r\n b\r\nContent-Length: 2\r\n\r\nok";
    let (gate, _server) = before("", vec![vec![Step::ReadHead, Step::write(folded), Step::Hold]]);
    let response = gate.get("web.example", "/");
    assert!(
        response.status == 502 || response.header("x-fold") == Some("a b"),
        "{}",
        response.head
    );
}

#[test]
fn continue_that_nobody_asked_for_is_absorbed() {
    let twice = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n{OK}");
    let (gate, _server) = before("", vec![vec![Step::ReadHead, Step::write(&twice), Step::Hold]]);
    let mut client = gate.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
}

#[test]
fn endless_interim_responses_have_the_time_of_a_response() {
    let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(20_000);
    let (gate, _server) = before("", vec![vec![Step::ReadHead, Step::write(&endless), Step::Hold]]);
    let response = gate.get("web.example", "/");
    assert!(matches!(response.status, 502 | 504), "{}", response.head);
}

#[test]
fn an_answer_before_the_whole_request_is_passed_on_at_once() {
    let early = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    let (gate, _server) = before("", vec![vec![Step::ReadHead, Step::write(early), Step::Hold]]);
    let mut client = gate.connect();
    client
        .send(b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 1000000\r\n\r\nbegin")
        .unwrap();
    let response = client.response().unwrap();
    assert_eq!((response.status, response.text().as_str()), (401, "no"));
}

#[test]
fn a_backend_that_comes_back_is_used_again() {
    let address = propylon_e2e::ports::free();
    let yaml = ingress("web").prefix("web.example", "/", "web", 80).yaml() + &backend_with("web", "", &[address]);
    let gate = Gate::start(&yaml);
    assert_eq!(gate.get("web.example", "/").status, 502);
    let options = propylon_testkit::echo::EchoOptions {
        address,
        ..propylon_testkit::echo::EchoOptions::named("back")
    };
    let _server = propylon_testkit::echo::EchoServer::start(options).unwrap();
    let back = gate.until_status("web.example", "/", 200);
    assert!(back < Duration::from_secs(5), "{back:?}");
}

#[test]
fn many_requests_share_one_http2_connection() {
    let echo = echo("web");
    let yaml = ingress("web").prefix("web.example", "/", "web", 80).yaml()
        + &backend_with("web", "kubernetes.io/h2c", &[echo.address]);
    let gate = Gate::start_with(&yaml, &["--workers", "1"]);
    assert_eq!(Report::of(&gate.get("web.example", "/")).text("protocol"), "HTTP/2.0");
    let mut clients: Vec<_> = (0..50).map(|_| gate.connect()).collect();
    for client in &mut clients {
        client
            .send(b"GET /delay/200 HTTP/1.1\r\nHost: web.example\r\n\r\n")
            .unwrap();
    }
    for client in &mut clients {
        assert_eq!(client.response().unwrap().status, 200);
    }
    assert!(echo.connections() <= 2, "{} connections", echo.connections());
}
