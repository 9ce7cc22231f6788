//! Bodies of the answers.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};

/// What may go wrong while a body is sent.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The body of every answer.
pub(super) type Body = UnsyncBoxBody<Bytes, Failure>;

/// Bytes of one piece of a long body.
const PIECE: usize = 16 * 1024;

/// Time given to what was written before the connection breaks.
const FLUSH: Duration = Duration::from_millis(20);

/// A body that is there already, with `Content-Length`.
pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// `length` bytes in pieces, without a length known in advance.
pub(super) fn pieces(length: u64) -> Body {
    StreamBody::new(stream::unfold(length, |left| async move {
        let (piece, left) = next_piece(left)?;
        Some((Ok(Frame::data(piece)), left))
    }))
    .boxed_unsync()
}

/// `length` bytes, and then an error that breaks the connection or stream.
pub(super) fn broken_after(length: u64) -> Body {
    StreamBody::new(stream::unfold(Some(length), |left| async move {
        if let Some((piece, left)) = next_piece(left?) {
            return Some((Ok(Frame::data(piece)), Some(left)));
        }
        // What was written leaves only while the body is pending.
        tokio::time::sleep(FLUSH).await;
        Some((Err("truncated as asked".into()), None))
    }))
    .boxed_unsync()
}

/// `count` times one byte, each after `pause`.
pub(super) fn slow(count: u64, pause: Duration) -> Body {
    StreamBody::new(stream::unfold(count, move |left| async move {
        let left = left.checked_sub(1)?;
        tokio::time::sleep(pause).await;
        Some((Ok(Frame::data(Bytes::from_static(b"."))), left))
    }))
    .boxed_unsync()
}

/// One piece of data and then trailers.
pub(super) fn with_trailers(data: Bytes, trailers: HeaderMap) -> Body {
    // A stream, because with a known length there would be no chunks, and so no trailers.
    StreamBody::new(stream::iter([Ok(Frame::data(data)), Ok(Frame::trailers(trailers))])).boxed_unsync()
}

fn next_piece(left: u64) -> Option<(Bytes, u64)> {
    static FILLING: [u8; PIECE] = [b'x'; PIECE];
    if left == 0 {
        return None;
    }
    let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
    Some((Bytes::from_static(&FILLING).slice(..size), left - size as u64))
}
