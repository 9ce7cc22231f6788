//! The format `json`.

use super::{
    entry::{Entry, StreamEntry, UpstreamEntry},
    text::{push_fraction, push_integer, push_ip, push_json, push_socket, push_thousandths, without_query},
    timestamp::SecondText,
};

/// The layout of [`push_line`]'s dates up to the second (RFC 3339).
pub(super) const LAYOUT: &str = "%Y-%m-%dT%H:%M:%S";

/// Appends one line.
pub(super) fn push_line(line: &mut Vec<u8>, second: &mut SecondText, entry: &Entry<'_>) {
    line.extend_from_slice(b"{\"timestamp\":\"");
    line.extend_from_slice(second.of(entry.unix_ms / 1000));
    let milliseconds = entry.unix_ms % 1000;
    push_fraction(line, milliseconds);
    line.extend_from_slice(b"Z\",\"client.address\":\"");
    push_ip(line, entry.client_address);
    line.push(b'"');
    if entry.client_port != 0 {
        line.extend_from_slice(b",\"client.port\":");
        push_integer(line, entry.client_port);
    }
    push_request(line, entry);
    line.extend_from_slice(b",\"http.response.status_code\":");
    push_integer(line, entry.status);
    line.extend_from_slice(b",\"http.request.body.size\":");
    push_integer(line, entry.request_body_bytes);
    line.extend_from_slice(b",\"http.response.body.size\":");
    push_integer(line, entry.response_body_bytes);
    if let Some(user_agent) = entry.user_agent {
        push_text(line, b",\"user_agent.original\":\"", user_agent);
    }
    push_text(line, b",\"propylon.request_id\":\"", entry.request_id);
    line.extend_from_slice(b",\"propylon.duration_ms\":");
    push_thousandths(line, entry.duration_us);
    push_text(line, b",\"propylon.namespace\":\"", entry.namespace.as_bytes());
    push_text(line, b",\"propylon.ingress\":\"", entry.ingress.as_bytes());
    push_text(line, b",\"propylon.service\":\"", entry.service.as_bytes());
    if let Some(upstream) = &entry.upstream {
        push_upstream(line, upstream);
    }
    push_text(
        line,
        b",\"propylon.reason\":\"",
        entry.reason.unwrap_or_default().as_bytes(),
    );
    line.extend_from_slice(b"}\n");
}

/// Appends the line of a connection of layer 4.
pub(super) fn push_stream(line: &mut Vec<u8>, second: &mut SecondText, entry: &StreamEntry<'_>) {
    line.extend_from_slice(b"{\"timestamp\":\"");
    line.extend_from_slice(second.of(entry.unix_ms / 1000));
    push_fraction(line, entry.unix_ms % 1000);
    line.extend_from_slice(b"Z\",\"client.address\":\"");
    push_ip(line, entry.client.ip());
    line.extend_from_slice(b"\",\"client.port\":");
    push_integer(line, entry.client.port());
    push_text(line, b",\"network.transport\":\"", entry.transport.as_bytes());
    line.extend_from_slice(b",\"propylon.received_bytes\":");
    push_integer(line, entry.received_bytes);
    line.extend_from_slice(b",\"propylon.sent_bytes\":");
    push_integer(line, entry.sent_bytes);
    line.extend_from_slice(b",\"propylon.duration_ms\":");
    push_thousandths(line, entry.duration_us);
    push_text(line, b",\"propylon.namespace\":\"", entry.namespace.as_bytes());
    push_text(line, b",\"propylon.service\":\"", entry.service.as_bytes());
    push_text(line, b",\"propylon.listener\":\"", entry.listener.as_bytes());
    if let Some(upstream) = entry.upstream {
        line.extend_from_slice(b",\"propylon.upstream.address\":\"");
        push_socket(line, upstream);
        line.push(b'"');
    }
    push_text(line, b",\"propylon.reason\":\"", entry.end.as_bytes());
    line.extend_from_slice(b"}\n");
}

fn push_request(line: &mut Vec<u8>, entry: &Entry<'_>) {
    push_text(line, b",\"http.request.method\":\"", entry.method.as_bytes());
    push_text(line, b",\"url.scheme\":\"", entry.scheme.as_bytes());
    push_text(line, b",\"server.address\":\"", entry.host);
    push_text(line, b",\"url.path\":\"", without_query(entry.path));
    line.extend_from_slice(b",\"network.protocol.name\":\"http\",\"network.protocol.version\":\"");
    line.extend_from_slice(match entry.version {
        http::Version::HTTP_09 => b"0.9",
        http::Version::HTTP_10 => b"1.0",
        http::Version::HTTP_2 => b"2",
        http::Version::HTTP_3 => b"3",
        _ => b"1.1",
    });
    line.push(b'"');
}

fn push_upstream(line: &mut Vec<u8>, upstream: &UpstreamEntry) {
    line.extend_from_slice(b",\"propylon.upstream.address\":\"");
    push_socket(line, upstream.address);
    line.push(b'"');
    if let Some(status) = upstream.status {
        line.extend_from_slice(b",\"propylon.upstream.status\":");
        push_integer(line, status);
    }
    line.extend_from_slice(b",\"propylon.upstream.duration_ms\":");
    push_thousandths(line, upstream.duration_us);
    line.extend_from_slice(b",\"propylon.upstream.attempts\":");
    push_integer(line, upstream.attempts);
}

/// Appends `opening` (comma, name, colon, quote), the text and the closing quote; nothing where the text is empty. The
/// length of `opening` is known when compiling, so that it is copied without a call.
fn push_text<const LENGTH: usize>(line: &mut Vec<u8>, opening: &[u8; LENGTH], text: &[u8]) {
    if !text.is_empty() {
        line.extend_from_slice(opening);
        push_json(line, text);
        line.push(b'"');
    }
}
