//! The downstream HTTP engines: hyper's, driven so that the sweep can end, drain or hand over a connection.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::{
    config::{Config, Limits},
    connection_state::{ClientIo, ConnectionState, Kill, Phase},
    observe,
    reason::Reason,
    spine, tunnel,
    worker::Worker,
};

/// The protocol of a connection, decided before HTTP begins: ALPN on TLS, the preface on plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// hyper's settings, made once per worker.
pub(crate) struct Builders {
    http1: http1::Builder,
    http2: http2::Builder<LocalExecutor>,
}

impl Builders {
    pub(crate) fn new(config: &Config) -> Self {
        let limits = &config.limits;
        let http1 = http1_builder(limits);
        let mut http2 = http2::Builder::new(LocalExecutor);
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.h2_max_streams)
            .max_header_list_size(limits.max_header_bytes)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(100)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_send_buf_size(H2_SEND_BUFFER)
            .enable_connect_protocol();
        Self { http1, http2 }
    }
}

/// How HTTP/1.1 is read.
pub(crate) fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    // The sweep owns the deadline of the head: hyper's timer costs 8 % of a request (measured).
    // No `pipeline_flush`: hyper then buffers bodies without bound, and does not send its 400 while bytes are unread.
    http1.header_read_timeout(None).max_buf_size(H1_BUFFER);
    http1
        .max_headers(limits.max_headers as usize)
        .max_header_size(limits.max_header_bytes as usize);
    http1
}

/// Spawns on the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor
where
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// How a connection ended.
enum End {
    Done(Result<(), hyper::Error>),
    Killed(Kill),
    /// Idle for long enough to keep only the socket.
    Park,
}

/// Serves HTTP on a connection until it ends.
pub(crate) async fn serve_http<S>(worker: &Rc<Worker>, io: ClientIo<S>, protocol: Protocol)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match protocol {
        // Boxed once per connection, so that neither pays for the size of the other.
        Protocol::Http1 => Box::pin(serve_http1(worker, io)).await,
        Protocol::Http2 => Box::pin(serve_http2(worker, io)).await,
    }
}

async fn serve_http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(worker: &Rc<Worker>, mut io: ClientIo<S>) {
    let state = Rc::clone(&io.state);
    loop {
        let service = {
            let (worker, state) = (Rc::clone(worker), Rc::clone(&state));
            service_fn(move |request: hyper::Request<Incoming>| {
                spine::serve(Rc::clone(&worker), Rc::clone(&state), request)
            })
        };
        let mut connection = Box::new(worker.builders.http1.serve_connection(TokioIo::new(io), service));
        let end = drive(&state, &mut *connection, http1::Connection::graceful_shutdown).await;
        if let End::Killed(kill) = end
            && !(kill == Kill::HeaderTimeout && state.head_bytes.get())
        {
            return tracing::debug!(?kill, "HTTP/1.1 connection ended");
        }
        if let End::Done(Err(error)) = end {
            if error.is_parse() {
                observe::refused(worker, &state, refusal(&error));
            }
            return tracing::debug!(%error, "HTTP/1.1 connection failed");
        }
        let parts = connection.into_parts();
        io = parts.io.into_inner();
        match end {
            End::Park => {
                // An empty buffer would keep its allocation for as long as the connection is parked.
                io.prefix = if parts.read_buf.is_empty() {
                    Bytes::new()
                } else {
                    parts.read_buf
                };
                if !parked(&state, &mut io).await {
                    return;
                }
            }
            End::Killed(_) => {
                observe::refused(worker, &state, Reason::HeaderTimeout);
                // Best effort: a client this slow may not read it either.
                drop(tokio::time::timeout(FAREWELL, farewell(&mut io)).await);
                return;
            }
            End::Done(_) => {
                let pending = state.tunnel.take();
                if let Some(pending) = pending {
                    Box::pin(tunnel::run(pending, io, parts.read_buf)).await;
                }
                return;
            }
        }
    }
}

/// Waits for the next request of an idle connection without hyper's state (about 16 KiB); true when bytes are there.
async fn parked<S: AsyncRead + Unpin>(state: &ConnectionState, io: &mut ClientIo<S>) -> bool {
    state.parked.set(true);
    let next = poll_fn(|context| {
        state.register(context);
        if state.kill.get().is_some() || state.drain.get() {
            return Poll::Ready(false);
        }
        if !io.prefix.is_empty() {
            return Poll::Ready(true);
        }
        let mut bytes = [0_u8; UNPARK_READ];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(&mut *io).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => {
                io.prefix = Bytes::copy_from_slice(buffer.filled());
                Poll::Ready(!io.prefix.is_empty())
            }
            Poll::Ready(Err(_)) => Poll::Ready(false),
        }
    })
    .await;
    state.parked.set(false);
    next
}

async fn serve_http2<S: AsyncRead + AsyncWrite + Unpin + 'static>(worker: &Rc<Worker>, io: ClientIo<S>) {
    let state = Rc::clone(&io.state);
    state.phase.set(Phase::Idle);
    let service = {
        let (worker, state) = (Rc::clone(worker), Rc::clone(&state));
        // Boxed: hyper moves the future of a stream seven times.
        service_fn(move |request: hyper::Request<Incoming>| {
            Box::pin(spine::serve(Rc::clone(&worker), Rc::clone(&state), request))
        })
    };
    let mut connection = worker.builders.http2.serve_connection(TokioIo::new(io), service);
    match drive(&state, &mut connection, http2::Connection::graceful_shutdown).await {
        End::Done(Ok(())) | End::Park => {}
        End::Done(Err(error)) => tracing::debug!(%error, "HTTP/2 connection failed"),
        End::Killed(kill) => tracing::debug!(?kill, "HTTP/2 connection ended"),
    }
}

/// Polls a connection until it is done, told to drain (once) or killed by the sweep.
async fn drive<C>(state: &ConnectionState, connection: &mut C, mut drain: impl FnMut(Pin<&mut C>)) -> End
where
    C: Future<Output = Result<(), hyper::Error>> + Unpin,
{
    let mut draining = false;
    poll_fn(|context| {
        state.register(context);
        if let Some(kill) = state.kill.get() {
            return Poll::Ready(End::Killed(kill));
        }
        if state.park.take() {
            return Poll::Ready(End::Park);
        }
        if state.drain.get() && !draining {
            draining = true;
            drain(Pin::new(connection));
        }
        Pin::new(&mut *connection).poll(context).map(End::Done)
    })
    .await
}

/// The reason of a head that hyper itself answered with 400 or 431.
pub(crate) fn refusal(error: &hyper::Error) -> Reason {
    if error.is_parse_too_large() {
        Reason::HeadersTooLarge
    } else {
        Reason::RequestInvalid
    }
}

async fn farewell<S: AsyncWrite + Unpin>(io: &mut ClientIo<S>) -> io::Result<()> {
    io.write_all(REQUEST_TIMEOUT).await?;
    io.shutdown().await
}

/// How long a last word may take.
const FAREWELL: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\nproxy-status: propylon; error=http_request_error; details=\"header_timeout\"\r\n\r\n";
/// What is read at once when a parked connection wakes; the rest is read by hyper.
const UNPARK_READ: usize = 2048;
/// Enough for the longest head and a few body frames.
const H1_BUFFER: usize = 128 * 1024;
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const H2_SEND_BUFFER: usize = 64 * 1024;
