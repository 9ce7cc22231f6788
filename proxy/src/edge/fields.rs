//! One pass over the fields of a request: what must be refused, and what the spine wants to know.
//!
//! hyper 1.12 and h2 0.4.20 already refuse, so nothing here repeats it:
//!
//! * HTTP/1: bad characters in names and values, NUL, obs-fold, white space before the colon, `Content-Length` that is no
//!   number or repeated with another value, `Transfer-Encoding` in HTTP/1.0 or without `chunked` as the last coding; and
//!   they repair `Content-Length` beside `Transfer-Encoding` (the former is dropped, the connection closed afterwards),
//!   equal repeats of `Content-Length` (one is kept) and bare LF line ends.
//! * HTTP/2: `connection`, `keep-alive`, `proxy-connection`, `transfer-encoding`, `upgrade`, `te` other than `trailers`,
//!   upper case in names, pseudo-fields that are repeated, unknown or behind others, `content-length` that disagrees with
//!   its repeats or with the body; all of them reset the stream.
//!
//! What is left for [`check`]: `chunked, chunked` and other lists of codings, white space around HTTP/2 values, and the
//! limits, which hyper counts in other ways. Which fields pass on is decided where the request to the backend is written
//! ([`crate::upstream::RequestHead`]), not here.

use http::{HeaderName, HeaderValue, StatusCode, Version};
use thiserror::Error;

use super::Head;

/// Limits on a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Number of fields, every repeat and every HTTP/2 cookie crumb counted; beyond it 431. Default 100.
    pub max_headers: usize,
    /// Bytes of names and values plus 32 for each field (RFC 9113 10.5.1); beyond it 431. Default 32 KiB.
    pub max_header_bytes: usize,
    /// Bytes of the request target; beyond it 414. Default 16 KiB.
    pub max_uri_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_headers: 100,
            max_header_bytes: 32 << 10,
            max_uri_bytes: 16 << 10,
        }
    }
}

/// Why the fields of a request are refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum FieldFault {
    /// `Content-Length` that is no number or says two things.
    #[error("bad content length")]
    ContentLength,
    /// More bytes of fields than the limit.
    #[error("the fields are larger than allowed")]
    TooLarge,
    /// More fields than the limit.
    #[error("there are more fields than allowed")]
    TooMany,
    /// `Transfer-Encoding` that is not the one token `chunked` (RFC 9112 6.1; anything else is framing in doubt).
    #[error("transfer encoding is not exactly chunked")]
    TransferEncoding,
    /// A request target longer than the limit.
    #[error("the request target is longer than allowed")]
    UriTooLong,
    /// White space around a value in HTTP/2 (RFC 9113 8.2.1).
    #[error("white space around a field value")]
    Whitespace,
}

impl FieldFault {
    /// The status to answer with where an answer is sent: 400, 414 or 431.
    pub fn status(self) -> StatusCode {
        match self {
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::TooLarge | Self::TooMany => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::ContentLength | Self::TransferEncoding | Self::Whitespace => StatusCode::BAD_REQUEST,
        }
    }

    /// A short stable name, for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::ContentLength => "content-length",
            Self::TooLarge => "fields-too-large",
            Self::TooMany => "too-many-fields",
            Self::TransferEncoding => "transfer-encoding",
            Self::UriTooLong => "uri-too-long",
            Self::Whitespace => "field-whitespace",
        }
    }
}

/// The protocol that an HTTP/1.1 request asks to upgrade to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upgrade {
    /// `h2c`, which is never passed on (deprecated by RFC 9113 3.1, and a way around a proxy's rules).
    H2c,
    /// Any other protocol.
    Other,
    /// `websocket` (RFC 6455).
    WebSocket,
}

/// What one pass over the fields found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one message, each read by another stage"
)]
pub struct Facts {
    /// `Transfer-Encoding: chunked`.
    pub chunked: bool,
    /// The value of `Content-Length`; equal repeats count once.
    pub content_length: Option<u64>,
    /// `Expect: 100-continue` in HTTP/1.1 or HTTP/2.
    pub expect_continue: bool,
    /// Bytes of names and values plus 32 for each field.
    pub field_bytes: usize,
    /// Number of fields.
    pub field_count: usize,
    /// `Content-Type: application/grpc` or a subtype of it.
    pub grpc: bool,
    /// `Max-Forwards` is there (it counts for OPTIONS only; TRACE is refused).
    pub max_forwards: bool,
    /// `TE` holds `trailers`.
    pub te_trailers: bool,
    /// `Upgrade` together with `Connection: upgrade`, in HTTP/1.1.
    pub upgrade: Option<Upgrade>,
    upgrade_field: Option<Upgrade>,
    connection_upgrade: bool,
}

/// Checks the target length and every field once.
///
/// # Errors
/// The first [`FieldFault`]. Not retryable.
///
/// # Cost
/// Linear in the number of fields; allocates nothing.
pub fn check(head: &Head<'_>, limits: &Limits) -> Result<Facts, FieldFault> {
    if uri_bytes(head.uri) > limits.max_uri_bytes {
        return Err(FieldFault::UriTooLong);
    }
    if head.headers.len() > limits.max_headers {
        return Err(FieldFault::TooMany);
    }
    let mut facts = Facts {
        field_count: head.headers.len(),
        ..Facts::default()
    };
    for (name, value) in head.headers {
        facts.field_bytes += name.as_str().len() + value.len() + FIELD_OVERHEAD;
        facts.note(name, value, head.version)?;
        if head.version == Version::HTTP_2 && is_padded(value.as_bytes()) {
            return Err(FieldFault::Whitespace);
        }
    }
    if facts.field_bytes > limits.max_header_bytes {
        return Err(FieldFault::TooLarge);
    }
    if facts.connection_upgrade && head.version == Version::HTTP_11 {
        facts.upgrade = facts.upgrade_field;
    }
    if head.version == Version::HTTP_10 {
        facts.expect_continue = false;
    }
    Ok(facts)
}

impl Facts {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue, version: Version) -> Result<(), FieldFault> {
        // By length first: most fields are none of these, and leave after one comparison.
        let text = name.as_str();
        match text.len() {
            2 if text == "te" => self.te_trailers |= has_token(value, b"trailers"),
            6 if text == "expect" => self.expect_continue = value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            7 if text == "upgrade" => self.note_upgrade(value),
            10 if text == "connection" => self.connection_upgrade |= has_token(value, b"upgrade"),
            12 if text == "content-type" => self.grpc = is_grpc(value.as_bytes()),
            12 if text == "max-forwards" => self.max_forwards = true,
            14 if text == "content-length" => self.note_length(value)?,
            17 if text == "transfer-encoding" => self.note_coding(value, version)?,
            _ => {}
        }
        Ok(())
    }

    fn note_upgrade(&mut self, value: &HeaderValue) {
        for token in tokens(value) {
            let upgrade = if token.eq_ignore_ascii_case(b"websocket") {
                Upgrade::WebSocket
            } else if token.eq_ignore_ascii_case(b"h2c") {
                Upgrade::H2c
            } else {
                Upgrade::Other
            };
            // A list that names h2c anywhere is treated as h2c: a backend may choose any of its members.
            self.upgrade_field = match (self.upgrade_field, upgrade) {
                (Some(Upgrade::H2c), _) | (_, Upgrade::H2c) => Some(Upgrade::H2c),
                (None, first) => Some(first),
                (Some(_), _) => Some(Upgrade::Other),
            };
        }
    }

    fn note_length(&mut self, value: &HeaderValue) -> Result<(), FieldFault> {
        let length = parse_length(value.as_bytes()).ok_or(FieldFault::ContentLength)?;
        if self.content_length.is_some_and(|before| before != length) {
            return Err(FieldFault::ContentLength);
        }
        self.content_length = Some(length);
        Ok(())
    }

    fn note_coding(&mut self, value: &HeaderValue, version: Version) -> Result<(), FieldFault> {
        let one = !self.chunked && value.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !one || version != Version::HTTP_11 {
            return Err(FieldFault::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }
}

fn has_token(value: &HeaderValue, wanted: &[u8]) -> bool {
    tokens(value).any(|token| token.eq_ignore_ascii_case(wanted))
}

/// The members of a comma-separated list, without white space around them; empty ones left out (RFC 9110 5.6.1).
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

fn parse_length(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn is_grpc(value: &[u8]) -> bool {
    let prefix = b"application/grpc";
    let Some((head, rest)) = value.split_at_checked(prefix.len()) else {
        return false;
    };
    head.eq_ignore_ascii_case(prefix) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

fn is_padded(value: &[u8]) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    blank(value.first()) || blank(value.last())
}

fn uri_bytes(uri: &http::Uri) -> usize {
    let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
    path + uri.authority().map_or(0, |authority| authority.as_str().len())
}

/// What RFC 9113 10.5.1 adds to the size of each field.
const FIELD_OVERHEAD: usize = 32;

#[cfg(test)]
mod tests;
