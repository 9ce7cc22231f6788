//! What a line says.

use std::net::{IpAddr, SocketAddr};

/// One request, as it ended. Bytes may be anything that a client can send; the formats escape them.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When it ended, milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The client's address, behind trusted proxies the one they name.
    pub client_address: IpAddr,
    /// The client's port; 0 where a trusted proxy named the address.
    pub client_port: u16,
    /// The method.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host of the request without port; empty where it had none.
    pub host: &'a [u8],
    /// The path as the client sent it; anything from a `?` on is not written.
    pub path: &'a [u8],
    /// The protocol version.
    pub version: http::Version,
    /// The status that the client got; 499 where it went away before.
    pub status: u16,
    /// Bytes of the request's line, headers and body, as near as they are known.
    pub request_length: u64,
    /// Bytes of the request body.
    pub request_body_bytes: u64,
    /// Bytes of the response body.
    pub response_body_bytes: u64,
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`; anything from a `?` on is not written.
    pub referer: Option<&'a [u8]>,
    /// From the request's head to the end of the response, microseconds.
    pub duration_us: u64,
    /// The exchange with the backend; none where there was none.
    pub upstream: Option<UpstreamEntry>,
    /// The namespace of the Ingress; empty where no rule matched.
    pub namespace: &'a str,
    /// The name of the Ingress; empty where no rule matched.
    pub ingress: &'a str,
    /// The name of the Service; empty where the rule has none.
    pub service: &'a str,
    /// The port of the Service by name or number; empty where the rule has none.
    pub service_port: &'a str,
    /// `X-Request-ID`.
    pub request_id: &'a [u8],
    /// The reason code of a response that the proxy made.
    pub reason: Option<&'a str>,
}

/// The last attempt at a backend.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamEntry {
    /// The endpoint.
    pub address: SocketAddr,
    /// The status that it answered; none where it did not.
    pub status: Option<u16>,
    /// From the choice of the endpoint to the end of its response, microseconds.
    pub duration_us: u64,
    /// Bytes of its response body.
    pub response_bytes: u64,
    /// Attempts in all, 1 where none was repeated.
    pub attempts: u32,
}

/// One connection, or session, that was handed on without being read, as it ended.
#[derive(Clone, Copy, Debug)]
pub struct StreamEntry<'a> {
    /// When it ended, milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The client; behind a PROXY header the one that it names.
    pub client: SocketAddr,
    /// `tcp` or `udp`.
    pub transport: &'a str,
    /// The namespace of the Service.
    pub namespace: &'a str,
    /// The name of the Service.
    pub service: &'a str,
    /// Where it came in: `PORT/PROTOCOL`, or `passthrough`.
    pub listener: &'a str,
    /// The endpoint; none where there was none.
    pub upstream: Option<SocketAddr>,
    /// Bytes from the client that the endpoint took.
    pub received_bytes: u64,
    /// Bytes from the endpoint that the client took.
    pub sent_bytes: u64,
    /// From its beginning to its end, microseconds.
    pub duration_us: u64,
    /// What nginx would log as `$status`: 200, 400, 403, 500, 502 or 503.
    pub status: u16,
    /// The code of its end.
    pub end: &'a str,
}
