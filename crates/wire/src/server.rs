//! The controller's end: gRPC over HTTP/2 over any byte stream.

mod driver;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::stream::{BoxStream, StreamExt};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{Status, Streaming, body::Body, codec::Codec, server::Grpc};
use tonic_prost::ProstCodec;
use tower::Service;

use self::driver::{Driver, Progress};
use crate::{
    client::{STREAM, channel::KEEP_ALIVE},
    identity::{self, ISSUE, IssueError, IssueRequest, IssueResponse, Issuer},
    message::{Request, Response},
    proxy::ProxyIdentity,
    publisher::Publisher,
    session::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES},
};

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Somebody without a client certificate, who may ask for one and nothing else.
    Anonymous,
    /// A proxy, as its client certificate says.
    Proxy(ProxyIdentity),
}

/// Why serving a connection ended.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The connection failed. The proxy comes back by itself.
    #[error("the connection failed: {0}")]
    Connection(#[from] hyper::Error),
    /// The proxy read nothing for 60 s though there was something for it.
    #[error("the proxy reads nothing")]
    Stalled,
}

/// Serves the stream, and the issuing of certificates where there is an issuer.
#[derive(Clone)]
pub struct Server {
    publisher: Publisher,
    issuer: Option<Arc<dyn Issuer>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Server({:?})", self.publisher)
    }
}

impl Server {
    /// Serves the stream of a publisher.
    pub const fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            issuer: None,
        }
    }

    /// Serves certificates too.
    #[must_use]
    pub fn with_issuer(self, issuer: Arc<dyn Issuer>) -> Self {
        Self {
            issuer: Some(issuer),
            ..self
        }
    }

    /// Serves one connection until it ends.
    ///
    /// # Errors
    /// When the connection fails or the peer stops reading; the proxy comes back by itself.
    ///
    /// # Cancel safety
    /// Dropping it cuts the connection.
    pub async fn serve<IO>(&self, io: IO, peer: Peer) -> Result<(), ServeError>
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let progress = Progress::default();
        let service = service_fn(|request| {
            let call = Call {
                server: self.clone(),
                peer: peer.clone(),
                progress: progress.clone(),
            };
            call.answer(request)
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .max_concurrent_streams(4)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 20)
            .max_send_buf_size(256 << 10);
        let connection = pin!(builder.serve_connection(TokioIo::new(io), service));
        tokio::select! {
            ended = connection => Ok(ended?),
            () = progress.stalled(STALL) => Err(ServeError::Stalled),
        }
    }
}

/// Serves the stream to one proxy until the connection ends; [`Server`] does more.
///
/// # Errors
/// As [`Server::serve`].
pub async fn serve<IO>(io: IO, peer: ProxyIdentity, publisher: &Publisher) -> Result<(), ServeError>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    Server::new(publisher.clone()).serve(io, Peer::Proxy(peer)).await
}

/// How long a proxy may leave what is sent to it unread.
const STALL: Duration = Duration::from_mins(1);

/// How long the issuer may take.
const ISSUING: Duration = Duration::from_secs(10);

/// One call.
#[derive(Clone)]
struct Call {
    server: Server,
    peer: Peer,
    progress: Progress,
}

impl Call {
    async fn answer(self, request: http::Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
        let response = match request.uri().path() {
            STREAM => {
                grpc::<Request, Response>(MAX_REQUEST_BYTES)
                    .streaming(self, request)
                    .await
            }
            ISSUE => {
                grpc::<IssueRequest, IssueResponse>(identity::MAX_BYTES)
                    .unary(self, request)
                    .await
            }
            path => Status::unimplemented(format!("no method {path}")).into_http(),
        };
        Ok(response)
    }

    fn stream(self, inbound: Streaming<Request>) -> Result<BoxStream<'static, Result<Response, Status>>, Status> {
        let Peer::Proxy(identity) = self.peer else {
            return Err(Status::unauthenticated(
                "the stream needs a client certificate of a proxy; buy one by propylon.v1.Identity/Issue first",
            ));
        };
        let driver = Driver::new(&self.server.publisher, identity, inbound, self.progress);
        Ok(driver.into_stream().boxed())
    }

    async fn issue(self, request: IssueRequest) -> Result<IssueResponse, IssueError> {
        let issuer = self.server.issuer.as_ref();
        let issuer = issuer.ok_or_else(|| IssueError::Unavailable("this port issues no certificates".to_owned()))?;
        match tokio::time::timeout(ISSUING, issuer.issue(&self.peer, request)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(IssueError::Unavailable(
                "the certificate took longer than 10 s".to_owned(),
            )),
        }
    }
}

fn grpc<D, E>(most_bytes: usize) -> Grpc<ProstCodec<E, D>>
where
    D: prost::Message + Default + Send + 'static,
    E: prost::Message + Send + 'static,
    ProstCodec<E, D>: Codec<Encode = E, Decode = D>,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(most_bytes)
        .max_encoding_message_size(MAX_RESPONSE_BYTES)
}

impl Service<tonic::Request<Streaming<Request>>> for Call {
    type Response = tonic::Response<BoxStream<'static, Result<Response, Status>>>;
    type Error = Status;
    type Future = Ready<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<Streaming<Request>>) -> Self::Future {
        ready(self.clone().stream(request.into_inner()).map(tonic::Response::new))
    }
}

impl Service<tonic::Request<IssueRequest>> for Call {
    type Response = tonic::Response<IssueResponse>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::Request<IssueRequest>) -> Self::Future {
        let answer = self.clone().issue(request.into_inner());
        Box::pin(async { Ok(tonic::Response::new(answer.await?)) })
    }
}
