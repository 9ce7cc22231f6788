use http::{HeaderMap, Method, Uri};

use super::*;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

fn run(version: Version, fields: &[(&'static str, &'static str)], limits: &Limits) -> Result<Facts, FieldFault> {
    let (method, uri, headers) = (Method::GET, Uri::from_static("/path"), headers(fields));
    check(
        &Head {
            method: &method,
            uri: &uri,
            version,
            headers: &headers,
        },
        limits,
    )
}

fn http11(fields: &[(&'static str, &'static str)]) -> Result<Facts, FieldFault> {
    run(Version::HTTP_11, fields, &Limits::default())
}

fn http2(fields: &[(&'static str, &'static str)]) -> Result<Facts, FieldFault> {
    run(Version::HTTP_2, fields, &Limits::default())
}

#[test]
fn a5_06_transfer_encoding_is_the_one_token_chunked() {
    assert!(http11(&[("transfer-encoding", "chunked")]).unwrap().chunked);
    assert!(http11(&[("transfer-encoding", "Chunked")]).unwrap().chunked);
    for value in [
        "chunked, chunked",
        "gzip, chunked",
        "chunked;q=1",
        "identity",
        "",
        "xchunked",
        "chunked,",
    ] {
        assert_eq!(
            http11(&[("transfer-encoding", value)]),
            Err(FieldFault::TransferEncoding),
            "{value}"
        );
    }
    let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
    assert_eq!(http11(&twice), Err(FieldFault::TransferEncoding));
    let old = run(
        Version::HTTP_10,
        &[("transfer-encoding", "chunked")],
        &Limits::default(),
    );
    assert_eq!(old, Err(FieldFault::TransferEncoding));
}

#[test]
fn a5_16_http2_values_are_not_padded() {
    for value in [" x", "x ", "\tx", "x\t", " "] {
        assert_eq!(http2(&[("x-a", value)]), Err(FieldFault::Whitespace), "{value:?}");
        assert!(http11(&[("x-a", value)]).is_ok());
    }
    assert_eq!(
        http2(&[("transfer-encoding", "chunked")]),
        Err(FieldFault::TransferEncoding)
    );
    assert!(http2(&[("te", "trailers"), ("x-a", "a b")]).unwrap().te_trailers);
    assert_eq!(FieldFault::Whitespace.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        FieldFault::TooLarge.status(),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    );
}

#[test]
fn upgrade_needs_connection_and_http11() {
    let upgrade = |value| {
        http11(&[("connection", "keep-alive, Upgrade"), ("upgrade", value)])
            .unwrap()
            .upgrade
    };
    assert_eq!(upgrade("WebSocket"), Some(Upgrade::WebSocket));
    assert_eq!(upgrade("h2c"), Some(Upgrade::H2c));
    assert_eq!(upgrade("websocket, h2c"), Some(Upgrade::H2c));
    assert_eq!(upgrade("h2c, websocket"), Some(Upgrade::H2c));
    assert_eq!(upgrade("TLS/1.0"), Some(Upgrade::Other));
    assert_eq!(http11(&[("upgrade", "websocket")]).unwrap().upgrade, None);
    let old = run(
        Version::HTTP_10,
        &[("connection", "upgrade"), ("upgrade", "websocket")],
        &Limits::default(),
    );
    assert_eq!(old.unwrap().upgrade, None);
}

#[test]
fn other_facts_are_read() {
    let fields = [
        ("content-length", "42"),
        ("expect", "100-Continue"),
        ("max-forwards", "1"),
        ("te", "gzip, trailers;q=1"),
    ];
    let facts = http11(&fields).unwrap();
    assert_eq!(facts.content_length, Some(42));
    assert!(facts.expect_continue && facts.max_forwards && !facts.te_trailers);
    assert!(
        !run(Version::HTTP_10, &[("expect", "100-continue")], &Limits::default())
            .unwrap()
            .expect_continue
    );
    for (value, grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc-web", false),
    ] {
        assert_eq!(http2(&[("content-type", value)]).unwrap().grpc, grpc, "{value}");
    }
}

#[test]
fn content_length_says_one_number() {
    assert_eq!(
        http2(&[("content-length", "5"), ("content-length", "5")])
            .unwrap()
            .content_length,
        Some(5)
    );
    for value in ["", "-1", "+1", "1, 1", "0x1", "1 ", "18446744073709551616"] {
        let fault = http11(&[("content-length", value)]);
        assert_eq!(fault, Err(FieldFault::ContentLength), "{value:?}");
    }
    assert_eq!(
        http2(&[("content-length", "5"), ("content-length", "6")]),
        Err(FieldFault::ContentLength)
    );
}

#[test]
fn a5_19_limits_hold() {
    let limits = Limits {
        max_headers: 2,
        max_header_bytes: 80,
        max_uri_bytes: 5,
    };
    let two = [("a", "1"), ("b", "2")];
    assert_eq!(run(Version::HTTP_2, &two, &limits).unwrap().field_bytes, 2 * (32 + 2));
    assert_eq!(
        run(Version::HTTP_2, &[("a", "1"), ("a", "2"), ("a", "3")], &limits),
        Err(FieldFault::TooMany)
    );
    let large = run(Version::HTTP_11, &[("a", "0123456789"), ("b", "0123456789")], &limits);
    assert_eq!(large.map(|_| ()), Err(FieldFault::TooLarge));
    let limits = Limits {
        max_uri_bytes: 4,
        ..limits
    };
    let long = run(Version::HTTP_11, &two, &limits);
    assert_eq!(long, Err(FieldFault::UriTooLong));
    assert_eq!(FieldFault::UriTooLong.status(), 414);
    assert_eq!(FieldFault::TooMany.status(), 431);
    assert_eq!(FieldFault::TransferEncoding.status(), 400);
}
