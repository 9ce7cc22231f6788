//! Protocols on both sides: HTTP/1.1 and HTTP/2 in, HTTP/1.1, h2c and HTTPS out, gRPC, trailers.

use std::fs;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use propylon_e2e::{
    Gate, Http2,
    manifests::{backend_with, echo, ingress, site},
    programs,
    report::Report,
};
use propylon_testkit::{
    certs::Authority,
    echo::{EchoOptions, EchoServer},
};

/// One host per way of speaking to a backend: `plain.example`, `h2c.example`, `grpc.example`, `https.example`, `wss.example`.
struct Site {
    gate: Gate,
    _servers: Vec<EchoServer>,
}

fn all_backends() -> Site {
    let authority = Authority::new("authority");
    let config = authority.leaf(&["backend.example"]).server_config(&["h2", "http/1.1"]);
    let plain = echo("plain");
    let secure = EchoServer::start(EchoOptions::named("secure").with_tls(config)).unwrap();
    let mut yaml = String::new();
    for (name, protocol, address) in [
        ("plain", "", plain.address),
        ("http", "http", plain.address),
        ("ws", "kubernetes.io/ws", plain.address),
        ("h2c", "kubernetes.io/h2c", plain.address),
        ("grpc", "grpc", plain.address),
        ("https", "https", secure.address),
        ("wss", "kubernetes.io/wss", secure.address),
    ] {
        yaml += &ingress(name).prefix(&format!("{name}.example"), "/", name, 80).yaml();
        yaml += &backend_with(name, protocol, &[address]);
    }
    Site {
        gate: Gate::start(&yaml),
        _servers: vec![plain, secure],
    }
}

#[test]
fn app_protocol_decides_how_a_backend_is_spoken_to() {
    let site = all_backends();
    for (host, protocol, tls) in [
        ("plain.example", "HTTP/1.1", false),
        ("http.example", "HTTP/1.1", false),
        ("ws.example", "HTTP/1.1", false),
        ("h2c.example", "HTTP/2.0", false),
        ("grpc.example", "HTTP/2.0", false),
        ("https.example", "HTTP/2.0", true),
        ("wss.example", "HTTP/1.1", true),
    ] {
        let report = Report::of(&site.gate.get(host, "/"));
        assert_eq!(report.text("protocol"), protocol, "{host}");
        assert_eq!(
            report.0.get("tls").and_then(serde_json::Value::as_bool),
            Some(tls),
            "{host}"
        );
        assert_eq!(report.text("host"), host);
    }
}

#[test]
fn curl_speaks_every_protocol_to_us() {
    let site = all_backends();
    let (http, https) = (site.gate.http, site.gate.https);
    let port = https.port();
    for (arguments, version) in [
        (vec!["--http1.1", "-H", "Host: plain.example"], "1.1"),
        (vec!["--http1.0", "-H", "Host: plain.example"], "1"),
        (vec!["--http2-prior-knowledge", "-H", "Host: plain.example"], "2"),
    ] {
        let url = format!("http://{http}/x");
        let arguments = [
            &arguments[..],
            &[
                "--write-out",
                "%{http_code} %{http_version}",
                "--output",
                "/dev/null",
                &url,
            ],
        ]
        .concat();
        let result = programs::curl(&arguments);
        assert_eq!(
            result.stdout(),
            format!("200 {version}"),
            "{arguments:?} {}",
            result.text()
        );
    }
    let resolve = format!("plain.example:{port}:127.0.0.1");
    let url = format!("https://plain.example:{port}/x");
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let arguments = [
            "--insecure",
            flag,
            "--resolve",
            &resolve,
            "--write-out",
            "%{http_code} %{http_version}",
            "--output",
            "/dev/null",
            &url,
        ];
        let result = programs::curl(&arguments);
        assert_eq!(result.stdout(), format!("200 {version}"), "{flag} {}", result.text());
    }
}

#[test]
fn h2load_finds_no_failed_request() {
    let echo = echo("web");
    // h2load sends its address as the host, which the rules without a host take.
    let gate = Gate::start(&site("", "web", &[echo.address]));
    for (url, flags) in [
        (format!("http://{}/bytes/1024", gate.http), vec!["--h1"]),
        (format!("http://{}/bytes/1024", gate.http), vec![]),
        (format!("https://{}/bytes/1024", gate.https), vec![]),
        (format!("https://{}/bytes/1024", gate.https), vec!["--h1"]),
    ] {
        let common = ["-n", "2000", "-c", "8", "-m", "10"];
        let flags = [&flags[..], &common, &[&url]].concat();
        let text = programs::run("h2load", &flags).text();
        assert!(
            text.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{flags:?}\n{text}"
        );
        assert!(text.contains("status codes: 2000 2xx"), "{flags:?}\n{text}");
    }
}

#[test]
fn head_and_bodyless_statuses_keep_the_connection_in_step() {
    let site = all_backends();
    for host in ["plain.example", "h2c.example", "https.example"] {
        let mut client = site.gate.connect();
        client
            .send(format!("HEAD /bytes/1000 HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
            .unwrap();
        let head = client.head().unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(head.to_lowercase().contains("content-length: 1000"), "{head}");
        for status in [204, 304] {
            assert_eq!(client.get(host, &format!("/status/{status}")).unwrap().status, status);
        }
        assert_eq!(client.get(host, "/bytes/10").unwrap().body.len(), 10);
    }
}

#[test]
fn expect_continue_is_answered_before_the_body() {
    let site = all_backends();
    let mut client = site.gate.connect();
    client
        .send(b"POST / HTTP/1.1\r\nHost: plain.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 100"));
    client.send(b"hello").unwrap();
    assert_eq!(Report::of(&client.response().unwrap()).number("body_bytes"), 5);
    let unknown = site
        .gate
        .send("GET / HTTP/1.1\r\nHost: plain.example\r\nExpect: miracles\r\n\r\n");
    assert!(matches!(unknown.status, 200 | 417), "{}", unknown.head);
}

#[test]
fn http1_trailers_reach_the_backend_and_come_back() {
    let site = all_backends();
    let mut client = site.gate.connect();
    client
        .send(
            b"POST /echo HTTP/1.1\r\nHost: plain.example\r\nTE: trailers\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n\
              5\r\nhello\r\n0\r\nX-Check: sum\r\n\r\n",
        )
        .unwrap();
    let response = client.response().unwrap();
    assert_eq!(response.body, b"hello");
    assert!(
        response.trailers.to_lowercase().contains("x-check: sum"),
        "{response:?}"
    );
    // Without TE: trailers the client did not say that it reads them.
    let silent = site.gate.send("GET /trailers HTTP/1.1\r\nHost: plain.example\r\n\r\n");
    assert_eq!(silent.status, 200);
    assert_eq!(silent.trailers, "");
}

#[test]
fn http2_trailers_pass_both_ways_to_every_backend() {
    let site = all_backends();
    for host in ["h2c.example", "https.example", "plain.example"] {
        let mut client = Http2::plain(site.gate.http);
        let mut request = client.request_to("POST", host, "/echo");
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        request
            .headers_mut()
            .insert("trailer", HeaderValue::from_static("x-check"));
        let trailers = HeaderMap::from_iter([("x-check".parse().unwrap(), HeaderValue::from_static("sum"))]);
        let response = client
            .exchange(request, Some(Bytes::from_static(b"hello")), Some(trailers))
            .unwrap();
        assert_eq!(response.body, "hello", "{host}");
        assert_eq!(
            response.trailers.get("x-check").map(HeaderValue::as_bytes),
            Some(&b"sum"[..]),
            "{host}"
        );
    }
}

#[test]
fn grpc_passes_both_ways_with_its_trailers() {
    let site = all_backends();
    for (host, tls) in [("grpc.example", false), ("h2c.example", true), ("https.example", true)] {
        let mut client = if tls {
            Http2::tls(site.gate.https, host)
        } else {
            Http2::plain(site.gate.http)
        };
        let mut request = client.request_to("POST", host, "/echo.Echo/Stream");
        request
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/grpc"));
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let mut stream = client.open(request, false).unwrap();
        for message in [&b"\0\0\0\0\x05hello"[..], b"\0\0\0\0\x05again"] {
            stream.send(message, false).unwrap();
            if message.ends_with(b"hello") {
                assert_eq!(stream.head().unwrap().status(), 200);
            }
            assert_eq!(&stream.at_least(message.len()).unwrap()[..], message, "{host}");
        }
        stream.send("", true).unwrap();
        assert!(stream.data().unwrap().is_none_or(|data| data.is_empty()));
        let trailers = stream.trailers().unwrap();
        assert_eq!(
            trailers.get("grpc-status").map(HeaderValue::as_bytes),
            Some(&b"0"[..]),
            "{host}"
        );
    }
}

const PROTO: &str = "syntax = \"proto3\";\npackage echo;\nmessage Note { string text = 1; int32 number = 2; }\n\
                     service Echo { rpc Unary(Note) returns (Note); rpc Stream(stream Note) returns (stream Note); }\n";

#[test]
fn grpcurl_calls_through_us() {
    let site = all_backends();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("echo.proto"), PROTO).unwrap();
    let folder = folder.path().display().to_string();
    let grpcurl = programs::tool("grpcurl");
    let messages = r#"{"text": "one", "number": 1} {"text": "two", "number": 2}"#;
    for (security, address) in [("-plaintext", site.gate.http), ("-insecure", site.gate.https)] {
        for (call, message, expected) in [
            ("echo.Echo/Unary", r#"{"text": "hello"}"#, "\"hello\""),
            ("echo.Echo/Stream", messages, "\"two\""),
        ] {
            let address = address.to_string();
            let arguments = [
                security,
                "-authority",
                "grpc.example",
                "-import-path",
                &folder,
                "-proto",
                "echo.proto",
                "-max-time",
                "20",
                "-d",
                message,
                &address,
                call,
            ];
            let result = programs::run(&grpcurl, &arguments);
            assert!(
                result.succeeded() && result.stdout().contains(expected),
                "{arguments:?}\n{}",
                result.text()
            );
        }
    }
}

#[test]
fn grpc_errors_of_ours_are_grpc_errors() {
    let gate = Gate::start(&site("grpc.example", "grpc", &[]));
    let mut client = Http2::plain(gate.http);
    let mut request = client.request_to("POST", "grpc.example", "/echo.Echo/Unary");
    request
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    let response = client
        .exchange(request, Some(Bytes::from_static(b"\0\0\0\0\0")), None)
        .unwrap();
    // A client of gRPC understands a plain HTTP status too (it maps 503 to UNAVAILABLE).
    assert!(
        response.status == 503 || response.headers.contains_key("grpc-status"),
        "{response:?}"
    );
}
