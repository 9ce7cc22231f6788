//! What is decided about a request before it is routed: its host, its fields, its client.
//!
//! What it is: pure functions over a parsed request head (no I/O, no clock, no randomness), each of which says what
//! RFC 9110, 9112 or 9113 wants of a server and what hyper does not check for us.
//!
//! What it is not: it answers nothing. A fault carries a status and a name; the spine makes the response.
//!
//! Start from [`Head`], [`request_target::of_request`] and [`fields::check`].

pub mod client_address;
pub mod fields;
pub mod host;
pub mod request_target;

pub use client_address::{ForwardedFields, PeerInfo, TrustedProxies};
pub use fields::{Facts, FieldFault, Limits};
pub use host::{HostFault, RequestHost};
pub use request_target::{RequestFault, RequestTarget, TargetForm};

/// How the bytes of the connection came: decides default ports, `X-Forwarded-Proto` and which absolute-form is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// Inside TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is meant where none is written (RFC 9110 4.2.1, 4.2.2): 80 or 443.
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The head of a request, borrowed; what every check of this module reads.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a http::Method,
    /// The request target as hyper parsed it.
    pub uri: &'a http::Uri,
    /// The protocol version of the message.
    pub version: http::Version,
    /// The fields.
    pub headers: &'a http::HeaderMap,
}

impl<'a> Head<'a> {
    /// The head of a whole request.
    pub fn of<B>(request: &'a http::Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
        }
    }

    /// The head of a request that was taken apart.
    pub fn of_parts(parts: &'a http::request::Parts) -> Self {
        Self {
            method: &parts.method,
            uri: &parts.uri,
            version: parts.version,
            headers: &parts.headers,
        }
    }
}
