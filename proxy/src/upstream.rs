//! The upstream side: connections to backends and one request/response exchange on them.
//!
//! What it is: our own HTTP/1.1 client codec ([`Http1`]), HTTP/2 over the `h2` crate ([`Http2`]), [`connect`] for
//! TCP and TLS, and the rules that every message passes on its way ([`RequestHead`], the response parser). The
//! client's fields are never edited: the filter runs while the request is written.
//!
//! What it is not: it picks no endpoint, keeps no pool, repeats no request and knows no deadline. The caller drops
//! the future to end an exchange; the connection is closed then.
//!
//! Start from [`connect`], then [`Connection`].

mod body;
mod chunked;
mod connect;
mod error;
mod fields;
mod http1;
mod http2;
mod io;
mod outgoing;
mod request;
mod response_head;
mod serialize;
mod tls;

#[cfg(test)]
mod tests;

use std::{any::Any, fmt, time::Duration};

use http::Response;

pub(crate) use self::http2::request_of;
pub use self::{
    body::UpstreamBody,
    chunked::{ChunkedDecoder, Decoded},
    connect::{Connection, Transport, connect, connect_either},
    error::{BodyError, BoxError, SendError, Sent, UpstreamError, UpstreamErrorKind},
    fields::{is_forbidden_trailer, is_hop_by_hop},
    http1::Http1,
    http2::Http2,
    io::UpstreamIo,
    request::{BodyLength, PeerTrust, RequestHead},
    response_head::{HeadError, ResponseFraming, ResponseHead, parse_response_head},
    serialize::serialize_head,
    tls::{Alpn, TlsConfigError, TlsTransport},
};

/// What the backend answered.
pub enum Answer<B> {
    /// A final response.
    Response(Response<UpstreamBody<B>>),
    /// The backend switched protocols, as the request asked (101, RFC 9110 15.2.2).
    Upgraded(Box<Upgraded>),
}

impl<B> fmt::Debug for Answer<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(response) => formatter.debug_tuple("Response").field(response).finish(),
            Self::Upgraded(upgraded) => formatter.debug_tuple("Upgraded").field(upgraded).finish(),
        }
    }
}

/// A connection that speaks another protocol from here on.
#[derive(Debug)]
pub struct Upgraded {
    /// The 101 head: hop-by-hop fields removed except `upgrade`; `connection: upgrade` is for the caller to add.
    pub response: http::response::Parts,
    /// The connection.
    pub io: UpstreamIo,
    /// Bytes of the new protocol that arrived together with the head.
    pub leftover: bytes::Bytes,
    /// What is kept for as long as the connection is open.
    pub held: Option<Held>,
}

/// Something that is kept for as long as a connection is open, and dropped with it.
pub type Held = Box<dyn Any>;

/// Where a reusable connection returns to when its exchange ended cleanly.
pub trait Home {
    /// Takes the connection back; `keep_alive` is what the backend announced (`Keep-Alive: timeout`).
    fn put_back(&self, connection: Box<Http1>, keep_alive: Option<Duration>);
}
