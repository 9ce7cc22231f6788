//! The response body of an HTTP/2 stream, and the rest of the request that is sent meanwhile.

use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::{Active, Outgoing};
use crate::upstream::{BodyError, BoxError, fields::clean_trailers};

/// A response body; dropping it before its end resets the stream.
pub(in crate::upstream) struct Http2Body {
    stream: RecvStream,
    /// Bytes still to come, where the backend announced a length; h2 holds it to it.
    left: Option<u64>,
    ended: bool,
    _pump: Option<Pump>,
    _active: Active,
}

/// The task that sends the rest of a request body; it ends with this handle.
///
/// A task of its own, so that a client that does not read its response cannot stop its own request (gRPC streams).
pub(super) struct Pump(AbortHandle);

impl Pump {
    pub(super) fn spawn<B>(mut outgoing: Outgoing<B>) -> Self
    where
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<BoxError>,
    {
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = poll_fn(|cx| outgoing.poll(cx)).await {
                tracing::debug!(?error, "request body ended early while its response streams");
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Http2Body {
    pub(super) fn new(stream: RecvStream, length: Option<u64>, pump: Option<Pump>, active: Active) -> Self {
        Self {
            stream,
            left: length,
            ended: false,
            _pump: pump,
            _active: active,
        }
    }

    pub(in crate::upstream) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        while let Some(data) = ready!(self.stream.poll_data(cx)) {
            match data {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return self.hand_on(data),
                Err(error) => return self.fail(error),
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        self.ended = true;
        Poll::Ready(match trailers {
            Ok(trailers) => trailers
                .and_then(clean_trailers)
                .map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(BodyError::Http2(error))),
        })
    }

    pub(in crate::upstream) fn is_end_stream(&self) -> bool {
        self.ended || self.stream.is_end_stream()
    }

    pub(in crate::upstream) fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn hand_on(&mut self, data: Bytes) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The window opens again as the data is handed on: the client's own window holds the backend back.
        if let Err(error) = self.stream.flow_control().release_capacity(data.len()) {
            return self.fail(error);
        }
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn fail(&mut self, error: h2::Error) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        Poll::Ready(Some(Err(BodyError::Http2(error))))
    }
}
