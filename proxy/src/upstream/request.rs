//! What goes upstream, borrowed from the client's request.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Whether the peer's own statements about the client are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerTrust {
    /// The peer is one of `--trusted-proxies`: its forwarding fields pass, unless ours replace them.
    Trusted,
    /// The peer is a client: its forwarding fields are dropped.
    Untrusted,
}

/// How the request body is delimited (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Exactly so many bytes; sent with `Content-Length`.
    Exact(u64),
    /// No body; the body given to `exchange` is not polled.
    None,
    /// Until its end; sent in chunks, trailers included.
    Unknown,
}

/// A request head for a backend. Nothing here is copied before it is written.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// Origin-form with its query, or `*`; normalised already, without spaces and control characters.
    pub target: &'a str,
    /// The Host value as the client sent it; empty if there was none.
    pub authority: &'a [u8],
    /// The client's fields.
    pub headers: &'a HeaderMap,
    /// Whether the client's forwarding fields are believed.
    pub peer: PeerTrust,
    /// How the body is delimited.
    pub body: BodyLength,
    /// Whether the client takes trailers: `TE: trailers` is sent.
    pub te_trailers: bool,
    /// Whether the body waits for `100 Continue`; meaningful with a body only.
    pub expect_continue: bool,
    /// The protocol to switch to; `Connection: upgrade` and `Upgrade` are sent.
    pub upgrade: Option<&'a HeaderValue>,
    /// `Sec-WebSocket-Key` for an extended CONNECT (RFC 8441) that becomes an HTTP/1.1 upgrade.
    pub websocket_key: Option<&'a str>,
    /// Fields that the proxy writes; each replaces all of the client's fields of that name.
    pub extra: &'a [(&'a HeaderName, &'a [u8])],
}
