//! The request on its way out: the head and the body, in as few writes as possible.

use std::{
    cell::Cell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame};
use tokio::io::AsyncWrite;

use super::{
    BodyLength, BoxError, RequestHead,
    serialize::{has_content, put_last_chunk, serialize_head},
};

thread_local! {
    /// The buffer for heads, lent to one request at a time; another request under way makes its own.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A scratch buffer above this is not kept.
const MAX_SCRATCH_BYTES: usize = 32 * 1024;

/// Why sending stopped.
#[derive(Debug)]
pub(super) enum OutgoingError {
    /// The client's body failed or contradicted its length.
    Body(BoxError),
    /// Writing failed.
    Io(io::Error),
}

/// One request being written.
#[derive(Debug)]
pub(super) struct Outgoing<B> {
    /// Dropped when it is exhausted.
    body: Option<B>,
    length: BodyLength,
    gate: Gate,
    /// Bytes to write: `front`, then `data`, then `back`.
    front: Vec<u8>,
    front_written: usize,
    data: Bytes,
    back: &'static [u8],
    written: u64,
    body_taken: bool,
    needs_flush: bool,
}

/// Whether body bytes may be taken from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Not before the backend said `100 Continue`.
    Held,
    Open,
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Serialises the head; nothing is written yet.
    pub(super) fn new(head: &RequestHead<'_>, body: B) -> Self {
        let mut front = SCRATCH.take();
        front.clear();
        serialize_head(head, &mut front);
        let content = has_content(head.body);
        Self {
            body: Some(body),
            length: if content { head.body } else { BodyLength::None },
            gate: if head.expect_continue && content {
                Gate::Held
            } else {
                Gate::Open
            },
            front,
            front_written: 0,
            data: Bytes::new(),
            back: b"",
            written: 0,
            body_taken: false,
            needs_flush: false,
        }
    }

    /// Lets the body go.
    pub(super) fn proceed(&mut self) {
        self.gate = Gate::Open;
    }

    /// Whether the body waits for `100 Continue`.
    pub(super) fn is_held(&self) -> bool {
        self.gate == Gate::Held && !self.body_is_done()
    }

    /// Whether the whole request was handed to the connection.
    pub(super) fn is_done(&self) -> bool {
        self.body_is_done() && !self.has_pending() && !self.needs_flush
    }

    /// Whether any byte was written.
    pub(super) fn has_written(&self) -> bool {
        self.written > 0
    }

    /// The body, if no frame of it was taken.
    pub(super) fn into_untouched_body(mut self) -> Option<B> {
        if self.body_taken { None } else { self.body.take() }
    }

    /// Writes as much as the connection and the client's body allow; ready when all is written.
    pub(super) fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        io: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), OutgoingError>> {
        if self.written == 0 && self.data.is_empty() && !self.body_is_done() && self.gate == Gate::Open {
            // The first frame, if it is there already, leaves with the head.
            if let Poll::Ready(Err(error)) = self.poll_body(cx) {
                return Poll::Ready(Err(OutgoingError::Body(error)));
            }
        }
        loop {
            ready!(self.poll_write_pending(io, cx)).map_err(OutgoingError::Io)?;
            if self.body_is_done() || self.gate == Gate::Held {
                ready!(self.poll_flush(io, cx)).map_err(OutgoingError::Io)?;
                return if self.gate == Gate::Held && !self.body_is_done() {
                    Poll::Pending
                } else {
                    Poll::Ready(Ok(()))
                };
            }
            match self.poll_body(cx) {
                Poll::Ready(result) => result.map_err(OutgoingError::Body)?,
                Poll::Pending => {
                    ready!(self.poll_flush(io, cx)).map_err(OutgoingError::Io)?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_write_pending<W: AsyncWrite + Unpin>(&mut self, io: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.has_pending() {
            let front = self.front.get(self.front_written..).unwrap_or_default();
            let written = if self.data.is_empty() && self.back.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(cx, front))?
            } else {
                let slices = [IoSlice::new(front), IoSlice::new(&self.data), IoSlice::new(self.back)];
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
            self.written += written as u64;
            self.consume(written);
        }
        Poll::Ready(Ok(()))
    }

    fn consume(&mut self, mut written: usize) {
        let from_front = written.min(self.front.len() - self.front_written);
        self.front_written += from_front;
        written -= from_front;
        let from_data = written.min(self.data.len());
        self.data.advance(from_data);
        written -= from_data;
        self.back = self.back.get(written..).unwrap_or_default();
        if self.front_written == self.front.len() {
            self.front_written = 0;
            self.front.clear();
        }
    }

    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, io: &mut W, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.needs_flush {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes frames until there is something to write or the body ended.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        while let Some(body) = self.body.as_mut().filter(|_| self.length != BodyLength::None) {
            match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    self.body_taken = true;
                    self.take_frame(frame)?;
                    if self.has_pending() {
                        break;
                    }
                }
                Some(Err(error)) => {
                    self.body_taken = true;
                    return Poll::Ready(Err(error.into()));
                }
                None => {
                    self.body_taken = true;
                    self.finish(None)?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take_frame(&mut self, frame: Frame<Bytes>) -> Result<(), BoxError> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                return frame
                    .into_trailers()
                    .map_or(Ok(()), |trailers| self.finish(Some(trailers)));
            }
        };
        if data.is_empty() {
            return Ok(());
        }
        match self.length {
            BodyLength::Exact(left) => {
                let left = left
                    .checked_sub(data.len() as u64)
                    .ok_or("the body is longer than its announced length")?;
                self.length = if left == 0 {
                    BodyLength::None
                } else {
                    BodyLength::Exact(left)
                };
                self.data = data;
            }
            BodyLength::None => {}
            BodyLength::Unknown => self.put_chunk(data),
        }
        Ok(())
    }

    fn put_chunk(&mut self, data: Bytes) {
        put_hexadecimal(data.len(), &mut self.front);
        self.data = data;
        self.back = b"\r\n";
        if self.body.as_ref().is_some_and(Body::is_end_stream) {
            self.back = b"\r\n0\r\n\r\n";
            self.length = BodyLength::None;
        }
    }

    fn finish(&mut self, trailers: Option<http::HeaderMap>) -> Result<(), BoxError> {
        match self.length {
            BodyLength::Exact(_) => return Err("the body is shorter than its announced length".into()),
            BodyLength::None => {}
            BodyLength::Unknown => put_last_chunk(trailers, &mut self.front),
        }
        self.length = BodyLength::None;
        Ok(())
    }

    fn body_is_done(&self) -> bool {
        self.length == BodyLength::None
    }

    fn has_pending(&self) -> bool {
        self.front_written < self.front.len() || !self.data.is_empty() || !self.back.is_empty()
    }
}

impl<B> Outgoing<B> {
    /// Gives the head buffer back to the thread once it is no longer needed.
    pub(super) fn recycle(&mut self) {
        if self.front_written == self.front.len() && self.front.capacity() <= MAX_SCRATCH_BYTES {
            SCRATCH.set(std::mem::take(&mut self.front));
            self.front_written = 0;
        }
    }
}

/// The chunk size line.
fn put_hexadecimal(value: usize, out: &mut Vec<u8>) {
    let digits = (usize::BITS - value.leading_zeros()).div_ceil(4).max(1);
    for position in (0..digits).rev() {
        let digit = u8::try_from((value >> (position * 4)) & 0xf).unwrap_or(0);
        out.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
    out.extend_from_slice(b"\r\n");
}
