//! The response head of HTTP/1: parsed strictly, freed of what belongs to the connection.

use std::{mem::MaybeUninit, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    UpstreamErrorKind,
    fields::{is_hop_by_hop, list_items, may_be_nominated},
};

/// The longest response head, in bytes.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024 - 1;
/// The most fields in a response head.
pub(super) const MAX_FIELDS: usize = 128;

/// How the response body is delimited (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFraming {
    /// In chunks.
    Chunked,
    /// Until the connection ends.
    Close,
    /// Exactly so many bytes, at least one.
    Exact(u64),
    /// There is no body.
    None,
}

/// A response head, end-to-end fields only.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The fields; values are slices of the bytes that were read.
    pub headers: HeaderMap,
    /// How the body is delimited.
    pub framing: ResponseFraming,
    /// Whether the connection may serve another request after this response.
    pub persistent: bool,
    /// How long the backend says it keeps the connection (`Keep-Alive: timeout`).
    pub keep_alive: Option<Duration>,
}

/// Why a response head is refused. Not retryable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// The head breaks RFC 9112; the text says how.
    Malformed(&'static str),
    /// The head is longer than 64 KiB or has more than 128 fields.
    TooLarge,
}

impl From<HeadError> for UpstreamErrorKind {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed(text) => Self::ProtocolError(text),
            HeadError::TooLarge => Self::HeadTooLarge,
        }
    }
}

/// Takes one response head from the front of `buffer`; `None` when it is not complete yet (the buffer is unchanged).
///
/// # Errors
/// When the head breaks RFC 9112, its framing is in doubt, or it is too large.
pub fn parse_response_head(buffer: &mut BytesMut, request: &Method) -> Result<Option<ResponseHead>, HeadError> {
    let mut spans = [Span::default(); MAX_FIELDS];
    let Some(outline) = outline(buffer, &mut spans)? else {
        if buffer.len() >= MAX_HEAD_BYTES {
            return Err(HeadError::TooLarge);
        }
        return Ok(None);
    };
    let head = buffer.split_to(outline.length).freeze();
    let mut collector = Collector::new(outline.fields);
    for span in spans.iter().take(outline.fields) {
        let name = head
            .get(usize::from(span.name)..usize::from(span.name_end))
            .unwrap_or_default();
        let name = HeaderName::from_bytes(name).map_err(|_| HeadError::Malformed("invalid field name"))?;
        collector.field(name, head.slice(usize::from(span.value)..usize::from(span.value_end)))?;
    }
    collector.finish(outline.status, outline.is_http_11, request).map(Some)
}

/// Where a field lies in the head; heads are shorter than 64 KiB.
#[derive(Clone, Copy, Default)]
struct Span {
    name: u16,
    name_end: u16,
    value: u16,
    value_end: u16,
}

struct Outline {
    length: usize,
    fields: usize,
    status: StatusCode,
    is_http_11: bool,
}

fn outline(buffer: &[u8], spans: &mut [Span; MAX_FIELDS]) -> Result<Option<Outline>, HeadError> {
    // httparse would skip empty lines before the status line; a backend that sends them is out of step.
    if buffer.first().is_some_and(|byte| *byte != b'H') {
        return Err(HeadError::Malformed("invalid status line"));
    }
    let window = buffer.get(..MAX_HEAD_BYTES).unwrap_or(buffer);
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, window, &mut fields);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(head_error(error)),
    };
    let base = window.as_ptr().addr();
    let offset = |bytes: &[u8]| u16::try_from(bytes.as_ptr().addr() - base).unwrap_or(0);
    for (span, field) in spans.iter_mut().zip(response.headers.iter()) {
        let (name, value) = (offset(field.name.as_bytes()), offset(field.value));
        *span = Span {
            name,
            name_end: name + u16::try_from(field.name.len()).unwrap_or(0),
            value,
            value_end: value + u16::try_from(field.value.len()).unwrap_or(0),
        };
    }
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    Ok(Some(Outline {
        length,
        fields: response.headers.len(),
        status: status.ok_or(HeadError::Malformed("invalid status code"))?,
        is_http_11: response.version == Some(1),
    }))
}

fn head_error(error: httparse::Error) -> HeadError {
    HeadError::Malformed(match error {
        httparse::Error::HeaderName => "invalid field name",
        httparse::Error::HeaderValue => "invalid field value",
        httparse::Error::NewLine => "invalid line end",
        httparse::Error::Status | httparse::Error::Token => "invalid status line",
        httparse::Error::TooManyHeaders => return HeadError::TooLarge,
        httparse::Error::Version => "invalid HTTP version",
    })
}

/// Gathers the fields and what they say about framing and the connection.
struct Collector {
    headers: HeaderMap,
    /// Values of Connection that name a field; rare.
    nominations: Vec<Bytes>,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    keep_alive_timeout: Option<Duration>,
    upgrade: Option<HeaderValue>,
}

impl Collector {
    fn new(fields: usize) -> Self {
        Self {
            headers: HeaderMap::with_capacity(fields),
            nominations: Vec::new(),
            length: None,
            chunked: false,
            close: false,
            keep_alive: false,
            keep_alive_timeout: None,
            upgrade: None,
        }
    }

    fn field(&mut self, name: HeaderName, value: Bytes) -> Result<(), HeadError> {
        if name == header::CONTENT_LENGTH {
            if self.length.is_some() {
                return Err(HeadError::Malformed("repeated Content-Length"));
            }
            self.length = Some(parse_length(&value).ok_or(HeadError::Malformed("invalid Content-Length"))?);
        } else if is_hop_by_hop(name.as_str().as_bytes()) {
            return self.hop_by_hop(&name, value);
        }
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| HeadError::Malformed("invalid field value"))?;
        self.headers.append(name, value);
        Ok(())
    }

    fn hop_by_hop(&mut self, name: &HeaderName, value: Bytes) -> Result<(), HeadError> {
        match name.as_str() {
            "connection" => self.connection(value),
            "keep-alive" => self.keep_alive_timeout = parse_keep_alive(&value).or(self.keep_alive_timeout),
            "transfer-encoding" => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::Malformed("unsupported Transfer-Encoding"));
                }
                self.chunked = true;
            }
            "upgrade" => {
                self.upgrade = HeaderValue::from_maybe_shared(value).ok();
            }
            _ => {}
        }
        Ok(())
    }

    fn connection(&mut self, value: Bytes) {
        let mut names_fields = false;
        for option in list_items(&value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else {
                names_fields = true;
            }
        }
        if names_fields {
            self.nominations.push(value);
        }
    }

    fn finish(mut self, status: StatusCode, is_http_11: bool, request: &Method) -> Result<ResponseHead, HeadError> {
        if self.chunked && self.length.is_some() {
            return Err(HeadError::Malformed("Content-Length beside Transfer-Encoding"));
        }
        if self.chunked && !is_http_11 {
            return Err(HeadError::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        let mut persistent = if is_http_11 {
            !self.close
        } else {
            self.keep_alive && !self.close
        };
        let framing = if is_bodiless(status) {
            // RFC 9110 8.6, RFC 9112 6.1: such a response carries no framing fields; what follows is in doubt.
            let forbidden = status != StatusCode::NOT_MODIFIED;
            persistent &= !(forbidden && (self.chunked || self.length.is_some_and(|length| length > 0)));
            if forbidden {
                self.headers.remove(header::CONTENT_LENGTH);
            }
            ResponseFraming::None
        } else if *request == Method::HEAD {
            ResponseFraming::None
        } else if self.chunked {
            ResponseFraming::Chunked
        } else {
            match self.length {
                Some(0) => ResponseFraming::None,
                Some(length) => ResponseFraming::Exact(length),
                None => {
                    persistent = false;
                    ResponseFraming::Close
                }
            }
        };
        self.strip(status, framing);
        Ok(ResponseHead {
            status,
            headers: self.headers,
            framing,
            persistent,
            keep_alive: self.keep_alive_timeout,
        })
    }

    /// Removes what `Connection` names and fields that say something about this connection only.
    fn strip(&mut self, status: StatusCode, framing: ResponseFraming) {
        for nomination in &self.nominations {
            for option in list_items(nomination) {
                let name = option.to_ascii_lowercase();
                if may_be_nominated(&name)
                    && let Ok(name) = HeaderName::from_lowercase(&name)
                {
                    self.headers.remove(name);
                }
            }
        }
        if framing != ResponseFraming::Chunked {
            self.headers.remove(header::TRAILER);
        }
        // 426 must say what to upgrade to (RFC 9110 15.5.22).
        if matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED)
            && let Some(protocol) = self.upgrade.take()
        {
            self.headers.insert(header::UPGRADE, protocol);
        }
    }
}

/// Whether a status never has a body (RFC 9110 15).
pub(super) fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// 1*DIGIT (RFC 9110 8.6), nothing else: no sign, no list.
pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 20 {
        return None;
    }
    value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

fn parse_keep_alive(value: &[u8]) -> Option<Duration> {
    list_items(value).find_map(|item| {
        let item = std::str::from_utf8(item).ok()?;
        let (name, seconds) = item.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("timeout") {
            return None;
        }
        seconds.trim().parse().ok().map(Duration::from_secs)
    })
}
