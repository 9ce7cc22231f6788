//! Limits and deadlines towards clients.

use std::time::Duration;

use propylon_e2e::{
    Gate,
    frames::{self, FrameClient, flag, frame, kind},
    manifests::{echo, site},
};
use propylon_testkit::{echo::EchoServer, raw::RawClient, wait::PATIENCE};

/// HTTP/2 error code `ENHANCE_YOUR_CALM`.
const ENHANCE_YOUR_CALM: u32 = 0xb;

fn web(flags: &[&str]) -> (Gate, EchoServer) {
    let echo = echo("web");
    (
        Gate::start_with(&site("web.example", "web", &[echo.address]), flags),
        echo,
    )
}

fn head_with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: web.example\r\n{fields}\r\n")
}

#[test]
fn heads_are_limited_in_bytes_in_fields_and_in_the_target() {
    let (gate, echo) = web(&[]);
    let long = |count: usize| head_with(&format!("X-Long: {}\r\n", "x".repeat(count)));
    let many = |count: usize| {
        head_with(
            &(0..count)
                .map(|number| format!("X-{number}: 1\r\n"))
                .collect::<Vec<_>>()
                .concat(),
        )
    };
    let target = |count: usize| format!("GET /{} HTTP/1.1\r\nHost: web.example\r\n\r\n", "x".repeat(count));
    assert_eq!(gate.send(&long(30_000)).status, 200);
    // Not 99: the backend has the same limit, and gets fields of ours too.
    assert_eq!(gate.send(&many(90)).status, 200);
    assert_eq!(gate.send(&target(16_000)).status, 200);
    let before = echo.requests();
    assert_eq!(gate.send(&long(40_000)).status, 431);
    assert_eq!(gate.send(&many(150)).status, 431);
    assert_eq!(gate.send(&target(17_000)).status, 414);
    assert_eq!(echo.requests(), before);
}

#[test]
fn http2_heads_have_the_same_limits() {
    let (gate, echo) = web(&[]);
    let large: Vec<(String, String)> = (0..10)
        .map(|number| (format!("x-{number}"), "x".repeat(4_000)))
        .collect();
    let many: Vec<(String, String)> = (0..150).map(|number| (format!("x-{number}"), "1".to_owned())).collect();
    for fields in [&large, &many] {
        let mut client = FrameClient::connect(gate.http).unwrap();
        let mut head = frames::get("web.example", "/");
        head.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let block = frames::block(&head);
        let pieces: Vec<&[u8]> = block.chunks(16_000).collect();
        for (number, piece) in pieces.iter().enumerate() {
            let kind = if number == 0 { kind::HEADERS } else { kind::CONTINUATION };
            let first = if number == 0 { flag::END_STREAM } else { 0 };
            let last = if number + 1 == pieces.len() {
                flag::END_HEADERS
            } else {
                0
            };
            client.send(&frame(kind, first | last, 1, piece)).unwrap();
        }
        // 431 on the stream, or the stream or the connection is ended; never the backend's answer.
        let frame = client
            .read_until(|frame| matches!(frame.kind, kind::HEADERS | kind::RST_STREAM | kind::GOAWAY))
            .unwrap();
        assert!(frame.payload.first() != Some(&0x88), "status 200");
    }
    assert_eq!(echo.requests(), 0);
}

#[test]
fn flags_move_the_limits() {
    let (gate, _echo) = web(&[
        "--max-header-bytes",
        "16384",
        "--max-headers",
        "10",
        "--max-uri-bytes",
        "256",
    ]);
    assert_eq!(
        gate.send(&head_with(&format!("X-Long: {}\r\n", "x".repeat(17_000))))
            .status,
        431
    );
    assert_eq!(gate.send(&head_with(&"X-Many: 1\r\n".repeat(12))).status, 431);
    assert_eq!(gate.get("web.example", &format!("/{}", "x".repeat(300))).status, 414);
    assert_eq!(gate.get("web.example", "/short").status, 200);
}

#[test]
fn a_head_that_does_not_come_has_a_deadline() {
    let (gate, _echo) = web(&["--header-timeout", "300ms"]);
    for bytes in [&b"GET / HTTP/1.1\r\nHost: web"[..], b""] {
        let mut client = gate.connect();
        client.send(bytes).unwrap();
        let answer = client.rest().unwrap();
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    let mut tls = RawClient::connect(gate.https).unwrap();
    tls.send(b"\x16\x03\x01").unwrap();
    assert!(
        tls.closes_within(PATIENCE).unwrap(),
        "a ClientHello that does not come has no deadline"
    );
}

/// One byte at a time is no way around the deadline of the whole head.
#[test]
fn a_head_that_trickles_has_the_same_deadline() {
    let (gate, _echo) = web(&["--header-timeout", "500ms"]);
    let mut client = gate.connect();
    client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\nX-Slow: ").unwrap();
    let ended = gate.until("the connection is closed", || {
        client.send(b"x").is_err() || client.closes_within(Duration::from_millis(50)).unwrap_or(true)
    });
    assert!(ended < Duration::from_secs(5), "{ended:?}");
}

#[test]
fn a_body_that_stalls_has_a_deadline() {
    let (gate, echo) = web(&["--request-body-idle-timeout", "300ms"]);
    let mut client = gate.connect();
    client
        .send(b"POST / HTTP/1.1\r\nHost: web.example\r\nContent-Length: 100\r\n\r\nhalf")
        .unwrap();
    let answer = client.rest().unwrap();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    gate.until("the backend is let go", || echo.open_connections() == 0);
}

#[test]
fn idle_connections_are_closed() {
    let (gate, _echo) = web(&["--idle-timeout", "300ms"]);
    let mut client = gate.connect();
    assert_eq!(client.get("web.example", "/").unwrap().status, 200);
    assert!(client.closes_within(PATIENCE).unwrap());
    let mut client = FrameClient::connect(gate.http).unwrap();
    client
        .request(1, &frames::get("web.example", "/"), flag::END_STREAM)
        .unwrap();
    let frames = client.rest();
    assert!(frames.iter().any(|frame| frame.kind == kind::GOAWAY), "{frames:?}");
}

#[test]
fn a_slow_response_is_not_idle() {
    let (gate, _echo) = web(&["--idle-timeout", "300ms", "--header-timeout", "300ms"]);
    assert_eq!(gate.get("web.example", "/delay/1500").status, 200);
}

#[test]
fn a_client_that_stops_reading_has_a_deadline() {
    let (gate, echo) = web(&["--write-stall-timeout", "500ms"]);
    let mut client = gate.connect();
    client
        .send(b"GET /bytes/1000000000 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    gate.until("the request is under way", || echo.requests() == 1);
    gate.until("the backend is let go", || echo.open_connections() == 0);

    // A stream whose window is never opened.
    let mut client = FrameClient::connect(gate.http).unwrap();
    client
        .request(1, &frames::get("web.example", "/bytes/1000000000"), flag::END_STREAM)
        .unwrap();
    gate.until("the request is under way", || echo.requests() == 2);
    gate.until("the backend is let go", || echo.open_connections() == 0);
}

#[test]
fn streams_are_limited() {
    let (gate, _echo) = web(&[]);
    let mut client = FrameClient::connect(gate.http).unwrap();
    let settings = client
        .read_until(|frame| frame.kind == kind::SETTINGS && !frame.payload.is_empty())
        .unwrap();
    // SETTINGS_MAX_CONCURRENT_STREAMS is 3, SETTINGS_ENABLE_CONNECT_PROTOCOL is 8.
    let value = |id: u8| {
        settings
            .payload
            .chunks(6)
            .find(|entry| entry.starts_with(&[0, id]))
            .map(|entry| entry[2..].to_vec())
    };
    assert_eq!(value(3), Some(100u32.to_be_bytes().to_vec()));
    assert_eq!(value(8), Some(1u32.to_be_bytes().to_vec()));
    for number in 0..150 {
        client
            .request(
                number * 2 + 1,
                &frames::get("web.example", "/delay/2000"),
                flag::END_STREAM,
            )
            .unwrap();
    }
    let refused = client
        .read_until(|frame| matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY))
        .unwrap();
    assert!(matches!(refused.kind, kind::RST_STREAM | kind::GOAWAY));
}

#[test]
fn a_flood_of_resets_ends_the_connection() {
    let (gate, echo) = web(&[]);
    let mut client = FrameClient::connect(gate.http).unwrap();
    let mut sent = 0;
    for number in 0..5_000_u32 {
        let stream = number * 2 + 1;
        let reset = frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        let request = frame(
            kind::HEADERS,
            flag::END_HEADERS | flag::END_STREAM,
            stream,
            &frames::block(&frames::get("web.example", "/delay/1")),
        );
        if client.send(&[request, reset].concat()).is_err() {
            break;
        }
        sent = number;
    }
    let goaway = client.rest().into_iter().find(|frame| frame.kind == kind::GOAWAY);
    let code = goaway.and_then(|frame| frame.number_at(4));
    assert!(
        code == Some(ENHANCE_YOUR_CALM) || sent < 4_999,
        "all {sent} resets were taken, GOAWAY {code:?}"
    );
    assert!(echo.requests() < 2_000, "{} reached the backend", echo.requests());
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn a_flood_of_settings_pings_or_empty_data_does_not_stop_service() {
    let (gate, _echo) = web(&[]);
    for flood in [
        frame(kind::SETTINGS, 0, 0, &[]).repeat(20_000),
        frame(kind::PING, 0, 0, &[0; 8]).repeat(20_000),
        [
            frame(
                kind::HEADERS,
                flag::END_HEADERS,
                1,
                &frames::block(&[
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":authority", "web.example"),
                    (":path", "/echo"),
                ]),
            ),
            frame(kind::DATA, 0, 1, &[]).repeat(60_000),
        ]
        .concat(),
    ] {
        let mut client = FrameClient::connect(gate.http).unwrap();
        client.send(&flood).unwrap_or_default();
        assert_eq!(gate.get("web.example", "/").status, 200);
    }
}

#[test]
fn a_flood_of_continuations_is_cut_off() {
    let (gate, echo) = web(&[]);
    let mut client = FrameClient::connect(gate.http).unwrap();
    client
        .send(&frame(
            kind::HEADERS,
            flag::END_STREAM,
            1,
            &frames::block(&frames::get("web.example", "/")),
        ))
        .unwrap();
    let mut sent_bytes = 0;
    let piece = frames::block(&[("x-long", &"x".repeat(8_000))]);
    while sent_bytes < 16 * 1024 * 1024 && client.send(&frame(kind::CONTINUATION, 0, 1, &piece)).is_ok() {
        sent_bytes += piece.len();
    }
    assert!(sent_bytes < 16 * 1024 * 1024, "it took 16 MiB of headers");
    assert_eq!(echo.requests(), 0);
}

#[test]
fn connections_are_limited_and_served_again_when_one_closes() {
    let (gate, _echo) = web(&["--max-connections", "4"]);
    let mut clients: Vec<RawClient> = (0..4).map(|_| gate.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("web.example", "/").unwrap().status, 200);
    }
    let more = RawClient::connect(gate.http);
    let is_served = |mut client: RawClient| {
        let sent = client.send(b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n");
        sent.is_ok()
            && !client.closes_within(Duration::from_millis(300)).unwrap_or(true)
            && client.get("web.example", "/").is_ok()
    };
    if let Ok(mut more) = more {
        // It is closed, or waits until one of the others is.
        more.send(b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")
            .unwrap_or_default();
        drop(clients.pop());
        let answer = more.rest().unwrap_or_default();
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    drop(clients);
    gate.until("a new connection is served", || {
        RawClient::connect(gate.http).is_ok_and(is_served)
    });
}

#[test]
fn connections_of_one_client_are_limited_where_asked_for() {
    let (gate, _echo) = web(&["--max-connections-per-client", "2"]);
    let mut clients = [gate.connect(), gate.connect()];
    for client in &mut clients {
        assert_eq!(client.get("web.example", "/").unwrap().status, 200);
    }
    let third = RawClient::connect(gate.http).and_then(|mut client| client.get("web.example", "/"));
    assert!(third.is_err(), "{third:?}");
    drop(clients);
    gate.until("the client is served again", || {
        RawClient::connect(gate.http)
            .and_then(|mut client| client.get("web.example", "/"))
            .is_ok_and(|response| response.status == 200)
    });
}
