//! How an exchange fails, and what the caller may conclude from it.

use std::{error::Error, fmt, io};

/// Any error, as the client's request body reports it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What went wrong on the upstream side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamErrorKind {
    /// The connection ended before the first byte of a response.
    ClosedBeforeResponse,
    /// The connection could not be established, for another reason than a refusal.
    ConnectFailed,
    /// Nobody listens at the endpoint.
    ConnectRefused,
    /// The response head is longer than 64 KiB or has more than 128 fields.
    HeadTooLarge,
    /// The request cannot be expressed in the protocol of the connection; another attempt will not help.
    InvalidRequest,
    /// The backend broke its protocol; the text says how.
    ProtocolError(&'static str),
    /// This process, or the machine, has no file descriptor left.
    OutOfDescriptors,
    /// The backend declared that it did not process the request (HTTP/2 `REFUSED_STREAM`, GOAWAY): safe to repeat.
    Refused,
    /// The client's request body failed or contradicted its announced length.
    RequestBody,
    /// The connection or stream was reset.
    Reset,
    /// The backend's certificate did not verify.
    TlsCertificate,
    /// The TLS handshake failed otherwise.
    TlsFailed,
    /// The request asks for an upgrade on a connection that cannot switch protocols (HTTP/2).
    UpgradeUnsupported,
}

impl fmt::Display for UpstreamErrorKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ClosedBeforeResponse => "the backend closed the connection before it answered",
            Self::ConnectFailed => "the backend could not be connected to",
            Self::ConnectRefused => "the backend refused the connection",
            Self::HeadTooLarge => "the backend's response head is too large",
            Self::InvalidRequest => "the request cannot be sent to the backend",
            Self::OutOfDescriptors => "no file descriptor is left for a connection to the backend",
            Self::ProtocolError(text) => return write!(formatter, "the backend broke its protocol: {text}"),
            Self::Refused => "the backend did not process the request",
            Self::RequestBody => "the client's request body failed",
            Self::Reset => "the backend reset the connection",
            Self::TlsCertificate => "the backend's certificate did not verify",
            Self::TlsFailed => "the TLS handshake with the backend failed",
            Self::UpgradeUnsupported => "the backend's protocol knows no upgrade",
        })
    }
}

/// Why [`connect`](super::connect) failed. Retryable for any method: no request byte was written.
#[derive(Debug)]
pub struct UpstreamError {
    /// What went wrong.
    pub kind: UpstreamErrorKind,
    /// What the layer below said.
    pub source: Option<BoxError>,
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(formatter)
    }
}

impl Error for UpstreamError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// How much of the request went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing that the backend can have processed: safe to repeat whatever the method.
    Nothing,
    /// At least one byte of the request was written.
    Some,
}

/// Why an exchange gave no response. The connection is closed.
pub struct SendError<B> {
    /// What went wrong.
    pub kind: UpstreamErrorKind,
    /// How much of the request went out.
    pub sent: Sent,
    /// Whether any byte of a response (an interim one too) had arrived; never repeat the request then.
    pub response_started: bool,
    /// The request body, when no frame of it was taken.
    pub body: Option<B>,
    /// What the layer below said.
    pub source: Option<BoxError>,
}

impl<B> fmt::Debug for SendError<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SendError")
            .field("kind", &self.kind)
            .field("sent", &self.sent)
            .field("response_started", &self.response_started)
            .field("body_untouched", &self.body.is_some())
            .field("source", &self.source)
            .finish()
    }
}

impl<B> fmt::Display for SendError<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(formatter)
    }
}

/// Why a response body broke off. Never retryable: the client has seen the head.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The HTTP/2 stream or connection failed.
    #[error("the backend's HTTP/2 stream failed")]
    Http2(#[source] h2::Error),
    /// Reading from the backend failed.
    #[error("reading the backend's response failed")]
    Io(#[source] io::Error),
    /// The backend broke the framing; the text says how.
    #[error("the backend broke its protocol: {0}")]
    Protocol(&'static str),
    /// The client's request body failed while the response was under way.
    #[error("the client's request body failed")]
    RequestBody(#[source] BoxError),
    /// The connection ended before the body was complete.
    #[error("the backend's response was cut short")]
    Truncated,
}
