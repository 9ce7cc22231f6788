//! Which fields pass: one filter for requests (HTTP/1.1 and HTTP/2), one for responses, one for trailers.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::{BodyLength, PeerTrust, RequestHead};

/// The value of a field that passes.
#[derive(Clone, Copy, Debug)]
pub(super) enum FieldValue<'a> {
    /// As the client sent it.
    Client(&'a HeaderValue),
    /// Written by the proxy.
    Made(&'a [u8]),
}

impl FieldValue<'_> {
    /// The bytes of the value.
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Client(value) => value.as_bytes(),
            Self::Made(bytes) => bytes,
        }
    }
}

/// Calls `visit` with each end-to-end field of the request, the client's first, then the proxy's.
///
/// Left out, because the codec of the connection writes them: Host, the framing fields, Connection, Upgrade, TE,
/// Expect. Several Cookie fields become one (RFC 9113 8.2.3).
///
/// # Cost
/// O(fields), and O(fields x options) only when `Connection` names fields (RFC 9110 7.6.1).
pub(super) fn visit_request_fields(head: &RequestHead<'_>, mut visit: impl FnMut(&HeaderName, FieldValue<'_>)) {
    let replaced = Replaced::new(head);
    let nominated = Nominated::new(head.headers);
    let mut cookie_done = false;
    for (name, value) in head.headers {
        let bytes = name.as_str().as_bytes();
        let class = classify(bytes);
        let passes = match class {
            Class::Cookie => !cookie_done,
            Class::Forwarding => head.peer == PeerTrust::Trusted,
            Class::HopByHop => false,
            Class::Ordinary => true,
            Class::Trailer => head.body == BodyLength::Unknown,
            Class::WebSocketKey => head.websocket_key.is_none(),
        };
        if !passes || replaced.contains(name) || (!is_protected(bytes) && nominated.contains(bytes)) {
            continue;
        }
        if class == Class::Cookie {
            cookie_done = true;
            visit_cookies(head.headers, value, &mut visit);
        } else {
            visit(name, FieldValue::Client(value));
        }
    }
    if let Some(key) = head.websocket_key {
        visit(&header::SEC_WEBSOCKET_KEY, FieldValue::Made(key.as_bytes()));
    }
    for (name, value) in head.extra {
        visit(name, FieldValue::Made(value));
    }
}

fn visit_cookies(headers: &HeaderMap, first: &HeaderValue, visit: &mut impl FnMut(&HeaderName, FieldValue<'_>)) {
    let mut crumbs = headers.get_all(header::COOKIE).iter().skip(1).peekable();
    if crumbs.peek().is_none() {
        visit(&header::COOKIE, FieldValue::Client(first));
        return;
    }
    let mut joined = first.as_bytes().to_vec();
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    visit(&header::COOKIE, FieldValue::Made(&joined));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Cookie,
    /// Speaks about the client or its request in a proxy's name.
    Forwarding,
    /// For this connection only, or rewritten by the codec.
    HopByHop,
    Ordinary,
    Trailer,
    WebSocketKey,
}

/// Names arrive in lower case.
fn classify(name: &[u8]) -> Class {
    match name {
        b"connection" | b"content-length" | b"expect" | b"host" | b"http2-settings" | b"keep-alive"
        | b"proxy-connection" | b"te" | b"transfer-encoding" | b"upgrade" => Class::HopByHop,
        b"cookie" => Class::Cookie,
        b"forwarded" | b"x-original-url" | b"x-real-ip" | b"x-request-id" | b"x-rewrite-url" => Class::Forwarding,
        b"sec-websocket-key" => Class::WebSocketKey,
        b"trailer" => Class::Trailer,
        _ if name.starts_with(b"x-forwarded") || name.contains(&b'_') => Class::Forwarding,
        _ => Class::Ordinary,
    }
}

/// Fields that `Connection` may not take away: removing them would change the meaning behind the proxy.
fn is_protected(name: &[u8]) -> bool {
    match name {
        b"authorization" | b"cache-control" | b"content-encoding" | b"content-length" | b"content-range"
        | b"content-type" | b"cookie" | b"host" | b"set-cookie" | b"vary" => true,
        _ => name.starts_with(b"x-forwarded"),
    }
}

/// The names that `extra` replaces, with a quick negative answer.
struct Replaced<'a> {
    extra: &'a [(&'a HeaderName, &'a [u8])],
    lengths: u64,
}

impl<'a> Replaced<'a> {
    fn new(head: &RequestHead<'a>) -> Self {
        let lengths = head
            .extra
            .iter()
            .fold(0, |lengths, (name, _)| lengths | length_bit(name));
        Self {
            extra: head.extra,
            lengths,
        }
    }

    fn contains(&self, name: &HeaderName) -> bool {
        self.lengths & length_bit(name) != 0 && self.extra.iter().any(|(extra, _)| *extra == name)
    }
}

fn length_bit(name: &HeaderName) -> u64 {
    1 << (name.as_str().len() % 64)
}

/// The field names listed in `Connection`.
pub(super) struct Nominated<'a> {
    /// Absent when the options name no further field, which is the usual case.
    headers: Option<&'a HeaderMap>,
}

impl<'a> Nominated<'a> {
    pub(super) fn new(headers: &'a HeaderMap) -> Self {
        let names_fields = connection_options(headers).any(|option| !is_known_option(option));
        Self {
            headers: names_fields.then_some(headers),
        }
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.headers
            .is_some_and(|headers| connection_options(headers).any(|option| option.eq_ignore_ascii_case(name)))
    }
}

fn is_known_option(option: &[u8]) -> bool {
    [b"close".as_slice(), b"keep-alive", b"upgrade", b"te", b"http2-settings"]
        .iter()
        .any(|known| option.eq_ignore_ascii_case(known))
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| list_items(value.as_bytes()))
}

/// The items of a comma-separated list, trimmed, without empty ones (RFC 9110 5.6.1).
pub(super) fn list_items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// Whether a field belongs to one connection only (RFC 9110 7.6.1), in either direction.
///
/// `name` is in lower case. `Trailer` and `Content-Length` are not among them: the codecs decide about those.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"http2-settings"
            | b"keep-alive"
            | b"proxy-connection"
            | b"te"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

/// Whether a response field that `Connection` names may be removed.
pub(super) fn may_be_nominated(name: &[u8]) -> bool {
    !is_protected(name)
}

/// Whether a field may not stand in trailers: framing, routing, authentication, content description, pseudo-fields
/// (RFC 9110 6.5.1, RFC 9113 8.1).
///
/// `name` is in lower case.
pub fn is_forbidden_trailer(name: &[u8]) -> bool {
    matches!(
        name,
        b"age"
            | b"authorization"
            | b"cache-control"
            | b"content-encoding"
            | b"content-length"
            | b"content-range"
            | b"content-type"
            | b"cookie"
            | b"date"
            | b"expect"
            | b"expires"
            | b"forwarded"
            | b"host"
            | b"location"
            | b"max-forwards"
            | b"pragma"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"range"
            | b"retry-after"
            | b"set-cookie"
            | b"trailer"
            | b"vary"
            | b"www-authenticate"
    ) || is_hop_by_hop(name)
        || name.starts_with(b":")
        || name.starts_with(b"x-forwarded")
        || name.starts_with(b"if-")
}

/// Removes what may not stand in trailers; `None` when nothing is left.
pub(super) fn clean_trailers(mut trailers: HeaderMap) -> Option<HeaderMap> {
    if trailers
        .keys()
        .any(|name| is_forbidden_trailer(name.as_str().as_bytes()))
    {
        let forbidden: Vec<HeaderName> = trailers
            .keys()
            .filter(|name| is_forbidden_trailer(name.as_str().as_bytes()))
            .cloned()
            .collect();
        for name in forbidden {
            trailers.remove(name);
        }
    }
    (!trailers.is_empty()).then_some(trailers)
}
