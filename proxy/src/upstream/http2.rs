//! HTTP/2 towards a backend: many exchanges on one connection.

mod outgoing;
mod receive;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body;

use super::{
    Answer, BoxError, Held, RequestHead, SendError, Sent, UpstreamBody, UpstreamError, UpstreamErrorKind, UpstreamIo,
    fields::{FieldValue, visit_request_fields},
    response_head::is_bodiless,
    serialize::has_content,
};

pub(super) use self::receive::Http2Body;
use self::{
    outgoing::{Outgoing, OutgoingError},
    receive::Pump,
};

/// The most streams at a time on one connection, whatever the backend allows.
const MAX_STREAMS: usize = 100;
/// Bytes a backend may send ahead on one stream.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Bytes a backend may send ahead on all streams: enough that stalled streams cannot block the others.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Bytes of one request body that wait for the socket.
const SEND_BUFFER: usize = 64 * 1024;
/// The longest header list that is taken, in bytes as HTTP/2 counts them.
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// The most header fields in a response.
const MAX_FIELDS: usize = 128;
/// The most interim responses before the final one.
const MAX_INTERIM_RESPONSES: u8 = 20;
/// How long a request body waits for `100 Continue` from a backend that says nothing.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// A handle on an HTTP/2 connection; clones share the connection, and it ends when the last one is gone.
#[derive(Clone)]
pub struct Http2 {
    requests: SendRequest<Bytes>,
    state: Rc<State>,
    scheme: &'static str,
}

#[derive(Debug, Default)]
struct State {
    closed: Cell<bool>,
    active: Cell<usize>,
    held: RefCell<Option<Held>>,
}

impl fmt::Debug for Http2 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Http2")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Counts a stream while it lives.
#[derive(Debug)]
struct Active(Rc<State>);

impl Active {
    fn new(state: &Rc<State>) -> Self {
        state.active.set(state.active.get() + 1);
        Self(Rc::clone(state))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
    }
}

impl Http2 {
    /// Opens HTTP/2 on a connected stream and starts the task that drives the connection.
    pub(super) async fn handshake(io: UpstreamIo, scheme: &'static str) -> Result<Self, UpstreamError> {
        let handshake = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_push(false)
            .handshake(io)
            .await;
        let (requests, connection) = handshake.map_err(|error| UpstreamError {
            kind: UpstreamErrorKind::ConnectFailed,
            source: Some(error.into()),
        })?;
        let state = Rc::new(State::default());
        let driven = Rc::clone(&state);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection to a backend ended");
            }
            driven.closed.set(true);
            drop(driven.held.take());
        });
        Ok(Self {
            requests,
            state,
            scheme,
        })
    }

    /// Whether the connection takes new requests at all: it is open and the backend has not said goodbye (GOAWAY).
    pub fn is_usable(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.state.closed.get() && !matches!(self.requests.clone().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    /// Whether a request would start now: the number of streams is below 100 and below what the backend allows.
    pub fn has_capacity(&self) -> bool {
        self.state.active.get() < MAX_STREAMS.min(self.requests.current_max_send_streams())
    }

    /// Keeps something for as long as the connection is open.
    pub fn hold(&self, held: Held) {
        self.state.held.replace(Some(held));
    }

    /// How many exchanges are under way.
    pub fn active_streams(&self) -> usize {
        self.state.active.get()
    }

    /// Sends a request and waits for the head of its final response.
    ///
    /// Waits for a free stream first, if there is none. The request body goes on being sent by a task of its own
    /// when the response starts before its end.
    ///
    /// # Errors
    /// [`SendError`]; `Sent::Nothing` also when the backend declared that it did not process the request.
    ///
    /// # Cancel safety
    /// Dropping the future resets the stream; the connection stays.
    pub async fn exchange<B>(&self, head: &RequestHead<'_>, body: B) -> Result<Answer<B>, SendError<B>>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        if head.upgrade.is_some() {
            return Err(unsent(UpstreamErrorKind::UpgradeUnsupported, None, body));
        }
        let Some(request) = request_of(head, self.scheme) else {
            return Err(unsent(UpstreamErrorKind::InvalidRequest, None, body));
        };
        let active = Active::new(&self.state);
        let mut requests = match self.requests.clone().ready().await {
            Ok(requests) => requests,
            Err(error) => return Err(unsent(error_kind(&error, false), Some(error), body)),
        };
        let content = has_content(head.body);
        let (response, stream) = match requests.send_request(request, !content) {
            Ok(started) => started,
            Err(error) => return Err(unsent(error_kind(&error, false), Some(error), body)),
        };
        let mut exchange = Exchange {
            response,
            outgoing: Outgoing::new(stream, body, head.body, head.expect_continue && content),
            response_started: false,
            interim: 0,
        };
        match exchange.wait().await {
            Ok(response) => exchange.respond(response, head.method, active),
            Err(failure) => Err(exchange.fail(failure)),
        }
    }
}

/// The request as the h2 crate takes it; `None` when the target or authority cannot be expressed.
pub(crate) fn request_of(head: &RequestHead<'_>, scheme: &'static str) -> Option<Request<()>> {
    let mut uri = Uri::builder().path_and_query(head.target);
    if !head.authority.is_empty() {
        // Without an authority h2 sends no :authority and the scheme "http".
        uri = uri.scheme(scheme).authority(head.authority);
    }
    let mut request = Request::new(());
    *request.uri_mut() = uri.build().ok()?;
    *request.method_mut() = head.method.clone();
    let headers = request.headers_mut();
    let mut valid = true;
    visit_request_fields(head, |name, value| valid &= append(headers, name, value));
    if let super::BodyLength::Exact(length) = head.body {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if head.te_trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if head.expect_continue && has_content(head.body) {
        headers.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
    }
    valid.then_some(request)
}

fn append(headers: &mut HeaderMap, name: &HeaderName, value: FieldValue<'_>) -> bool {
    let value = match value {
        FieldValue::Client(value) => value.clone(),
        FieldValue::Made(bytes) => match HeaderValue::from_bytes(bytes) {
            Ok(value) => value,
            Err(_) => return false,
        },
    };
    headers.append(name.clone(), value);
    true
}

struct Failure {
    kind: UpstreamErrorKind,
    source: Option<BoxError>,
}

impl Failure {
    fn protocol(text: &'static str) -> Self {
        Self {
            kind: UpstreamErrorKind::ProtocolError(text),
            source: None,
        }
    }
}

/// One request under way, until the head of its final response.
struct Exchange<B> {
    response: ResponseFuture,
    outgoing: Outgoing<B>,
    response_started: bool,
    interim: u8,
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    async fn wait(&mut self) -> Result<Response<h2::RecvStream>, Failure> {
        if self.outgoing.is_held() {
            let answered = poll_fn(|cx| self.poll_response(cx));
            if let Ok(answered) = tokio::time::timeout(CONTINUE_PATIENCE, answered).await {
                return answered;
            }
            self.outgoing.proceed();
        }
        poll_fn(|cx| self.poll_response(cx)).await
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response<h2::RecvStream>, Failure>> {
        self.absorb_interim(cx)?;
        if !self.outgoing.is_done()
            && let Poll::Ready(Err(OutgoingError::Body(error))) = self.outgoing.poll(cx)
        {
            return Poll::Ready(Err(Failure {
                kind: UpstreamErrorKind::RequestBody,
                source: Some(error),
            }));
        }
        Pin::new(&mut self.response).poll(cx).map_err(|error| Failure {
            kind: error_kind(&error, self.response_started),
            source: Some(error.into()),
        })
    }

    fn absorb_interim(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            self.response_started = true;
            self.interim += 1;
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Err(Failure::protocol("101 in HTTP/2"));
            }
            if self.interim > MAX_INTERIM_RESPONSES {
                return Err(Failure::protocol("too many interim responses"));
            }
            if interim.status() == StatusCode::CONTINUE {
                self.outgoing.proceed();
            }
        }
        Ok(())
    }

    fn respond(
        mut self,
        response: Response<h2::RecvStream>,
        method: &Method,
        active: Active,
    ) -> Result<Answer<B>, SendError<B>> {
        self.response_started = true;
        if let Err(text) = check_head(&response) {
            return Err(self.fail(Failure::protocol(text)));
        }
        let (mut parts, stream) = response.into_parts();
        parts.version = Version::HTTP_11;
        let length = declared_length(&parts.headers);
        let bodiless = is_bodiless(parts.status) || *method == Method::HEAD;
        let body = if bodiless || stream.is_end_stream() {
            UpstreamBody::whole(Bytes::new())
        } else {
            let pump = (!self.outgoing.is_done() && !self.outgoing.is_held()).then(|| Pump::spawn(self.outgoing));
            UpstreamBody::http2(Http2Body::new(stream, length, pump, active))
        };
        Ok(Answer::Response(Response::from_parts(parts, body)))
    }

    fn fail(self, failure: Failure) -> SendError<B> {
        let unprocessed = failure.kind == UpstreamErrorKind::Refused;
        SendError {
            kind: failure.kind,
            sent: if unprocessed { Sent::Nothing } else { Sent::Some },
            response_started: self.response_started,
            body: self.outgoing.into_untouched_body(),
            source: failure.source,
        }
    }
}

/// What h2 leaves to us: a single Content-Length, a bounded number of fields.
fn check_head(response: &Response<h2::RecvStream>) -> Result<(), &'static str> {
    let headers = response.headers();
    if headers.len() > MAX_FIELDS {
        return Err("too many response fields");
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (Some(_), Some(_)) => Err("repeated Content-Length"),
        (Some(_), None) if declared_length(headers).is_none() => Err("invalid Content-Length"),
        _ => Ok(()),
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?.as_bytes();
    super::response_head::parse_length(value)
}

fn unsent<B>(kind: UpstreamErrorKind, source: Option<h2::Error>, body: B) -> SendError<B> {
    SendError {
        kind,
        sent: Sent::Nothing,
        response_started: false,
        body: Some(body),
        source: source.map(Into::into),
    }
}

fn error_kind(error: &h2::Error, response_started: bool) -> UpstreamErrorKind {
    // A GOAWAY fails only the streams above its last id, which the backend has not processed (RFC 9113 6.8).
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away();
    if error.is_remote() && refused && !response_started {
        return UpstreamErrorKind::Refused;
    }
    if error.is_io() && !response_started {
        return UpstreamErrorKind::ClosedBeforeResponse;
    }
    if error.is_library() {
        return UpstreamErrorKind::ProtocolError("HTTP/2");
    }
    UpstreamErrorKind::Reset
}
