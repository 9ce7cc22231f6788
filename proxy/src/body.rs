//! The two bodies of an exchange: what the client sends, and what it gets.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use propylon_model::RoutePolicy;
use thiserror::Error;

use crate::{
    config::millis,
    exchange::{Exchange, ExchangeGuard},
    reason::Reason,
    upstream::UpstreamBody,
};

/// The client's body on its way upstream: progress moves the deadline of the response, silence has a deadline of its own.
pub(crate) struct ClientBody {
    /// None where the request has no body and is sent again.
    incoming: Option<Incoming>,
    exchange: Rc<Exchange>,
    body_idle_ms: u64,
    response_ms: u64,
    response_idle_ms: u64,
}

impl ClientBody {
    pub(crate) fn new(incoming: Incoming, exchange: &Rc<Exchange>, spans: &Spans) -> Self {
        Self {
            incoming: Some(incoming),
            ..Self::empty(exchange, spans)
        }
    }

    /// The body of a request that has none.
    pub(crate) fn empty(exchange: &Rc<Exchange>, spans: &Spans) -> Self {
        Self {
            incoming: None,
            exchange: Rc::clone(exchange),
            body_idle_ms: spans.body_idle_ms,
            response_ms: spans.response_ms,
            response_idle_ms: spans.response_idle_ms,
        }
    }

    /// Whether there is no body.
    pub(crate) fn is_empty(&self) -> bool {
        self.is_end_stream()
    }

    /// Moves the deadline. Once the response streams it is the response's own, which progress of the request puts off; a
    /// client that does not take its response is not excused by what it sends.
    fn rearm(&self, pending: bool) {
        let (exchange, watch) = (&self.exchange, &self.exchange.watch);
        match (exchange.status.get() != 0, pending) {
            (false, true) => watch.arm(exchange.in_ms(self.body_idle_ms), Reason::RequestBodyTimeout),
            (false, false) => watch.arm(exchange.in_ms(self.response_ms), Reason::ResponseTimeout),
            (true, false) if !watch.waits_for_client() => {
                watch.arm(exchange.in_ms(self.response_idle_ms), Reason::ResponseIdle);
            }
            (true, _) => {}
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(incoming).poll_frame(context);
        this.rearm(polled.is_pending());
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let exchange = &this.exchange;
            exchange.request_bytes.set(exchange.request_bytes.get() + bytes as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The time spans of an exchange, in milliseconds.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "the unit belongs into the name")]
pub(crate) struct Spans {
    pub(crate) connect_ms: u64,
    pub(crate) response_ms: u64,
    pub(crate) response_idle_ms: u64,
    pub(crate) body_idle_ms: u64,
    pub(crate) tunnel_idle_ms: u64,
}

impl Spans {
    /// The spans of a rule; a gRPC stream may be silent in both directions as long as a tunnel.
    pub(crate) fn new(policy: &RoutePolicy, body_idle_ms: u64, grpc: bool) -> Self {
        let tunnel_idle_ms = millis(policy.tunnel_idle_timeout);
        let stream = |span_ms| if grpc { tunnel_idle_ms } else { span_ms };
        Self {
            connect_ms: millis(policy.connect_timeout),
            response_ms: match policy.retry.per_try_timeout {
                Some(span) => millis(span).min(stream(millis(policy.response_timeout))),
                None => stream(millis(policy.response_timeout)),
            },
            response_idle_ms: stream(millis(policy.response_idle_timeout)),
            body_idle_ms: stream(body_idle_ms),
            tunnel_idle_ms,
        }
    }
}

/// What the client gets: one concrete type for all responses.
pub(crate) struct ResponseBody {
    inner: Inner,
    /// Ends the exchange when the body is dropped.
    guard: Option<ExchangeGuard>,
}

enum Inner {
    Empty,
    Full(Bytes),
    Upstream(Upstream),
}

/// A body on its way from the endpoint to the client.
struct Upstream {
    body: UpstreamBody<ClientBody>,
    idle_ms: u64,
    stall_ms: u64,
    /// The most that is handed to the client's side at once. On HTTP/2 a client proves that it reads by asking for the next
    /// frame, so that a slow one must not wait too long for that.
    frame_limit: usize,
    /// What is left of a longer frame.
    rest: Bytes,
}

/// The response ends here, visibly unfinished.
#[derive(Clone, Copy, Debug, Error)]
#[error("response aborted: {}", .0.code())]
pub(crate) struct Aborted(pub(crate) Reason);

impl ResponseBody {
    pub(crate) fn empty(guard: ExchangeGuard) -> Self {
        Self {
            inner: Inner::Empty,
            guard: Some(guard),
        }
    }

    pub(crate) fn full(bytes: Bytes, guard: ExchangeGuard) -> Self {
        Self {
            inner: Inner::Full(bytes),
            guard: Some(guard),
        }
    }

    pub(crate) fn upstream(body: UpstreamBody<ClientBody>, spans: &Spans, guard: ExchangeGuard) -> Self {
        let stall_ms = guard.exchange().worker.shared.config.deadlines.write_stall_ms;
        let is_http2 = guard.exchange().connection.http2.get();
        let frame_limit = if is_http2 { HTTP2_FRAME } else { usize::MAX };
        Self {
            inner: Inner::Upstream(Upstream {
                body,
                idle_ms: spans.response_idle_ms,
                stall_ms,
                frame_limit,
                rest: Bytes::new(),
            }),
            guard: Some(guard),
        }
    }

    /// A body whose exchange goes on elsewhere (in a tunnel).
    pub(crate) fn detached() -> Self {
        Self {
            inner: Inner::Empty,
            guard: None,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        let this = self.get_mut();
        match &mut this.inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.inner = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Inner::Upstream(upstream) => match &this.guard {
                Some(guard) => upstream.poll_frame(guard.exchange(), context),
                None => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Empty => true,
            Inner::Full(bytes) => bytes.is_empty(),
            Inner::Upstream(upstream) => upstream.rest.is_empty() && upstream.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Upstream(upstream) => upstream.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard
                .exchange()
                .complete
                .set(self.is_end_stream() || guard.exchange().complete.get());
        }
    }
}

impl Upstream {
    fn poll_frame(
        &mut self,
        exchange: &Rc<Exchange>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        if let Some(reason) = exchange.watch.fired() {
            exchange.note(reason);
            return Poll::Ready(Some(Err(Aborted(reason))));
        }
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.next_part(exchange))));
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {
                exchange.watch.arm(exchange.in_ms(self.idle_ms), Reason::ResponseIdle);
                exchange.watch.register(context);
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(self.hand_on(frame, exchange)))),
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, upstream = ?exchange.upstream.address.get(), "response body failed");
                exchange.note(Reason::ResponseIncomplete);
                Poll::Ready(Some(Err(Aborted(Reason::ResponseIncomplete))))
            }
            Poll::Ready(None) => {
                exchange.complete.set(true);
                Poll::Ready(None)
            }
        }
    }

    /// Gives a frame, or its first part, to the client.
    fn hand_on(&mut self, frame: Frame<Bytes>, exchange: &Exchange) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                self.next_part(exchange)
            }
            Err(trailers) => {
                exchange.watch.arm(exchange.in_ms(self.stall_ms), Reason::ClientStalled);
                trailers
            }
        }
    }

    fn next_part(&mut self, exchange: &Exchange) -> Frame<Bytes> {
        let part = self.rest.split_to(self.rest.len().min(self.frame_limit));
        exchange
            .response_bytes
            .set(exchange.response_bytes.get() + part.len() as u64);
        exchange.watch.arm(exchange.in_ms(self.stall_ms), Reason::ClientStalled);
        Frame::data(part)
    }

    fn size_hint(&self) -> SizeHint {
        let (hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole
    }
}

/// The most that an HTTP/2 client is given at once: the default size of a frame (RFC 9113 4.2).
const HTTP2_FRAME: usize = 16 * 1024;
