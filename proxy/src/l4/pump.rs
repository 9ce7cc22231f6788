//! Bytes in both directions between a client and an endpoint, in constant memory.
//!
//! An idle direction owns no memory: reads go into one buffer of the worker and on from there at once; only what the sink
//! does not take is kept. A direction that moves much moves it by `splice(2)`, through a pipe that it holds while bytes
//! are in it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{End, lifetime::Lifetime, local::LocalL4, observe::Record, splice::Pipe};

/// A byte stream that may be a plain socket.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {
    /// The socket, where the stream is nothing but one: what `splice` needs.
    fn plain(&self) -> Option<&TcpStream>;
    /// The socket below.
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn plain(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for tokio_rustls::server::TlsStream<TcpStream> {
    fn plain(&self) -> Option<&TcpStream> {
        None
    }

    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Which side of a direction failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Source,
    Sink,
}

/// How bytes are moved next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum How {
    /// By the worker's buffer.
    #[default]
    Copy,
    /// By a pipe: there was more than the buffer could take.
    Splice,
    /// By the buffer for good: the kernel does not splice here.
    CopyOnly,
}

/// One direction: read, then write, then (at the end of the source) shut the sink's sending side.
#[derive(Debug, Default)]
pub(super) struct Direction {
    /// What the sink did not take yet.
    pending: Vec<u8>,
    /// How much of it is sent.
    sent: usize,
    pipe: Option<Pipe>,
    how: How,
    source_ended: bool,
    done: bool,
    bytes: u64,
}

impl Direction {
    /// A direction whose sink gets `first` before anything else.
    pub(super) fn new(first: Vec<u8>) -> Self {
        Self {
            pending: first,
            ..Self::default()
        }
    }

    /// Ready when the source ended and the sink knows it; at most [`BUDGET`] rounds a call, so that others get their turn.
    fn poll<R: Stream, W: Stream>(
        &mut self,
        local: &LocalL4,
        (source, sink): (&mut R, &mut W),
        is_last: bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..BUDGET {
            let step = if self.done {
                return Poll::Ready(Ok(()));
            } else if self.pipe.is_some() {
                self.poll_pipe(local, sink, context)
            } else if !self.pending.is_empty() {
                self.poll_pending(sink, context)
            } else if self.source_ended {
                self.poll_shutdown(sink, is_last, context)
            } else if self.may_splice(source, sink) {
                self.poll_splice(local, source, context)
            } else {
                self.poll_read(local, (source, sink), context)
            };
            match step {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_bulk(&mut self, is_bulk: bool) {
        self.how = match self.how {
            How::CopyOnly => How::CopyOnly,
            _ if is_bulk => How::Splice,
            _ => How::Copy,
        };
    }

    fn may_splice<R: Stream, W: Stream>(&self, source: &R, sink: &W) -> bool {
        self.how == How::Splice && self.bytes >= SPLICE_AFTER && source.plain().is_some() && sink.plain().is_some()
    }

    /// Reads into the worker's buffer and writes from it at once; what is left over is kept.
    fn poll_read<R: Stream, W: Stream>(
        &mut self,
        local: &LocalL4,
        (source, sink): (&mut R, &mut W),
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let mut buffer = local.buffer.borrow_mut();
        let mut read = ReadBuf::new(&mut buffer);
        match Pin::new(source).poll_read(context, &mut read) {
            Poll::Ready(Ok(())) => {}
            // TLS without close_notify: the end, as the peers have it.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Source)),
            Poll::Pending => {
                // What was written must not wait in a buffer below us; on a socket this does nothing.
                if let Poll::Ready(Err(_)) = Pin::new(sink).poll_flush(context) {
                    return Poll::Ready(Err(Broken::Sink));
                }
                return Poll::Pending;
            }
        }
        let mut rest = read.filled();
        self.source_ended = rest.is_empty();
        self.is_bulk(read.remaining() == 0);
        while !rest.is_empty() {
            match Pin::new(&mut *sink).poll_write(context, rest) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken::Sink)),
                Poll::Ready(Ok(written)) => {
                    self.bytes += written as u64;
                    rest = rest.get(written..).unwrap_or_default();
                }
                Poll::Pending => {
                    self.pending = rest.to_vec();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_pending<W: Stream>(&mut self, sink: &mut W, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let rest = self.pending.get(self.sent..).unwrap_or_default();
        match Pin::new(sink).poll_write(context, rest) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Broken::Sink)),
            Poll::Ready(Ok(written)) => {
                self.sent += written;
                self.bytes += written as u64;
                if self.sent == self.pending.len() {
                    (self.pending, self.sent) = (Vec::new(), 0);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Moves from the source into a fresh pipe.
    fn poll_splice<R: Stream>(
        &mut self,
        local: &LocalL4,
        source: &R,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let Some(socket) = source.plain() else {
            return self.without_splice();
        };
        match socket.poll_read_ready(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Source)),
            Poll::Pending => return Poll::Pending,
        }
        let Some(mut pipe) = local.pipes.take() else {
            return self.without_splice();
        };
        match pipe.fill(socket) {
            Ok(0) => {
                local.pipes.give(pipe);
                self.source_ended = true;
                Poll::Ready(Ok(()))
            }
            Ok(moved) => {
                self.is_bulk(moved >= STILL_BULK);
                self.pipe = Some(pipe);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                local.pipes.give(pipe);
                match error.kind() {
                    // The readiness is cleared: the next round registers the waker.
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Poll::Ready(Ok(())),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported => self.without_splice(),
                    _ => Poll::Ready(Err(Broken::Source)),
                }
            }
        }
    }

    fn without_splice(&mut self) -> Poll<Result<(), Broken>> {
        self.how = How::CopyOnly;
        Poll::Ready(Ok(()))
    }

    /// Moves from the pipe into the sink.
    fn poll_pipe<W: Stream>(
        &mut self,
        local: &LocalL4,
        sink: &W,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        let (Some(pipe), Some(socket)) = (&mut self.pipe, sink.plain()) else {
            return Poll::Ready(Err(Broken::Sink));
        };
        match socket.poll_write_ready(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Sink)),
            Poll::Pending => return Poll::Pending,
        }
        match pipe.drain(socket) {
            Ok(0) => Poll::Ready(Err(Broken::Sink)),
            Ok(moved) => {
                self.bytes += moved as u64;
                if pipe.is_empty()
                    && let Some(pipe) = self.pipe.take()
                {
                    local.pipes.give(pipe);
                }
                Poll::Ready(Ok(()))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Poll::Ready(Ok(()))
            }
            Err(_) => Poll::Ready(Err(Broken::Sink)),
        }
    }

    /// The close that follows the last direction says the same, where nothing but the socket is to be told.
    fn poll_shutdown<W: Stream>(
        &mut self,
        sink: &mut W,
        is_last: bool,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        if is_last && sink.plain().is_some() {
            self.done = true;
            return Poll::Ready(Ok(()));
        }
        match Pin::new(sink).poll_shutdown(context) {
            Poll::Pending => Poll::Pending,
            // The other side may be gone already; its own direction tells.
            Poll::Ready(_) => {
                self.done = true;
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// Copies until both sides ended, one broke off, or the deadline fired.
///
/// An endpoint that takes no more bytes may still have an answer to give: its direction goes on to its end. A side that
/// broke off is told to the other as such, where the kernel still can (`SO_LINGER` 0).
pub(super) async fn pump<C: Stream>(
    (local, record): (&LocalL4, &Record),
    (lifetime, idle_ms): (&Lifetime, u64),
    (client, mut up): (&mut C, Direction),
    (endpoint, mut down): (&mut TcpStream, Direction),
) -> End {
    // What goes ahead of the client's bytes is none of them.
    let ahead = up.pending.len() as u64;
    let end = poll_fn(|context| {
        if let Some(end) = lifetime.fired() {
            return Poll::Ready(end);
        }
        let before = up.bytes + down.bytes;
        let first = up.poll(local, (&mut *client, &mut *endpoint), down.done, context);
        let first = match first {
            Poll::Ready(Err(Broken::Source)) => return Poll::Ready(End::ClientReset),
            Poll::Ready(Err(Broken::Sink)) if down.done => return Poll::Ready(End::EndpointReset),
            Poll::Ready(Err(Broken::Sink)) => {
                up = Direction {
                    bytes: up.bytes,
                    done: true,
                    ..Direction::default()
                };
                Poll::Ready(())
            }
            other => other.map(drop),
        };
        let second = match down.poll(local, (&mut *endpoint, &mut *client), up.done, context) {
            Poll::Ready(Err(Broken::Source)) => return Poll::Ready(End::EndpointReset),
            Poll::Ready(Err(Broken::Sink)) => return Poll::Ready(End::ClientReset),
            other => other.map(drop),
        };
        if first.is_ready() && second.is_ready() {
            return Poll::Ready(End::Complete);
        }
        if before != up.bytes + down.bytes {
            lifetime.extend(idle_ms);
            record.note_bytes(up.bytes.saturating_sub(ahead), down.bytes);
        }
        lifetime.register(context);
        Poll::Pending
    })
    .await;
    record.note_bytes(up.bytes.saturating_sub(ahead), down.bytes);
    if end != End::Complete {
        break_off(client.socket());
        break_off(endpoint);
    }
    end
}

/// Makes the close of a socket a reset.
pub(super) fn break_off(socket: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO)) {
        tracing::debug!(%error, "SO_LINGER");
    }
}

/// Bytes after which a direction may splice: below, the two extra calls and the pipe cost more than the copy.
const SPLICE_AFTER: u64 = 64 * 1024;
/// A splice that moved less than this is followed by a read.
const STILL_BULK: usize = 16 * 1024;
const BUDGET: usize = 16;
