//! The request body on an HTTP/2 stream, under the backend's flow control.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::Body;

use crate::upstream::{BodyLength, BoxError, fields::clean_trailers, serialize::has_content};

/// Why sending stopped.
#[derive(Debug)]
pub(super) enum OutgoingError {
    /// The client's body failed or contradicted its length; the stream was reset.
    Body(BoxError),
    /// The backend takes no more; a response may still come.
    Stream,
}

/// A request body being sent.
pub(super) struct Outgoing<B> {
    stream: SendStream<Bytes>,
    body: B,
    left: BodyLength,
    waiting: Bytes,
    taken: bool,
    held: bool,
    done: bool,
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(stream: SendStream<Bytes>, body: B, length: BodyLength, held: bool) -> Self {
        let done = !has_content(length);
        Self {
            stream,
            body,
            left: length,
            waiting: Bytes::new(),
            taken: false,
            held,
            done,
        }
    }

    pub(super) fn proceed(&mut self) {
        self.held = false;
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    pub(super) fn into_untouched_body(self) -> Option<B> {
        (!self.taken).then_some(self.body)
    }

    /// Sends as much as the backend's window and the client's body allow.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OutgoingError>> {
        if self.held {
            return Poll::Pending;
        }
        while !self.done {
            if !self.waiting.is_empty() {
                ready!(self.poll_send(cx))?;
                continue;
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => {
                    // Wakes this task when the backend resets the stream while the client is silent.
                    if self.stream.poll_reset(cx).is_ready() {
                        return self.stop();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(frame) => {
                    self.taken = true;
                    let taken = match frame {
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(data) => self.take_data(data),
                            Err(frame) => self.finish(frame.into_trailers().ok()),
                        },
                        Some(Err(error)) => Err(OutgoingError::Body(error.into())),
                        None => self.finish(None),
                    };
                    if let Err(error) = taken {
                        return self.abort(error);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), OutgoingError>> {
        self.stream.reserve_capacity(self.waiting.len());
        let capacity = match self.stream.capacity() {
            0 => match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(capacity)) => capacity,
                Some(Err(_)) | None => return self.stop(),
            },
            capacity => capacity,
        };
        let data = self.waiting.split_to(capacity.min(self.waiting.len()));
        let last = self.waiting.is_empty() && (self.left == BodyLength::Exact(0) || self.body.is_end_stream());
        if self.stream.send_data(data, last).is_err() {
            return self.stop();
        }
        self.done = last;
        Poll::Ready(Ok(()))
    }

    fn take_data(&mut self, data: Bytes) -> Result<(), OutgoingError> {
        if let BodyLength::Exact(left) = self.left {
            let left = left
                .checked_sub(data.len() as u64)
                .ok_or_else(|| OutgoingError::Body("the body is longer than its announced length".into()))?;
            self.left = BodyLength::Exact(left);
        }
        self.waiting = data;
        Ok(())
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), OutgoingError> {
        if matches!(self.left, BodyLength::Exact(left) if left > 0) {
            return Err(OutgoingError::Body(
                "the body is shorter than its announced length".into(),
            ));
        }
        let sent = match trailers.and_then(clean_trailers) {
            Some(trailers) => self.stream.send_trailers(trailers),
            None => self.stream.send_data(Bytes::new(), true),
        };
        self.done = true;
        sent.map_err(|_| OutgoingError::Stream)
    }

    fn stop(&mut self) -> Poll<Result<(), OutgoingError>> {
        self.done = true;
        Poll::Ready(Err(OutgoingError::Stream))
    }

    fn abort(&mut self, error: OutgoingError) -> Poll<Result<(), OutgoingError>> {
        if matches!(error, OutgoingError::Body(_)) {
            self.stream.send_reset(Reason::CANCEL);
        }
        self.done = true;
        Poll::Ready(Err(error))
    }
}
