//! `propylon.v1.Identity/Issue`: a proxy buys its client certificate, once, with a token of its `ServiceAccount`.
//!
//! The method is served on the port of the stream, over TLS that authenticates the controller only. Who signs, and who
//! checks the token, is the controller's matter: it implements [`Issuer`].

use std::{fmt, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use http::uri::PathAndQuery;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{Code, Status, client::Grpc};
use tonic_prost::ProstCodec;

use crate::{client::channel, server::Peer};

/// The method.
pub(crate) const ISSUE: &str = "/propylon.v1.Identity/Issue";

/// Largest message of either side, in bytes: the one who asks is not known yet.
pub(crate) const MAX_BYTES: usize = 64 << 10;

/// Asks for a certificate.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct IssueRequest {
    /// The projected token of the pod, audience `propylon-controller`.
    #[prost(string, tag = "1")]
    pub token: String,
    /// The certificate signing request, PKCS#10 DER.
    #[prost(bytes = "bytes", tag = "2")]
    pub csr_der: Bytes,
    /// The node that the proxy runs on, where the token does not say it.
    #[prost(string, tag = "3")]
    pub node: String,
}

/// Without the token.
impl fmt::Debug for IssueRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "IssueRequest(node {:?}, token redacted)", self.node)
    }
}

/// A certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IssueResponse {
    /// The chain, leaf first, each DER.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub chain_der: Vec<Bytes>,
    /// End of the leaf's validity, Unix time in seconds.
    #[prost(int64, tag = "2")]
    pub not_after_unix_s: i64,
    /// Begin of the leaf's validity, Unix time in seconds; 0 where unknown.
    #[prost(int64, tag = "3")]
    pub not_before_unix_s: i64,
    /// The controller's clock, Unix time in seconds, so that a proxy notices that its own differs; 0 where unknown.
    #[prost(int64, tag = "4")]
    pub now_unix_s: i64,
}

/// Why no certificate was issued.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IssueError {
    /// The token is not good, or names no proxy. Not retryable with this token.
    #[error("refused: {0}")]
    Denied(String),
    /// The request cannot be read. Not retryable.
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The token cannot be checked or the certificate not signed now, or the controller cannot be reached. Retryable.
    #[error("not available: {0}")]
    Unavailable(String),
}

impl From<IssueError> for Status {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Denied(message) => Self::permission_denied(message),
            IssueError::Invalid(message) => Self::invalid_argument(message),
            IssueError::Unavailable(message) => Self::unavailable(message),
        }
    }
}

impl From<Status> for IssueError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::InvalidArgument => Self::Invalid(message),
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied(message),
            Code::Unimplemented => Self::Unavailable("this controller issues no certificates".to_owned()),
            _ => Self::Unavailable(message),
        }
    }
}

/// A boxed answer.
pub type IssueFuture<'a> = Pin<Box<dyn Future<Output = Result<IssueResponse, IssueError>> + Send + 'a>>;

/// Checks a token and signs a certificate.
pub trait Issuer: Send + Sync + 'static {
    /// Answers a request of `peer`; given up after 10 s. A proxy that renews its certificate comes with the present one.
    fn issue<'a>(&'a self, peer: &'a Peer, request: IssueRequest) -> IssueFuture<'a>;
}

/// Asks for a certificate over a connection that authenticated the controller.
///
/// # Errors
/// As [`IssueError`] says; a connection that fails, or 15 s without an answer, is [`IssueError::Unavailable`].
pub async fn issue<IO>(io: IO, request: IssueRequest) -> Result<IssueResponse, IssueError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let exchange = async {
        let (channel, connection) = channel::open(io).await.map_err(unavailable)?;
        let mut grpc = Grpc::with_origin(channel, http::Uri::from_static(channel::ORIGIN));
        let ask = async {
            grpc.ready().await.map_err(unavailable)?;
            let path = PathAndQuery::from_static(ISSUE);
            let answer = grpc.unary(tonic::Request::new(request), path, ProstCodec::default());
            answer.await.map(tonic::Response::into_inner).map_err(IssueError::from)
        };
        tokio::select! {
            answer = ask => answer,
            ended = connection => Err(unavailable(ended.err().map_or_else(
                || "the controller closed the connection".to_owned(),
                |error| error.to_string(),
            ))),
        }
    };
    match tokio::time::timeout(ANSWER, exchange).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(unavailable("no answer of the controller within 15 s")),
    }
}

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);

fn unavailable(error: impl fmt::Display) -> IssueError {
    IssueError::Unavailable(error.to_string())
}
