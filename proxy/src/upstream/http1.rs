//! HTTP/1.1 towards a backend: one connection, one exchange at a time.

use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{
    Answer, BoxError, ChunkedDecoder, Decoded, Held, Home, RequestHead, ResponseFraming, ResponseHead, SendError, Sent,
    Upgraded, UpstreamBody, UpstreamErrorKind, UpstreamIo,
    body::{BodyFraming, Http1Body, WayHome},
    outgoing::{Outgoing, OutgoingError},
    response_head::parse_response_head,
};

/// Room for a head and a small body; what arrives within it is handed over complete.
const HEAD_READ_BYTES: usize = 20 * 1024;
/// Room for a piece of a streamed body.
const BODY_READ_BYTES: usize = 64 * 1024;
/// The most interim responses before the final one.
const MAX_INTERIM_RESPONSES: u8 = 20;
/// How long the body waits for `100 Continue` from a backend that says nothing (RFC 9110 10.1.1).
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// An HTTP/1.1 connection to a backend.
pub struct Http1 {
    io: UpstreamIo,
    read: BytesMut,
    held: Option<Held>,
}

impl fmt::Debug for Http1 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Http1")
            .field("unread", &self.read.len())
            .finish_non_exhaustive()
    }
}

impl Http1 {
    /// Takes over a connected stream on which nothing has been exchanged yet.
    pub fn new(io: UpstreamIo) -> Self {
        Self {
            io,
            read: BytesMut::new(),
            held: None,
        }
    }

    /// Keeps something for as long as the connection is open.
    pub fn hold(&mut self, held: Held) {
        self.held = Some(held);
    }

    /// Whether the idle connection can serve another request: still open and silent. Never blocks.
    pub fn is_reusable(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut byte = [0];
        self.read.is_empty()
            && Pin::new(&mut self.io)
                .poll_read(&mut cx, &mut ReadBuf::new(&mut byte))
                .is_pending()
    }

    /// Sends a request and waits for the head of its final response.
    ///
    /// The request body goes on being sent while the response streams. When the response has ended and the whole
    /// request was sent, the connection goes to `home`; for a response that arrived complete this is before the
    /// future resolves. A client that expects `100 Continue` is not asked for its body until the backend sends 100,
    /// or stays silent for a second (RFC 9110 10.1.1).
    ///
    /// # Errors
    /// [`SendError`] tells what was sent and gives the body back if it is untouched. The connection is closed.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub async fn exchange<B>(
        self: Box<Self>,
        head: &RequestHead<'_>,
        body: B,
        home: Option<Rc<dyn Home>>,
    ) -> Result<Answer<B>, SendError<B>>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let mut exchange = Exchange {
            connection: self,
            outgoing: Outgoing::new(head, body),
            write_error: None,
            response_started: false,
            interim: 0,
        };
        let answered = if exchange.outgoing.is_held() {
            let answered = poll_fn(|cx| exchange.poll_head(cx, head.method));
            if let Ok(answered) = tokio::time::timeout(CONTINUE_PATIENCE, answered).await {
                answered
            } else {
                exchange.outgoing.proceed();
                poll_fn(|cx| exchange.poll_head(cx, head.method)).await
            }
        } else {
            poll_fn(|cx| exchange.poll_head(cx, head.method)).await
        };
        match answered {
            Ok(response) if response.status == StatusCode::SWITCHING_PROTOCOLS => {
                exchange.switch(response, head.upgrade.is_some())
            }
            Ok(response) => exchange.respond(response, home),
            Err(failure) => Err(exchange.fail(failure)),
        }
    }

    /// Reads once into the buffer; 0 is the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.read.capacity() - self.read.len() < room / 4 {
            self.read.reserve(room);
        }
        // The future of read_buf holds no state between polls.
        pin!(self.io.read_buf(&mut self.read)).poll(cx)
    }

    /// Reads once more of a response body.
    pub(super) fn poll_fill_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_fill(cx, BODY_READ_BYTES)
    }

    /// What was read and not yet used.
    pub(super) fn unread(&mut self) -> &mut BytesMut {
        &mut self.read
    }

    /// Where the request is written to.
    pub(super) fn io(&mut self) -> &mut UpstreamIo {
        &mut self.io
    }

    /// Hands the connection to its home, or closes it when bytes are left over.
    pub(super) fn go_home(mut self: Box<Self>, way: &WayHome) {
        if !self.read.is_empty() {
            return;
        }
        if self.read.capacity() > HEAD_READ_BYTES {
            self.read = BytesMut::new();
        }
        way.home.put_back(self, way.keep_alive);
    }
}

/// Why no response came.
struct Failure {
    kind: UpstreamErrorKind,
    source: Option<BoxError>,
}

impl Failure {
    fn protocol(text: &'static str) -> Self {
        UpstreamErrorKind::ProtocolError(text).into()
    }
}

impl From<UpstreamErrorKind> for Failure {
    fn from(kind: UpstreamErrorKind) -> Self {
        Self { kind, source: None }
    }
}

/// One request under way, until the head of its final response.
struct Exchange<B> {
    connection: Box<Http1>,
    outgoing: Outgoing<B>,
    /// Writing failed; a response that arrived before may still be read.
    write_error: Option<io::Error>,
    response_started: bool,
    interim: u8,
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_head(&mut self, cx: &mut Context<'_>, method: &Method) -> Poll<Result<ResponseHead, Failure>> {
        if !self.outgoing.has_written() && !self.connection.read.is_empty() {
            return Poll::Ready(Err(Failure::protocol("bytes before the request")));
        }
        self.poll_outgoing(cx)?;
        loop {
            while !self.connection.read.is_empty() {
                let parsed = parse_response_head(&mut self.connection.read, method);
                let Some(head) = parsed.map_err(|error| Failure::from(UpstreamErrorKind::from(error)))? else {
                    break;
                };
                if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(head));
                }
                self.absorb(head.status, cx)?;
            }
            let read = match self.connection.poll_fill(cx, HEAD_READ_BYTES) {
                Poll::Pending if self.write_error.is_some() => return Poll::Ready(Err(self.broken(None))),
                polled => ready!(polled),
            };
            match read {
                Ok(0) => return Poll::Ready(Err(self.broken(None))),
                Ok(_) if !self.outgoing.has_written() => {
                    return Poll::Ready(Err(Failure::protocol("bytes before the request")));
                }
                Ok(_) => self.response_started = true,
                Err(error) => return Poll::Ready(Err(self.broken(Some(error)))),
            }
        }
    }

    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        if self.write_error.is_some() || self.outgoing.is_done() {
            return Ok(());
        }
        match self.outgoing.poll(&mut self.connection.io, cx) {
            Poll::Ready(Err(OutgoingError::Body(error))) => Err(Failure {
                kind: UpstreamErrorKind::RequestBody,
                source: Some(error),
            }),
            Poll::Ready(Err(OutgoingError::Io(error))) => {
                self.write_error = Some(error);
                Ok(())
            }
            Poll::Ready(Ok(())) => {
                self.outgoing.recycle();
                Ok(())
            }
            Poll::Pending => Ok(()),
        }
    }

    /// Takes note of an interim response and throws it away.
    fn absorb(&mut self, status: StatusCode, cx: &mut Context<'_>) -> Result<(), Failure> {
        self.interim += 1;
        if self.interim > MAX_INTERIM_RESPONSES {
            return Err(Failure::protocol("too many interim responses"));
        }
        if status == StatusCode::CONTINUE && self.outgoing.is_held() {
            self.outgoing.proceed();
            self.poll_outgoing(cx)?;
        }
        Ok(())
    }

    /// The connection ended, with or without an error, before a whole head.
    fn broken(&mut self, read_error: Option<io::Error>) -> Failure {
        if self.response_started && !self.connection.read.is_empty() {
            return Failure {
                kind: UpstreamErrorKind::ProtocolError("connection closed within the response head"),
                source: read_error.map(Into::into),
            };
        }
        let error = self.write_error.take().or(read_error);
        let kind = if error.is_some() {
            UpstreamErrorKind::Reset
        } else {
            UpstreamErrorKind::ClosedBeforeResponse
        };
        Failure {
            kind,
            source: error.map(Into::into),
        }
    }

    fn fail(self, failure: Failure) -> SendError<B> {
        SendError {
            kind: failure.kind,
            sent: if self.outgoing.has_written() {
                Sent::Some
            } else {
                Sent::Nothing
            },
            response_started: self.response_started,
            body: self.outgoing.into_untouched_body(),
            source: failure.source,
        }
    }

    fn switch(self, head: ResponseHead, asked: bool) -> Result<Answer<B>, SendError<B>> {
        if !asked || !head.headers.contains_key(header::UPGRADE) || !self.outgoing.is_done() {
            return Err(self.fail(Failure::protocol("unexpected 101")));
        }
        let connection = *self.connection;
        let (response, ()) = response(head.status, head.headers, ()).into_parts();
        Ok(Answer::Upgraded(Box::new(Upgraded {
            response,
            io: connection.io,
            leftover: connection.read.freeze(),
            held: connection.held,
        })))
    }

    fn respond(mut self, head: ResponseHead, home: Option<Rc<dyn Home>>) -> Result<Answer<B>, SendError<B>> {
        let reusable = head.persistent && self.write_error.is_none() && !self.outgoing.is_held();
        let keep_alive = head.keep_alive;
        let way = home.filter(|_| reusable).map(|home| WayHome { home, keep_alive });
        let mut headers = head.headers;
        let whole = match self.take_whole_body(head.framing) {
            Ok(whole) => whole,
            Err(failure) => return Err(self.fail(failure)),
        };
        let body = match whole {
            Start::Whole(body) => {
                if head.framing == ResponseFraming::Chunked {
                    headers.remove(header::TRAILER);
                }
                if let Some(way) = way.filter(|_| self.outgoing.is_done()) {
                    self.connection.go_home(&way);
                }
                UpstreamBody::whole(body)
            }
            Start::Streamed { framing, first } => {
                let sending = self.write_error.is_none() && !self.outgoing.is_done() && !self.outgoing.is_held();
                UpstreamBody::http1(Http1Body::new(
                    self.connection,
                    framing,
                    first,
                    sending.then_some(self.outgoing),
                    way,
                ))
            }
        };
        Ok(Answer::Response(response(head.status, headers, body)))
    }

    /// Takes the body from what was read, if it is all there.
    fn take_whole_body(&mut self, framing: ResponseFraming) -> Result<Start, Failure> {
        let read = &mut self.connection.read;
        Ok(match framing {
            ResponseFraming::None => Start::Whole(Bytes::new()),
            ResponseFraming::Exact(length) => match usize::try_from(length) {
                Ok(length) if length <= read.len() => Start::Whole(read.split_to(length).freeze()),
                _ => Start::Streamed {
                    framing: BodyFraming::Exact(length),
                    first: None,
                },
            },
            ResponseFraming::Close => Start::Streamed {
                framing: BodyFraming::Close,
                first: None,
            },
            ResponseFraming::Chunked => {
                let mut decoder = ChunkedDecoder::default();
                match decoder.decode(read).map_err(Failure::protocol)? {
                    Decoded::End(None) => Start::Whole(Bytes::new()),
                    Decoded::Data(first) if is_last_chunk(&decoder, read) => {
                        decoder.decode(read).map_err(Failure::protocol)?;
                        Start::Whole(first)
                    }
                    first => Start::Streamed {
                        framing: BodyFraming::Chunked(decoder),
                        first: Some(first),
                    },
                }
            }
        })
    }
}

/// The beginning of a response body.
enum Start {
    Streamed {
        framing: BodyFraming,
        first: Option<Decoded>,
    },
    Whole(Bytes),
}

/// Whether the rest of the body is the plain last chunk, without trailers, and nothing behind it.
fn is_last_chunk(decoder: &ChunkedDecoder, rest: &[u8]) -> bool {
    decoder.expected() == 0 && rest == b"\r\n0\r\n\r\n"
}

fn response<T>(status: StatusCode, headers: HeaderMap, body: T) -> Response<T> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
