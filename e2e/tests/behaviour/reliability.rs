//! The 24 points of a proxy built on hyper, each with a test of its number and name. Points 3, 5, 14, 16 and 22 are as
//! Propylon decided them.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use propylon_e2e::{
    Gate, Http2,
    frames::{self, FrameClient, flag, frame, kind},
    manifests::{echo, ingress, site},
    report::Report,
    websocket,
};
use propylon_testkit::{
    certs::Authority,
    echo::EchoServer,
    manifest,
    raw::{ScriptedServer, Step, scripted_server},
};

fn web() -> (Gate, EchoServer) {
    let echo = echo("web");
    (Gate::start(&site("web.example", "web", &[echo.address])), echo)
}

/// A proxy before a backend that answers one request with these bytes.
fn behind(response: &str) -> (Gate, ScriptedServer) {
    let server = scripted_server(vec![vec![Step::ReadHead, Step::write(response), Step::Hold]]).unwrap();
    (Gate::start(&site("web.example", "web", &[server.address])), server)
}

#[test]
fn a5_01_host_is_parsed_strictly() {
    let (gate, echo) = web();
    for host in [
        "web.example:80x",
        "web.example:",
        "web.example:99999",
        "web.example:-1",
        "user@web.example",
        "web.example/",
        "<web>",
        "web example",
        "web.example?x",
        "web.example#x",
        "web..example",
        "[::1",
        "web.example]",
        "web.example, other.example",
        "",
        "web%2eexample",
        "web\u{7f}",
    ] {
        // The grammar allows an empty port, which equals none, and an empty host, for which there is no rule.
        let status = gate.get(host, "/").status;
        match host {
            "web.example:" => assert!(matches!(status, 200 | 400), "{host:?}: {status}"),
            "" => assert!(matches!(status, 400 | 404), "{host:?}: {status}"),
            _ => assert_eq!(status, 400, "{host:?}"),
        }
    }
    let twice = gate.send("GET / HTTP/1.1\r\nHost: web.example\r\nHost: web.example\r\n\r\n");
    assert_eq!(twice.status, 400);
    assert!(echo.requests() <= 1, "only the empty port may reach the backend");
    for host in ["WEB.example", "web.example:80", "web.example.", "Web.Example.:8080"] {
        assert_eq!(gate.get(host, "/").status, 200, "{host}");
    }
}

#[test]
fn a5_02_request_targets_have_the_form_of_their_method() {
    let (gate, _echo) = web();
    let status = |line: &str| {
        gate.send(&format!("{line} HTTP/1.1\r\nHost: web.example\r\n\r\n"))
            .status
    };
    assert_eq!(status("GET http://web.example/x"), 200);
    for line in [
        "GET ftp://web.example/x",
        "GET https://web.example/x",
        "GET web.example:80",
        "GET *",
        "GET web.example/x",
        "OPTIONS web.example:80",
    ] {
        assert_eq!(status(line), 400, "{line}");
    }
    // The authority of an absolute target stands before Host (RFC 9112 3.2.2), which the backend then gets.
    let both = gate.send("GET http://web.example/x HTTP/1.1\r\nHost: other.example\r\n\r\n");
    assert!(
        both.status == 400 || Report::of(&both).text("host") == "web.example",
        "{}",
        both.head
    );
    let options = gate.send("OPTIONS * HTTP/1.1\r\nHost: web.example\r\n\r\n");
    assert!(matches!(options.status, 200 | 204 | 404), "{}", options.head);
}

#[test]
fn a5_03_paths_have_one_reading_or_none() {
    let (gate, _echo) = web();
    for path in ["/a\\b", "/a%00", "/%zz", "/a%2f../b", "/a/..;/b", "/a//../b"] {
        assert_eq!(gate.get("web.example", path).status, 400, "{path}");
    }
    let report = Report::of(&gate.get("web.example", "/a/./b/../%63?q=../x"));
    assert_eq!(report.text("target"), "/a/%63?q=../x");
}

#[test]
fn a5_04_hop_by_hop_fields_end_here_in_both_directions() {
    let (gate, _echo) = web();
    let report = Report::of(&gate.send(
        "GET / HTTP/1.1\r\nHost: web.example\r\nConnection: X-Named, keep-alive, X-Forwarded-For, Cookie, Host\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: \r\nProxy-Authorization: Basic eDp5\r\nCookie: a=b\r\nX-Kept: 1\r\n\r\n",
    ));
    for name in ["x-named", "keep-alive", "proxy-connection", "te", "upgrade"] {
        assert_eq!(report.headers(name), [""; 0], "{name}");
    }
    assert_eq!(report.headers("x-kept"), ["1"]);
    assert_eq!(report.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(report.text("host"), "web.example");

    let (gate, _server) = behind(
        "HTTP/1.1 200 OK\r\nConnection: X-Named, close\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\n\
         Upgrade: h2c\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    let response = gate.get("web.example", "/");
    for name in ["x-named", "keep-alive", "proxy-connection", "upgrade", "connection"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.header("x-kept"), Some("1"));
    // The same over HTTP/2, where such a field would be malformed.
    let response = Http2::plain(gate.http).get("web.example", "/").unwrap();
    assert_eq!(response.status, 200);
    assert!(
        !response.headers.contains_key("x-named") && !response.headers.contains_key("keep-alive"),
        "{response:?}"
    );
}

#[test]
fn a5_05_length_beside_coding_is_one_message_and_the_last() {
    let (gate, echo) = web();
    let mut client = gate.connect();
    client
        .send(
            b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
              GET /smuggled HTTP/1.1\r\nHost: web.example\r\n\r\n",
        )
        .unwrap();
    assert_eq!(Report::of(&client.response().unwrap()).number("body_bytes"), 0);
    assert_eq!(client.rest().unwrap_or_default(), b"");
    assert_eq!(echo.requests(), 1);
}

#[test]
fn a5_06_only_the_coding_chunked_is_taken() {
    let (gate, echo) = web();
    for coding in [
        "chunked, chunked",
        "gzip, chunked",
        "identity",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        "x",
    ] {
        let mut client = gate.connect();
        let request = format!("POST / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        client.send(request.as_bytes()).unwrap();
        let answer = client.rest().unwrap_or_default();
        let text = String::from_utf8_lossy(&answer);
        assert!(
            text.is_empty() || text.starts_with("HTTP/1.1 400") || text.starts_with("HTTP/1.1 501"),
            "{coding}: {text}"
        );
    }
    assert_eq!(echo.requests(), 0);
    assert_eq!(
        gate.send("POST / HTTP/1.1\r\nHost: web.example\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n")
            .status,
        200
    );
}

#[test]
fn a5_07_names_with_underscores_are_dropped() {
    let (gate, _echo) = web();
    let report = Report::of(&gate.send(
        "POST / HTTP/1.1\r\nHost: web.example\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\nX_Real_IP: 1.2.3.4\r\nA_b: 1\r\n\
         A-b: 2\r\nContent-Length: 0\r\n\r\n",
    ));
    for name in ["content_length", "transfer_encoding", "x_real_ip", "a_b"] {
        assert_eq!(report.headers(name), [""; 0], "{name}");
    }
    assert_eq!(report.headers("a-b"), ["2"]);
}

#[test]
fn a5_08_a_response_with_length_and_coding_is_answered() {
    let (gate, _server) =
        behind("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let response = gate.get("web.example", "/");
    if response.status == 200 {
        assert_eq!(response.text(), "ok");
        assert_eq!(
            response.headers("content-length").len() + response.headers("transfer-encoding").len(),
            1,
            "{}",
            response.head
        );
    } else {
        assert_eq!(response.status, 502);
    }
}

#[test]
fn a5_09_responses_are_of_our_version() {
    let (gate, _server) = behind("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let response = gate.get("web.example", "/");
    assert!(response.head.starts_with("HTTP/1.1 200 "), "{}", response.head);
    assert_eq!(response.text(), "ok");
}

#[test]
fn a5_10_an_unknown_coding_of_a_response_is_502() {
    for coding in ["xchunked", "xchunked, chunked", "gzip, chunked", "chunked, chunked"] {
        let (gate, _server) = behind(&format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
        ));
        assert_eq!(gate.get("web.example", "/").status, 502, "{coding}");
    }
}

#[test]
fn a5_11_stale_connections_cost_no_request() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let close_late = vec![Step::ReadHead, Step::write(ok), Step::Pause(Duration::from_millis(5))];
    let server = scripted_server(vec![close_late]).unwrap();
    let gate = Gate::start(&site("web.example", "web", &[server.address]));
    let mut client = gate.connect();
    for number in 0..300 {
        assert_eq!(client.get("web.example", "/").unwrap().status, 200, "request {number}");
    }
}

#[test]
fn a5_12_stalled_bodies_and_writes_have_deadlines() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    let stalls = scripted_server(vec![vec![Step::ReadHead, Step::write(head), Step::Hold]]).unwrap();
    let echo = echo("web");
    let yaml = ingress("stalls")
        .prefix("stalls.example", "/", "stalls", 80)
        .annotation("propylon.dev/response-idle-timeout", "200ms")
        .yaml()
        + &propylon_e2e::manifests::backend("stalls", &[stalls.address])
        + &site("web.example", "web", &[echo.address]);
    let gate = Gate::start_with(
        &yaml,
        &["--request-body-idle-timeout", "200ms", "--write-stall-timeout", "200ms"],
    );
    assert!(
        gate.connect().get("stalls.example", "/").is_err(),
        "a stalled response looked complete"
    );
    let mut upload = gate.connect();
    upload
        .send(b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 9\r\n\r\nhalf")
        .unwrap();
    upload.rest().unwrap_or_default();
    let mut reader = gate.connect();
    reader
        .send(b"GET /bytes/1000000000 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    gate.until("it is under way", || echo.requests() == 2);
    gate.until("all are let go", || echo.open_connections() == 0);
}

#[test]
fn a5_13_a_half_closed_client_is_answered_or_closed() {
    let (gate, _echo) = web();
    let mut client = gate.connect();
    client
        .send(b"GET /delay/100 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    client.finish().unwrap();
    let answer = client.rest().unwrap_or_default();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn a5_14_interim_responses_are_absorbed() {
    let (gate, _server) = behind(
        "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let mut client = gate.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    let head = client.head().unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200") && !head.contains("style.css"),
        "{head}"
    );
}

#[test]
fn a5_15_cookie_crumbs_become_one_field() {
    let (gate, _echo) = web();
    let mut client = Http2::plain(gate.http);
    let mut request = client.request_to("GET", "web.example", "/");
    for crumb in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
    }
    let response = client.exchange(request, None, None).unwrap();
    assert_eq!(Report::parse(&response.body).headers("cookie"), ["a=1; b=2; c=3"]);
}

#[test]
fn a5_16_pseudo_fields_in_trailers_are_never_forwarded() {
    let (gate, echo) = web();
    let mut client = FrameClient::connect(gate.http).unwrap();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "web.example"),
        (":path", "/echo"),
        ("te", "trailers"),
    ];
    client.request(1, &fields, 0).unwrap();
    client.send(&frame(kind::DATA, 0, 1, b"hello")).unwrap();
    client
        .request(1, &[(":path", "/evil"), ("x-trailer", "1")], flag::END_STREAM)
        .unwrap();
    let mut other = Http2::plain(gate.http);
    let report = Report::parse(&other.get("web.example", "/").unwrap().body);
    assert_eq!(report.name(), "web");
    let last = client.read_until(|frame| {
        let ends_stream = frame.flags & flag::END_STREAM != 0 || frame.kind == kind::RST_STREAM;
        frame.stream == 1 && ends_stream || frame.kind == kind::GOAWAY
    });
    let last = last.unwrap();
    assert!(!String::from_utf8_lossy(&last.payload).contains("evil"), "{last:?}");
    // Blanks around a value and a second host are malformed (RFC 9113 8.2.1, 8.3.1).
    let before = echo.requests();
    for extra in [("x-blank", " a"), ("x-blank", "a "), ("host", "other.example")] {
        let mut client = FrameClient::connect(gate.http).unwrap();
        let fields = [&frames::get("web.example", "/")[..], &[extra]].concat();
        client.request(1, &fields, flag::END_STREAM).unwrap();
        let answer = client
            .read_until(|frame| matches!(frame.kind, kind::HEADERS | kind::RST_STREAM | kind::GOAWAY))
            .unwrap();
        assert_ne!(answer.payload.first(), Some(&0x88), "{extra:?} was answered with 200");
    }
    assert_eq!(echo.requests(), before);
}

#[test]
fn a5_17_connect_is_501() {
    let (gate, echo) = web();
    let response = gate.send("CONNECT web.example:443 HTTP/1.1\r\nHost: web.example:443\r\n\r\n");
    assert_eq!(response.status, 501);
    let mut client = FrameClient::connect(gate.http).unwrap();
    client
        .request(
            1,
            &[(":method", "CONNECT"), (":authority", "web.example:443")],
            flag::END_STREAM,
        )
        .unwrap();
    let answer = client
        .read_until(|frame| matches!(frame.kind, kind::HEADERS | kind::RST_STREAM))
        .unwrap();
    assert_ne!(answer.payload.first(), Some(&0x88));
    assert_eq!(echo.requests(), 0);
}

#[test]
fn a5_18_trace_is_405_and_max_forwards_is_obeyed() {
    let (gate, echo) = web();
    let trace = gate.send("TRACE / HTTP/1.1\r\nHost: web.example\r\nCookie: a=b\r\n\r\n");
    assert_eq!(trace.status, 405);
    assert!(trace.header("allow").is_some(), "{}", trace.head);
    assert!(!trace.text().contains("a=b"));
    let options = |count: &str| {
        gate.send(&format!(
            "OPTIONS /x HTTP/1.1\r\nHost: web.example\r\nMax-Forwards: {count}\r\n\r\n"
        ))
    };
    let last = options("0");
    assert!(matches!(last.status, 200 | 204), "{}", last.head);
    assert_eq!(echo.requests(), 0);
    assert_eq!(Report::of(&options("5")).headers("max-forwards"), ["4"]);
}

#[test]
fn a5_19_heads_are_bounded_on_both_sides() {
    let (gate, echo) = web();
    let long = "x".repeat(128 * 1024);
    let mut client = gate.connect();
    client
        .send(format!("GET / HTTP/1.1\r\nHost: web.example\r\nX-Long: {long}\r\n\r\n").as_bytes())
        .unwrap_or_default();
    if let Ok(response) = client.response() {
        assert_eq!(response.status, 431);
    }
    assert_eq!(echo.requests(), 0);
    let (gate, _server) = behind(&format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 2\r\n\r\nok",
        "x".repeat(300_000)
    ));
    assert_eq!(gate.get("web.example", "/").status, 502);
}

#[test]
fn a5_20_forwarded_fields_are_ours() {
    let (gate, _echo) = web();
    let report = Report::of(&gate.send(
        "GET / HTTP/1.1\r\nHost: web.example\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\n\
         X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Proto: gopher\r\nX-Request-ID: mine\r\n\r\n",
    ));
    assert_eq!(report.headers("x-real-ip"), ["127.0.0.1"]);
    assert_eq!(report.headers("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(report.headers("x-forwarded-proto"), ["http"]);
    for name in ["forwarded", "x-forwarded-prefix"] {
        assert_eq!(report.headers(name), [""; 0], "{name}");
    }
    assert!(report.header("x-request-id").is_some_and(|id| id != "mine"));
    assert_eq!(report.headers("via"), [""; 0]);
}

#[test]
fn a5_21_a_name_of_another_certificate_is_421() {
    let (authority, echo) = (Authority::new("authority"), echo("web"));
    let secure = |name: &str| {
        let host = format!("{name}.example");
        ingress(name)
            .prefix(&host, "/", "web", 80)
            .tls(&[&host], Some(name))
            .yaml()
            + &manifest::tls_secret("default", name, &authority.leaf(&[&host]))
    };
    let yaml = secure("a") + &secure("b") + &propylon_e2e::manifests::backend("web", &[echo.address]);
    let gate = Gate::start(&yaml);
    let mut client = gate.connect_tls(Some("a.example"), &["http/1.1"]);
    assert_eq!(client.get("a.example", "/").unwrap().status, 200);
    assert_eq!(client.get("b.example", "/").unwrap().status, 421);
    let mut client = Http2::tls(gate.https, "a.example");
    assert_eq!(client.get("A.example", "/").unwrap().status, 200);
    assert_eq!(client.get("b.example", "/").unwrap().status, 421);
    assert_eq!(echo.requests(), 2);
}

#[test]
fn a5_22_the_protocol_is_by_alpn_on_tls_and_by_preface_on_plain() {
    let (gate, _echo) = web();
    // HTTP/2 on a connection whose ALPN said HTTP/1.1, and the reverse.
    let mut client = gate.connect_tls(Some("web.example"), &["http/1.1"]);
    client
        .send(&[frames::PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat())
        .unwrap();
    let answer = client.rest().unwrap_or_default();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 505"),
        "{answer:?}"
    );
    let mut client = gate.connect_tls(Some("web.example"), &["h2"]);
    client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n").unwrap();
    let answer = client.rest().unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    assert_eq!(Http2::plain(gate.http).get("web.example", "/").unwrap().status, 200);
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn a5_23_extended_connect_is_offered_and_translated() {
    let (gate, _echo) = web();
    let mut client = Http2::tls(gate.https, "web.example");
    assert!(client.offers_extended_connect());
    let mut request = client.request_to("CONNECT", "web.example", "/");
    request
        .extensions_mut()
        .insert(h2::ext::Protocol::from_static("websocket"));
    let mut stream = client.open(request, false).unwrap();
    assert_eq!(stream.head().unwrap().status(), 200);
    stream.send(websocket::client_text("hello"), false).unwrap();
    assert_eq!(&stream.at_least(7).unwrap()[..], websocket::server_text("hello"));
}

#[test]
fn a5_24_what_is_right_stays_right() {
    let (gate, echo) = web();
    // HEAD, 204 and 304 have no body; the connection stays in step.
    let mut client = gate.connect();
    client
        .send(b"HEAD /bytes/5 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    for status in [204, 304] {
        assert_eq!(
            client.get("web.example", &format!("/status/{status}")).unwrap().status,
            status
        );
    }
    // A response that breaks off does so visibly.
    assert!(gate.connect().get("web.example", "/truncate/1000").is_err());
    assert!(Http2::plain(gate.http).get("web.example", "/truncate/1000").is_err());
    // Expect is answered, and the body arrives.
    let mut client = Http2::plain(gate.http);
    let request = client.request_to("POST", "web.example", "/echo");
    assert_eq!(
        client
            .exchange(request, Some(Bytes::from_static(b"hello")), None)
            .unwrap()
            .body,
        "hello"
    );
    // Control characters and folded fields are refused.
    let before = echo.requests();
    for field in ["X-Nul: a\0b", "X-Fold: a\r\n b", "X-Del: a\x7fb"] {
        assert_eq!(
            gate.send(&format!("GET / HTTP/1.1\r\nHost: web.example\r\n{field}\r\n\r\n"))
                .status,
            400,
            "{field:?}"
        );
    }
    assert_eq!(echo.requests(), before);
}
