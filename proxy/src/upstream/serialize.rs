//! The request head as bytes of HTTP/1.1 (RFC 9112 3, 5, 6).

use http::{HeaderMap, Method};

use super::{BodyLength, RequestHead, fields::clean_trailers, fields::visit_request_fields};

/// Appends the request head to `out`, ready to be written.
///
/// The framing fields are ours: exactly one of none, `content-length` and `transfer-encoding: chunked`.
pub fn serialize_head(head: &RequestHead<'_>, out: &mut Vec<u8>) {
    debug_assert!(
        head.target.bytes().all(|byte| byte > b' ' && byte != 0x7f),
        "the target was normalised"
    );
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(head.authority);
    out.extend_from_slice(b"\r\n");
    visit_request_fields(head, |name, value| {
        put_field(out, name.as_str().as_bytes(), value.as_bytes());
    });
    put_framing(head, out);
    put_connection(head, out);
    out.extend_from_slice(b"\r\n");
}

fn put_framing(head: &RequestHead<'_>, out: &mut Vec<u8>) {
    match head.body {
        BodyLength::Exact(length) => {
            put_field(out, b"content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        // RFC 9110 8.6: a method that anticipates content says that there is none.
        BodyLength::None if anticipates_content(head.method) => put_field(out, b"content-length", b"0"),
        BodyLength::None => return,
        BodyLength::Unknown => put_field(out, b"transfer-encoding", b"chunked"),
    }
    if head.expect_continue && has_content(head.body) {
        put_field(out, b"expect", b"100-continue");
    }
}

fn put_connection(head: &RequestHead<'_>, out: &mut Vec<u8>) {
    let options: &[u8] = match (head.upgrade.is_some(), head.te_trailers) {
        (true, true) => b"upgrade, te",
        (true, false) => b"upgrade",
        (false, true) => b"te",
        (false, false) => return,
    };
    put_field(out, b"connection", options);
    if let Some(protocol) = head.upgrade {
        put_field(out, b"upgrade", protocol.as_bytes());
    }
    if head.te_trailers {
        put_field(out, b"te", b"trailers");
    }
}

fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(
        !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)),
        "values come from parsed fields"
    );
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailers that may be sent (RFC 9112 7.1.2).
pub(super) fn put_last_chunk(trailers: Option<HeaderMap>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    if let Some(trailers) = trailers.and_then(clean_trailers) {
        for (name, value) in &trailers {
            put_field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether any byte of a body can follow.
pub(super) fn has_content(body: BodyLength) -> bool {
    !matches!(body, BodyLength::None | BodyLength::Exact(0))
}

fn anticipates_content(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}
