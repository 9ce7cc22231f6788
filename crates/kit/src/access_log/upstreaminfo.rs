//! The format `upstreaminfo`: `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent
//! "$http_referer" "$http_user_agent" $request_length $request_time [$proxy_upstream_name]
//! [$proxy_alternative_upstream_name] $upstream_addr $upstream_response_length $upstream_response_time
//! $upstream_status $req_id`.

use super::{
    entry::{Entry, StreamEntry, UpstreamEntry},
    text::{push_integer, push_ip, push_nginx, push_socket, push_thousandths, without_query},
    timestamp::SecondText,
};

/// The layout of `$time_local`.
pub(super) const LAYOUT: &str = "%d/%b/%Y:%H:%M:%S +0000";

/// Appends one line.
pub(super) fn push_line(line: &mut Vec<u8>, second: &mut SecondText, entry: &Entry<'_>) {
    push_ip(line, entry.client_address);
    line.extend_from_slice(b" - - [");
    line.extend_from_slice(second.of(entry.unix_ms / 1000));
    line.extend_from_slice(b"] \"");
    push_nginx(line, entry.method.as_bytes());
    line.push(b' ');
    push_nginx(line, without_query(entry.path));
    line.extend_from_slice(match entry.version {
        http::Version::HTTP_09 => b" HTTP/0.9",
        http::Version::HTTP_10 => b" HTTP/1.0",
        http::Version::HTTP_2 => b" HTTP/2.0",
        http::Version::HTTP_3 => b" HTTP/3.0",
        _ => b" HTTP/1.1",
    });
    line.extend_from_slice(b"\" ");
    push_integer(line, entry.status);
    line.push(b' ');
    push_integer(line, entry.response_body_bytes);
    line.extend_from_slice(b" \"");
    push_nginx(line, without_query(entry.referer.unwrap_or_default()));
    line.extend_from_slice(b"\" \"");
    push_nginx(line, entry.user_agent.unwrap_or_default());
    line.extend_from_slice(b"\" ");
    push_integer(line, entry.request_length);
    line.push(b' ');
    push_thousandths(line, entry.duration_us / 1000);
    line.extend_from_slice(b" [");
    push_upstream_name(line, entry);
    line.extend_from_slice(b"] [] ");
    match &entry.upstream {
        Some(upstream) => push_upstream(line, upstream),
        None => line.extend_from_slice(b"- - - -"),
    }
    line.push(b' ');
    push_nginx(line, entry.request_id);
    line.push(b'\n');
}

/// Appends the line of a connection of layer 4, in ingress-nginx's `log-format-stream`: `[$remote_addr] [$time_local]
/// $protocol $status $bytes_sent $bytes_received $session_time`.
pub(super) fn push_stream(line: &mut Vec<u8>, second: &mut SecondText, entry: &StreamEntry<'_>) {
    line.push(b'[');
    push_ip(line, entry.client.ip());
    line.extend_from_slice(b"] [");
    line.extend_from_slice(second.of(entry.unix_ms / 1000));
    line.extend_from_slice(b"] ");
    line.extend(entry.transport.bytes().map(|byte| byte.to_ascii_uppercase()));
    line.push(b' ');
    push_integer(line, entry.status);
    line.push(b' ');
    push_integer(line, entry.sent_bytes);
    line.push(b' ');
    push_integer(line, entry.received_bytes);
    line.push(b' ');
    push_thousandths(line, entry.duration_us / 1000);
    line.push(b'\n');
}

/// `NAMESPACE-SERVICE-PORT` as ingress-nginx names its upstreams, `-` where there is none.
fn push_upstream_name(line: &mut Vec<u8>, entry: &Entry<'_>) {
    if entry.service.is_empty() {
        return line.push(b'-');
    }
    push_nginx(line, entry.namespace.as_bytes());
    line.push(b'-');
    push_nginx(line, entry.service.as_bytes());
    line.push(b'-');
    push_nginx(line, entry.service_port.as_bytes());
}

fn push_upstream(line: &mut Vec<u8>, upstream: &UpstreamEntry) {
    push_socket(line, upstream.address);
    line.push(b' ');
    push_integer(line, upstream.response_bytes);
    line.push(b' ');
    push_thousandths(line, upstream.duration_us / 1000);
    line.push(b' ');
    match upstream.status {
        Some(status) => push_integer(line, status),
        None => line.push(b'-'),
    }
}
