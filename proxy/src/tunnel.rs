//! Upgraded connections: bytes in both directions until both sides ended, nobody spoke for too long, or the drain is over.

use std::{io, pin::Pin, rc::Rc, task::Poll};

use bytes::{Buf, Bytes};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    connection_state::Kill,
    exchange::{Exchange, ExchangeGuard},
    reason::Reason,
    upstream::{Held, UpstreamIo},
};

/// An upgrade that the endpoint accepted; it starts when the client has its answer.
pub(crate) struct PendingTunnel {
    pub(crate) upstream: UpstreamIo,
    /// Bytes that came behind the endpoint's response head.
    pub(crate) leftover: Bytes,
    /// What is kept for as long as the endpoint's connection is open.
    pub(crate) held: Option<Held>,
    pub(crate) idle_ms: u64,
    pub(crate) guard: ExchangeGuard,
}

/// Runs the tunnel of an HTTP/2 stream (extended CONNECT, RFC 8441) once hyper hands the stream over.
pub(crate) fn spawn_http2(pending: PendingTunnel, upgrade: OnUpgrade) {
    tokio::task::spawn_local(async move {
        match upgrade.await {
            Ok(upgraded) => run(pending, TokioIo::new(upgraded), Bytes::new()).await,
            Err(error) => tracing::debug!(%error, "the upgraded stream was not handed over"),
        }
    });
}

/// Copies until the end; `early` are bytes that the client sent behind its request.
pub(crate) async fn run<C: AsyncRead + AsyncWrite + Unpin>(pending: PendingTunnel, client: C, early: Bytes) {
    let PendingTunnel {
        upstream,
        leftover,
        held,
        idle_ms,
        guard,
    } = pending;
    let exchange = Rc::clone(guard.exchange());
    crate::observe::tunnel_began(&exchange.worker, &exchange.connection);
    let mut up = Direction::new(early);
    let mut down = Direction::new(leftover);
    let (mut client, mut upstream) = (client, upstream);
    exchange.watch.arm(exchange.in_ms(idle_ms), Reason::ResponseIdle);
    let result: io::Result<()> = std::future::poll_fn(|context| {
        exchange.watch.register(context);
        if !exchange.connection.http2.get() {
            exchange.connection.register(context);
        }
        if let Some(end) = ended(&exchange) {
            return Poll::Ready(Err(end));
        }
        let before = (up.bytes, down.bytes);
        let first = up.poll_copy(&mut client, &mut upstream, context)?;
        let second = down.poll_copy(&mut upstream, &mut client, context)?;
        if before != (up.bytes, down.bytes) {
            exchange.watch.arm(exchange.in_ms(idle_ms), Reason::ResponseIdle);
        }
        if first.is_ready() && second.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await;
    exchange.request_bytes.set(up.bytes);
    exchange.response_bytes.set(down.bytes);
    exchange.complete.set(true);
    if let Err(error) = result {
        tracing::debug!(%error, "tunnel ended");
    }
    drop((guard, held));
}

fn ended(exchange: &Exchange) -> Option<io::Error> {
    if let Some(reason) = exchange.watch.fired() {
        exchange.note(reason);
        return Some(io::ErrorKind::TimedOut.into());
    }
    (exchange.connection.kill.get() == Some(Kill::Abort)).then(|| io::ErrorKind::ConnectionAborted.into())
}

/// One direction: read, then write, then (at the end of the source) shut the sink's sending side.
struct Direction {
    buffer: Vec<u8>,
    pending: Bytes,
    source_ended: bool,
    done: bool,
    bytes: u64,
}

impl Direction {
    fn new(pending: Bytes) -> Self {
        Self {
            buffer: Vec::new(),
            pending,
            source_ended: false,
            done: false,
            bytes: 0,
        }
    }

    /// Ready when the source ended and the sink knows it; at most [`BUDGET`] rounds a call, so that others get their turn.
    fn poll_copy<R, W>(
        &mut self,
        source: &mut R,
        sink: &mut W,
        context: &mut std::task::Context<'_>,
    ) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..BUDGET {
            if self.done {
                return Ok(Poll::Ready(()));
            }
            let step = if !self.pending.is_empty() {
                self.poll_write(sink, context)?
            } else if self.source_ended {
                self.poll_shutdown(sink, context)
            } else {
                self.poll_read(source, sink, context)?
            };
            if step.is_pending() {
                return Ok(Poll::Pending);
            }
        }
        context.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        sink: &mut W,
        context: &mut std::task::Context<'_>,
    ) -> io::Result<Poll<()>> {
        let Poll::Ready(written) = Pin::new(sink).poll_write(context, &self.pending)? else {
            return Ok(Poll::Pending);
        };
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.pending.advance(written);
        self.bytes += written as u64;
        Ok(Poll::Ready(()))
    }

    fn poll_read<R, W>(
        &mut self,
        source: &mut R,
        sink: &mut W,
        context: &mut std::task::Context<'_>,
    ) -> io::Result<Poll<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        self.buffer.resize(CHUNK, 0);
        let mut buffer = ReadBuf::new(&mut self.buffer);
        let Poll::Ready(()) = Pin::new(source).poll_read(context, &mut buffer)? else {
            // An idle direction owns no memory; what was written must not wait in a buffer below us.
            self.buffer = Vec::new();
            let _flushed: Poll<()> = Pin::new(sink).poll_flush(context)?;
            return Ok(Poll::Pending);
        };
        let filled = buffer.filled().len();
        self.source_ended = filled == 0;
        self.buffer.truncate(filled);
        self.pending = Bytes::from(std::mem::take(&mut self.buffer));
        Ok(Poll::Ready(()))
    }

    fn poll_shutdown<W: AsyncWrite + Unpin>(&mut self, sink: &mut W, context: &mut std::task::Context<'_>) -> Poll<()> {
        match Pin::new(sink).poll_shutdown(context) {
            Poll::Pending => Poll::Pending,
            // The other side may be gone already; its own direction tells.
            Poll::Ready(_) => {
                self.done = true;
                Poll::Ready(())
            }
        }
    }
}

const CHUNK: usize = 16 * 1024;
const BUDGET: usize = 16;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_direction_copies_and_hands_on_the_end() {
        let (mut client, mut source) = duplex(64);
        let (mut sink, mut server) = duplex(64);
        let mut direction = Direction::new(Bytes::from_static(b"early "));
        let copy = std::future::poll_fn(|context| match direction.poll_copy(&mut source, &mut sink, context) {
            Ok(Poll::Ready(())) => Poll::Ready(()),
            Ok(Poll::Pending) => Poll::Pending,
            Err(error) => panic!("{error}"),
        });
        let talk = async {
            client.write_all(&vec![b'x'; 100_000]).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let ((), (), read) = tokio::join!(copy, talk, server.read_to_end(&mut received));
        assert_eq!(read.unwrap(), 100_006);
        assert!(received.starts_with(b"early x"));
    }
}
