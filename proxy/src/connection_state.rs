//! What a worker knows about one client connection, and the socket wrapper that keeps it up to date.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{edge::client_address::PeerInfo, tls::TlsInfo, tunnel::PendingTunnel};

/// What the client connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// At least one request is in flight, or an upgraded stream runs.
    Active,
    /// A request head (or handshake) has begun, or the first is awaited.
    Head,
    /// Nothing is in flight; kept for a next request.
    Idle,
}

/// Why a connection is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    /// The drain deadline passed.
    Abort,
    /// Too many streams were reset by the client.
    Glitches,
    /// No head in time.
    HeaderTimeout,
    /// Idle for too long.
    Idle,
    /// The client does not read.
    Stalled,
}

/// State of one client connection; lives on one worker.
pub(crate) struct ConnectionState {
    pub(crate) peer: PeerInfo,
    pub(crate) local: SocketAddr,
    pub(crate) tls: Option<TlsInfo>,
    pub(crate) phase: Cell<Phase>,
    /// When the phase began.
    pub(crate) since_ms: Cell<u64>,
    /// Whether any byte of the present head arrived.
    pub(crate) head_bytes: Cell<bool>,
    /// Requests in flight.
    pub(crate) active: Cell<u32>,
    /// Requests served so far.
    pub(crate) requests: Cell<u32>,
    /// Streams that the client reset before their response was complete.
    pub(crate) glitches: Cell<u32>,
    /// Since when the socket takes no more bytes; 0: it does.
    pub(crate) blocked_since_ms: Cell<u64>,
    pub(crate) opened_ms: u64,
    pub(crate) http2: Cell<bool>,
    pub(crate) kill: Cell<Option<Kill>>,
    pub(crate) drain: Cell<bool>,
    /// Asks an idle HTTP/1.1 connection to give up hyper's state.
    pub(crate) park: Cell<bool>,
    /// Whether it has.
    pub(crate) parked: Cell<bool>,
    /// Whether it has ended; exchanges of HTTP/2 streams may end a little later.
    pub(crate) closed: Cell<bool>,
    pub(crate) now_ms: Rc<Cell<u64>>,
    /// An upgrade that starts when the 101 response is written.
    pub(crate) tunnel: RefCell<Option<PendingTunnel>>,
    /// Whether that upgrade runs (HTTP/1.1).
    pub(crate) tunnels: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl ConnectionState {
    pub(crate) fn new(peer: PeerInfo, local: SocketAddr, tls: Option<TlsInfo>, now_ms: Rc<Cell<u64>>) -> Self {
        let now = now_ms.get();
        Self {
            peer,
            local,
            tls,
            phase: Cell::new(Phase::Head),
            since_ms: Cell::new(now),
            head_bytes: Cell::new(false),
            active: Cell::new(0),
            requests: Cell::new(0),
            glitches: Cell::new(0),
            blocked_since_ms: Cell::new(0),
            opened_ms: now,
            http2: Cell::new(false),
            kill: Cell::new(None),
            drain: Cell::new(false),
            park: Cell::new(false),
            parked: Cell::new(false),
            closed: Cell::new(false),
            now_ms,
            tunnel: RefCell::new(None),
            tunnels: Cell::new(false),
            waker: Cell::new(None),
        }
    }

    /// A request head is complete.
    pub(crate) fn begin_request(&self) {
        self.active.set(self.active.get() + 1);
        self.requests.set(self.requests.get().saturating_add(1));
        self.phase.set(Phase::Active);
    }

    /// An exchange is over.
    pub(crate) fn end_request(&self) {
        let active = self.active.get().saturating_sub(1);
        self.active.set(active);
        if active == 0 {
            self.enter(Phase::Idle);
        }
    }

    /// Ends the connection at its next poll.
    pub(crate) fn end(&self, kill: Kill) {
        if self.kill.replace(Some(kill)).is_none() || kill == Kill::Abort {
            self.wake();
        }
    }

    /// Asks the connection to keep only its socket until the next request.
    pub(crate) fn ask_to_park(&self) {
        if !self.park.replace(true) {
            self.wake();
        }
    }

    /// Lets the connection finish what is in flight and close.
    pub(crate) fn begin_drain(&self) {
        if !self.drain.replace(true) {
            self.wake();
        }
    }

    /// Remembers whom to wake.
    pub(crate) fn register(&self, context: &Context<'_>) {
        let waker = match self.waker.take() {
            Some(waker) if waker.will_wake(context.waker()) => waker,
            _ => context.waker().clone(),
        };
        self.waker.set(Some(waker));
    }

    /// Whether the scheme towards the client is HTTPS.
    pub(crate) fn is_https(&self) -> bool {
        self.tls.is_some()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.head_bytes.set(false);
        self.since_ms.set(self.now_ms.get());
    }

    fn on_read(&self) {
        if self.phase.get() == Phase::Idle && !self.http2.get() {
            self.enter(Phase::Head);
        }
        self.head_bytes.set(true);
    }

    fn on_write(&self, blocked: bool) {
        match (blocked, self.blocked_since_ms.get()) {
            (true, 0) => self.blocked_since_ms.set(self.now_ms.get().max(1)),
            (true, _) => {}
            (false, _) => self.blocked_since_ms.set(0),
        }
    }
}

/// A client socket: bytes read ahead come first, reads and stalled writes are noted in the state.
pub(crate) struct ClientIo<S> {
    pub(crate) inner: S,
    pub(crate) prefix: Bytes,
    pub(crate) state: Rc<ConnectionState>,
}

impl<S: AsyncRead + Unpin> AsyncRead for ClientIo<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let count = this.prefix.len().min(buffer.remaining());
            buffer.put_slice(&this.prefix.slice(..count));
            this.prefix.advance(count);
            if this.prefix.is_empty() {
                // An empty rest would keep the whole buffer.
                this.prefix = Bytes::new();
            }
            this.state.on_read();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.state.on_read();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ClientIo<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.state.on_write(result.is_pending());
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.state.on_write(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_flush(context);
        // Both ways: TLS takes bytes that only a flush sends, and a silent stream writes nothing more for long.
        this.state.on_write(result.is_pending());
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::edge::TrustedProxies;

    /// Takes every byte, but sends them only when it is flushed for the second time, as TLS may.
    #[derive(Default)]
    struct SlowFlush(bool);

    impl AsyncWrite for SlowFlush {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            if std::mem::replace(&mut self.0, true) {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_flush_that_succeeds_ends_the_stall() {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let peer = PeerInfo::new(address, &TrustedProxies::new([]));
        let state = Rc::new(ConnectionState::new(peer, address, None, Rc::new(Cell::new(7))));
        let mut io = ClientIo {
            inner: SlowFlush::default(),
            prefix: Bytes::new(),
            state: Rc::clone(&state),
        };
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut io).poll_write(&mut context, b"x").is_ready());
        assert!(Pin::new(&mut io).poll_flush(&mut context).is_pending());
        assert_eq!(state.blocked_since_ms.get(), 7);
        assert!(Pin::new(&mut io).poll_flush(&mut context).is_ready());
        assert_eq!(state.blocked_since_ms.get(), 0);
    }
}
