//! Server-sent events: a view that is rendered again and again for the one who watches it.

use std::{
    convert::Infallible,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

use super::respond::RenderQuery;

/// What a stream of events is made of.
pub(super) struct EventSource {
    pub(super) render: RenderQuery,
    /// The pause between two events.
    pub(super) interval: Duration,
    /// Bounds the renders of the whole server at a time.
    pub(super) rendering: Arc<Semaphore>,
    /// Bounds the clients that watch at a time.
    pub(super) watching: Arc<Semaphore>,
}

impl EventSource {
    /// A place among those that watch; none while all are taken.
    pub(super) fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.watching).try_acquire_owned().ok()
    }

    /// The next chunk of the stream: an event where the view changed, else a comment, which keeps the connection in use.
    async fn next(self: Arc<Self>, query: Arc<str>, before: Arc<[u8]>, pause: Duration) -> (Bytes, Arc<[u8]>) {
        tokio::time::sleep(pause).await;
        let Ok(_permit) = self.rendering.acquire().await else {
            return (Bytes::from_static(KEEP_ALIVE), before);
        };
        let render = Arc::clone(&self.render);
        match tokio::task::spawn_blocking(move || render(&query)).await {
            Ok(view) if view[..] == before[..] => (Bytes::from_static(KEEP_ALIVE), before),
            Ok(view) => (event(&view), view.into()),
            Err(error) => {
                tracing::error!(%error, "an admin view panicked");
                (Bytes::from_static(KEEP_ALIVE), before)
            }
        }
    }
}

/// One event named `view` with the text as its data (HTML Living Standard 9.2.6: a line of data each).
fn event(view: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(view.len() + view.len() / 16 + 32);
    text.extend_from_slice(b"event: view\n");
    for line in view.split(|byte| *byte == b'\n' || *byte == b'\r') {
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.push(b'\n');
    text.into()
}

type Next = Pin<Box<dyn Future<Output = (Bytes, Arc<[u8]>)> + Send>>;

/// The body of a stream of events. Nothing is queued: the next event is rendered when the one before has left.
pub(super) struct EventBody {
    source: Arc<EventSource>,
    query: Arc<str>,
    next: Next,
    _permit: OwnedSemaphorePermit,
}

impl EventBody {
    pub(super) fn new(source: Arc<EventSource>, query: &str, permit: OwnedSemaphorePermit) -> Self {
        let query: Arc<str> = query.into();
        // The first event follows at once: a client that comes back after a restart is up to date.
        let next = Box::pin(Arc::clone(&source).next(Arc::clone(&query), Arc::default(), Duration::ZERO));
        Self {
            source,
            query,
            next,
            _permit: permit,
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Bytes> {
        let (chunk, view) = ready!(self.next.as_mut().poll(context));
        let source = Arc::clone(&self.source);
        let pause = source.interval;
        self.next = Box::pin(source.next(Arc::clone(&self.query), view, pause));
        Poll::Ready(chunk)
    }
}

/// The body of an answer.
pub(super) enum AnswerBody {
    Events(EventBody),
    Full(Full<Bytes>),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Events(events) => events.poll_next(context).map(|chunk| Some(Ok(Frame::data(chunk)))),
            Self::Full(full) => Pin::new(full).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Events(_) => false,
            Self::Full(full) => full.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Events(_) => SizeHint::default(),
            Self::Full(full) => full.size_hint(),
        }
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Events(_) => "Events",
            Self::Full(_) => "Full",
        })
    }
}

/// A stream whose writes fail once the peer has taken nothing for [`WRITE_STALL`].
pub(super) struct Impatient<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, stalled: None }
    }

    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_STALL)));
        stalled
            .as_mut()
            .poll(context)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.judge(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// A line that says nothing.
const KEEP_ALIVE: &[u8] = b":\n\n";
/// How long a client may leave an answer unread before its connection is closed.
const WRITE_STALL: Duration = Duration::from_secs(10);
