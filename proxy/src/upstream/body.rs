//! The response body, as it goes to the client.

use std::{
    fmt,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{
    BodyError, BoxError, ChunkedDecoder, Decoded, Home, Http1,
    http2::Http2Body,
    outgoing::{Outgoing, OutgoingError},
};

/// A response body. Its size hint is exact wherever the backend announced a length or sent everything at once.
///
/// Dropping it before its end closes an HTTP/1.1 connection and resets an HTTP/2 stream.
pub struct UpstreamBody<B>(Inner<B>);

enum Inner<B> {
    Http1(Box<Http1Body<B>>),
    Http2(Box<Http2Body>),
    /// Arrived complete; empty once it is handed over.
    Whole(Bytes),
}

impl<B> fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = match &self.0 {
            Inner::Http1(_) => "Http1",
            Inner::Http2(_) => "Http2",
            Inner::Whole(_) => "Whole",
        };
        formatter.debug_tuple("UpstreamBody").field(&variant).finish()
    }
}

impl<B> UpstreamBody<B> {
    /// A body that is all there.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self(Inner::Whole(bytes))
    }

    pub(super) fn http1(body: Http1Body<B>) -> Self {
        Self(Inner::Http1(Box::new(body)))
    }

    pub(super) fn http2(body: Http2Body) -> Self {
        Self(Inner::Http2(Box::new(body)))
    }
}

impl<B> Body for UpstreamBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().0 {
            Inner::Http1(body) => body.poll_frame(cx),
            Inner::Http2(body) => body.poll_frame(cx),
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Http1(body) => body.is_end_stream(),
            Inner::Http2(body) => body.is_end_stream(),
            Inner::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Http1(body) => body.size_hint(),
            Inner::Http2(body) => body.size_hint(),
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

/// Where a connection goes when its exchange has ended cleanly.
pub(super) struct WayHome {
    pub(super) home: Rc<dyn Home>,
    pub(super) keep_alive: Option<Duration>,
}

/// How much of the body is still to come.
#[derive(Debug)]
pub(super) enum BodyFraming {
    Chunked(ChunkedDecoder),
    Close,
    /// Bytes that were not handed over yet.
    Exact(u64),
}

/// A streamed HTTP/1.1 response body; sends the rest of the request meanwhile.
pub(super) struct Http1Body<B> {
    /// Gone when the body has ended or failed.
    connection: Option<Box<Http1>>,
    framing: BodyFraming,
    /// Decoded ahead, so that the end is known with the last piece of data.
    ahead: Option<Result<Decoded, &'static str>>,
    outgoing: Option<Outgoing<B>>,
    /// Where the connection goes; `None` when it must be closed.
    home: Option<WayHome>,
}

impl<B> Http1Body<B> {
    pub(super) fn new(
        connection: Box<Http1>,
        framing: BodyFraming,
        first: Option<Decoded>,
        outgoing: Option<Outgoing<B>>,
        home: Option<WayHome>,
    ) -> Self {
        Self {
            connection: Some(connection),
            framing,
            ahead: first.map(Ok),
            outgoing,
            home,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none() && self.ahead.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            BodyFraming::Exact(left) => SizeHint::with_exact(left),
            BodyFraming::Chunked(_) | BodyFraming::Close if self.is_end_stream() => SizeHint::with_exact(0),
            BodyFraming::Chunked(_) | BodyFraming::Close => SizeHint::default(),
        }
    }

    /// The response ended cleanly.
    fn finish(&mut self) {
        let sent = self.outgoing.take().is_none();
        if let (Some(connection), Some(way), true) = (self.connection.take(), self.home.take(), sent) {
            connection.go_home(&way);
        }
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.connection = None;
        self.outgoing = None;
        self.ahead = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl<B> Http1Body<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Err(error) = self.poll_outgoing(cx) {
            return self.fail(BodyError::RequestBody(error));
        }
        loop {
            let piece = match self.ahead.take() {
                Some(piece) => piece,
                None if self.connection.is_none() => return Poll::Ready(None),
                None => self.decode(),
            };
            match piece {
                Err(text) => return self.fail(BodyError::Protocol(text)),
                Ok(Decoded::Data(data)) => {
                    self.look_ahead();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Decoded::End(trailers)) => {
                    self.finish();
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Ok(Decoded::NeedMore) => {}
            }
            let Some(connection) = self.connection.as_mut() else {
                return Poll::Ready(None);
            };
            match ready!(connection.poll_fill_body(cx)) {
                Ok(0) if matches!(self.framing, BodyFraming::Close) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(0) => return self.fail(BodyError::Truncated),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return self.fail(BodyError::Truncated);
                }
                Err(error) => return self.fail(BodyError::Io(error)),
            }
        }
    }

    fn poll_outgoing(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        let (Some(outgoing), Some(connection)) = (self.outgoing.as_mut(), self.connection.as_mut()) else {
            return Ok(());
        };
        match outgoing.poll(connection.io(), cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Err(OutgoingError::Body(error))) => return Err(error),
            // The backend may close its side early and still answer; the connection is not used again.
            Poll::Ready(Err(OutgoingError::Io(_))) => self.home = None,
            Poll::Ready(Ok(())) => outgoing.recycle(),
        }
        self.outgoing = None;
        Ok(())
    }

    fn decode(&mut self) -> Result<Decoded, &'static str> {
        let Some(connection) = self.connection.as_mut() else {
            return Ok(Decoded::End(None));
        };
        let unread = connection.unread();
        match &mut self.framing {
            BodyFraming::Chunked(decoder) => decoder.decode(unread),
            BodyFraming::Exact(0) => Ok(Decoded::End(None)),
            BodyFraming::Close | BodyFraming::Exact(_) if unread.is_empty() => Ok(Decoded::NeedMore),
            BodyFraming::Close => Ok(Decoded::Data(unread.split().freeze())),
            BodyFraming::Exact(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(unread.len());
                *left -= taken as u64;
                Ok(Decoded::Data(unread.split_to(taken).freeze()))
            }
        }
    }

    /// Notices the end with the last data, so that `is_end_stream` is exact and the connection is free at once.
    fn look_ahead(&mut self) {
        match &self.framing {
            BodyFraming::Exact(0) => self.finish(),
            BodyFraming::Chunked(_) => match self.decode() {
                Ok(Decoded::NeedMore) => {}
                Ok(Decoded::End(None)) => self.finish(),
                piece => self.ahead = Some(piece),
            },
            BodyFraming::Close | BodyFraming::Exact(_) => {}
        }
    }
}
