//! Golden request heads, and the field filter as a table.

use super::*;
use crate::upstream::serialize_head;

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

fn written(head: &RequestHead<'_>) -> String {
    let mut out = Vec::new();
    serialize_head(head, &mut out);
    String::from_utf8(out).expect("text")
}

fn lines_of<'a>(headers: &'a HeaderMap, change: impl FnOnce(&mut RequestHead<'a>)) -> Vec<String> {
    static GET: Method = Method::GET;
    let mut head = head(&GET, headers);
    change(&mut head);
    let text = written(&head);
    assert!(text.ends_with("\r\n\r\n"), "{text:?}");
    text.trim_end().split("\r\n").skip(2).map(str::to_owned).collect()
}

#[test]
fn plain_get_is_request_line_host_and_fields() {
    let headers = fields(&[("accept", "*/*"), ("user-agent", "curl/8"), ("host", "other")]);
    assert_eq!(
        written(&head(&Method::GET, &headers)),
        "GET /path?query HTTP/1.1\r\nhost: example.com\r\naccept: */*\r\nuser-agent: curl/8\r\n\r\n"
    );
}

#[test]
fn missing_host_becomes_an_empty_one() {
    let headers = HeaderMap::new();
    let mut head = head(&Method::OPTIONS, &headers);
    (head.target, head.authority) = ("*", b"");
    assert_eq!(written(&head), "OPTIONS * HTTP/1.1\r\nhost: \r\n\r\n");
}

#[test]
fn framing_fields_are_ours_alone() {
    let client = fields(&[
        ("content-length", "7"),
        ("content-length", "8"),
        ("transfer-encoding", "gzip, chunked"),
    ]);
    for (body, expected) in [
        (BodyLength::None, vec![]),
        (BodyLength::Exact(0), vec!["content-length: 0"]),
        (BodyLength::Exact(42), vec!["content-length: 42"]),
        (BodyLength::Unknown, vec!["transfer-encoding: chunked"]),
    ] {
        assert_eq!(lines_of(&client, |head| head.body = body), expected, "{body:?}");
    }
}

#[test]
fn post_without_a_body_says_so() {
    let headers = HeaderMap::new();
    assert!(written(&head(&Method::POST, &headers)).contains("\r\ncontent-length: 0\r\n"));
    assert!(!written(&head(&Method::DELETE, &headers)).contains("content-length"));
}

#[test]
fn hop_by_hop_fields_are_dropped() {
    let client = fields(&[
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABk"),
        ("expect", "100-continue"),
        ("trailer", "x-sum"),
        ("proxy-authorization", "Basic eA=="),
        ("accept", "*/*"),
    ]);
    assert_eq!(
        lines_of(&client, |_| {}),
        ["proxy-authorization: Basic eA==", "accept: */*"]
    );
}

#[test]
fn trailer_passes_where_trailers_can_flow() {
    let client = fields(&[("trailer", "x-sum")]);
    let lines = lines_of(&client, |head| head.body = BodyLength::Unknown);
    assert_eq!(lines, ["trailer: x-sum", "transfer-encoding: chunked"]);
}

#[test]
fn nominated_fields_are_dropped() {
    let client = fields(&[
        ("connection", "close, X-Secret ,,x-other"),
        ("connection", "x-third"),
        ("x-secret", "1"),
        ("x-other", "2"),
        ("x-third", "3"),
        ("x-kept", "4"),
    ]);
    assert_eq!(lines_of(&client, |_| {}), ["x-kept: 4"]);
}

#[test]
fn hp_07_to_11_protected_fields_cannot_be_nominated_away() {
    let client = fields(&[
        (
            "connection",
            "content-length, host, authorization, cookie, x-forwarded-for, x-request-id",
        ),
        ("authorization", "Bearer t"),
        ("cookie", "a=1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-prefix", "/app"),
    ]);
    let ours: [(&HeaderName, &[u8]); 1] = [(&REQUEST_ID, b"id")];
    let lines = lines_of(&client, |head| {
        head.peer = PeerTrust::Trusted;
        head.body = BodyLength::Exact(3);
        head.extra = &ours;
    });
    assert_eq!(
        lines,
        [
            "authorization: Bearer t",
            "cookie: a=1",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-prefix: /app",
            "x-request-id: id",
            "content-length: 3"
        ]
    );
}

#[test]
fn forwarding_fields_depend_on_trust() {
    let names = [
        "forwarded",
        "x-forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-proto",
        "x-forwarded-server",
        "x-original-url",
        "x-real-ip",
        "x-request-id",
        "x-rewrite-url",
        "content_length",
        "x_forwarded_for",
    ];
    for name in names {
        let client = fields(&[(name, "v")]);
        assert!(lines_of(&client, |_| {}).is_empty(), "{name} from a client");
        let trusted = lines_of(&client, |head| head.peer = PeerTrust::Trusted);
        assert_eq!(trusted, [format!("{name}: v")], "{name} from a trusted proxy");
    }
}

#[test]
fn extra_fields_replace_the_clients() {
    let client = fields(&[
        ("via", "1.0 a"),
        ("x-forwarded-for", "192.0.2.1"),
        ("via", "1.1 b"),
        ("vib", "c"),
    ]);
    let ours: [(&HeaderName, &[u8]); 2] = [
        (&http::header::VIA, b"1.1 propylon"),
        (&FORWARDED_FOR, b"192.0.2.1, 192.0.2.2"),
    ];
    let lines = lines_of(&client, |head| {
        head.peer = PeerTrust::Trusted;
        head.extra = &ours;
    });
    assert_eq!(
        lines,
        ["vib: c", "via: 1.1 propylon", "x-forwarded-for: 192.0.2.1, 192.0.2.2"]
    );
}

#[test]
fn h2_50_cookie_crumbs_are_joined() {
    let client = fields(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]);
    assert_eq!(lines_of(&client, |_| {}), ["cookie: a=1; b=2; c=3", "x: y"]);
}

#[test]
fn connection_options_are_ours() {
    let websocket = HeaderValue::from_static("websocket");
    let client = HeaderMap::new();
    assert_eq!(
        lines_of(&client, |head| head.te_trailers = true),
        ["connection: te", "te: trailers"]
    );
    let lines = lines_of(&client, |head| head.upgrade = Some(&websocket));
    assert_eq!(lines, ["connection: upgrade", "upgrade: websocket"]);
    let lines = lines_of(&client, |head| {
        (head.upgrade, head.te_trailers) = (Some(&websocket), true);
    });
    assert_eq!(lines, ["connection: upgrade, te", "upgrade: websocket", "te: trailers"]);
}

#[test]
fn websocket_key_replaces_the_clients() {
    let client = fields(&[("sec-websocket-key", "old"), ("sec-websocket-version", "13")]);
    assert_eq!(
        lines_of(&client, |_| {}),
        ["sec-websocket-key: old", "sec-websocket-version: 13"]
    );
    let lines = lines_of(&client, |head| head.websocket_key = Some("new"));
    assert_eq!(lines, ["sec-websocket-version: 13", "sec-websocket-key: new"]);
}

#[test]
fn expect_is_written_only_with_a_body() {
    let client = HeaderMap::new();
    assert!(lines_of(&client, |head| head.expect_continue = true).is_empty());
    let lines = lines_of(&client, |head| {
        (head.expect_continue, head.body) = (true, BodyLength::Exact(1));
    });
    assert_eq!(lines, ["content-length: 1", "expect: 100-continue"]);
}

#[test]
fn obs_text_in_values_passes_unchanged() {
    let mut client = HeaderMap::new();
    client.insert("x-name", HeaderValue::from_bytes(b"caf\xe9").expect("obs-text"));
    let mut out = Vec::new();
    serialize_head(&head(&Method::GET, &client), &mut out);
    assert!(out.windows(6).any(|window| window == b": caf\xe9"));
}
