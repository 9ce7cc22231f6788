//! An HTTP/2 connection that gRPC calls go over.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tower::Service;

/// Origin of the requests; the connection is already made, so that it names nothing.
pub(crate) const ORIGIN: &str = "http://propylon-controller";

/// How often the peer is asked whether it is there, and how long it may take to say so.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Sends requests over a connection.
pub(crate) struct Channel(http2::SendRequest<Body>);

/// Opens HTTP/2 over a byte stream. The second future drives the connection, and ends with it.
pub(crate) async fn open<IO>(
    io: IO,
) -> Result<(Channel, impl Future<Output = Result<(), hyper::Error>> + Send), hyper::Error>
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(2 << 20);
    let (sender, connection) = builder.handshake(TokioIo::new(io)).await?;
    Ok((Channel(sender), connection))
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
