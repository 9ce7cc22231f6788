//! The response head parser as a table.

use bytes::BytesMut;
use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::upstream::{HeadError, ResponseFraming, ResponseHead, parse_response_head};

fn parse(text: &str) -> Result<Option<ResponseHead>, HeadError> {
    parse_response_head(&mut BytesMut::from(text), &Method::GET)
}

fn parsed(text: &str) -> ResponseHead {
    parse(text).expect("a valid head").expect("a complete head")
}

fn refused(text: &str) -> HeadError {
    match parse(text) {
        Err(error) => error,
        Ok(head) => panic!("{text:?} was accepted: {head:?}"),
    }
}

#[test]
fn complete_head_is_taken_off_the_buffer() {
    let mut buffer = BytesMut::from("HTTP/1.1 404 Not Found\r\nServer: a\r\ncontent-length: 3\r\n\r\nabc");
    let head = parse_response_head(&mut buffer, &Method::GET)
        .expect("valid")
        .expect("complete");
    assert_eq!(head.status, StatusCode::NOT_FOUND);
    assert_eq!(head.framing, ResponseFraming::Exact(3));
    assert!(head.persistent);
    assert_eq!(head.headers, fields(&[("server", "a"), ("content-length", "3")]));
    assert_eq!(&buffer[..], b"abc");
}

#[test]
fn values_are_slices_of_what_was_read() {
    let mut buffer = BytesMut::from("HTTP/1.1 200 OK\r\nx-long: value\r\n\r\n");
    let range = buffer.as_ptr_range();
    let head = parse_response_head(&mut buffer, &Method::GET)
        .expect("valid")
        .expect("complete");
    assert!(range.contains(&head.headers["x-long"].as_bytes().as_ptr()));
}

#[test]
fn incomplete_head_leaves_the_buffer_alone() {
    let whole = "HTTP/1.1 200 OK\r\na: b\r\n\r\n";
    for end in 0..whole.len() {
        let mut buffer = BytesMut::from(whole.get(..end).expect("ASCII"));
        assert!(
            parse_response_head(&mut buffer, &Method::GET).expect("valid").is_none(),
            "{end}"
        );
        assert_eq!(buffer.len(), end);
    }
}

#[test]
fn framing_follows_rfc_9112_6_3() {
    for (text, framing, persistent) in [
        ("HTTP/1.1 200 OK\r\n\r\n", ResponseFraming::Close, false),
        ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", ResponseFraming::None, true),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            ResponseFraming::Exact(5),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n",
            ResponseFraming::Chunked,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: Close\r\n\r\n",
            ResponseFraming::Exact(5),
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n",
            ResponseFraming::Exact(5),
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n",
            ResponseFraming::Exact(5),
            true,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", ResponseFraming::None, true),
        (
            "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n",
            ResponseFraming::None,
            false,
        ),
        (
            "HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n",
            ResponseFraming::None,
            false,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
            ResponseFraming::None,
            true,
        ),
    ] {
        let head = parsed(text);
        assert_eq!((head.framing, head.persistent), (framing, persistent), "{text:?}");
    }
}

#[test]
fn head_and_not_modified_keep_the_announced_length() {
    let text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    let head = parse_response_head(&mut BytesMut::from(text), &Method::HEAD)
        .expect("valid")
        .expect("complete");
    assert_eq!(head.framing, ResponseFraming::None);
    assert_eq!(head.headers["content-length"], "5");
    assert_eq!(
        parsed("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n").headers["content-length"],
        "5"
    );
    assert!(
        parsed("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n")
            .headers
            .is_empty()
    );
}

#[test]
fn doubtful_heads_are_refused() {
    for text in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0x5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: \r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n a: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\na\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\na(: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\x1bc\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\rc: d\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "{\"error\":1}",
    ] {
        assert!(matches!(refused(text), HeadError::Malformed(_)), "{text:?}");
    }
}

#[test]
fn limits_hold() {
    let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(parsed(&fields(128)).headers.len(), 128);
    assert_eq!(refused(&fields(129)), HeadError::TooLarge);
    let long = |length: usize| format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(length));
    assert_eq!(parsed(&long(65_000)).headers["a"].len(), 65_000);
    assert_eq!(refused(&long(65_530)), HeadError::TooLarge);
    let endless = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(70_000));
    assert_eq!(refused(&endless), HeadError::TooLarge);
}

#[test]
fn connection_fields_are_removed() {
    let head = parsed(
        "HTTP/1.1 200 OK\r\nconnection: keep-alive, X-Hop, content-length, set-cookie\r\nkeep-alive: max=9, Timeout=7\r\n\
         proxy-connection: x\r\nupgrade: h2c\r\ntrailer: a\r\nte: x\r\nx-hop: 1\r\nset-cookie: c\r\n\
         content-length: 2\r\nx-kept: 2\r\n\r\n",
    );
    assert_eq!(
        head.headers,
        fields(&[("set-cookie", "c"), ("content-length", "2"), ("x-kept", "2")])
    );
    assert_eq!(head.keep_alive, Some(Duration::from_secs(7)));
}

#[test]
fn trailer_stays_with_chunks_and_upgrade_with_101() {
    let head = parsed("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n");
    assert_eq!(head.headers, fields(&[("trailer", "x-sum")]));
    let head = parsed("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert_eq!(head.headers, fields(&[("upgrade", "websocket")]));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        drop(parse_response_head(&mut buffer, &Method::GET));
    }

    #[test]
    fn damaged_heads_never_panic(position in 0_usize..70, byte in any::<u8>()) {
        let mut bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: a\r\nkeep-alive: timeout=5\r\n\r\n".to_vec();
        bytes[position] = byte;
        drop(parse_response_head(&mut BytesMut::from(&bytes[..]), &Method::GET));
    }
}
