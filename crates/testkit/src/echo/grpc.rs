//! gRPC without a description of messages: what comes goes back.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;

use super::body::{Body, Failure};

/// The method whose answer is a stream that goes on without the client.
const REPEAT: &str = "/echo.Echo/Repeat";
/// Bytes of the prefix of a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Answers a call of any method.
pub(super) async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    let (head, body) = request.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).cloned();
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static("application/grpc"));
    if head.uri.path() != REPEAT {
        return echo(kind, body);
    }
    let number = |name| -> Option<u64> { head.headers.get(name)?.to_str().ok()?.parse().ok() };
    let count = number("echo-count").unwrap_or(1);
    let pause = Duration::from_millis(number("echo-interval-ms").unwrap_or(0));
    let message = first_message(body).await?;
    let frames = stream::unfold(Some(count), move |left| {
        let message = message.clone();
        async move {
            let Some(rest) = left?.checked_sub(1) else {
                return Some((Ok(Frame::trailers(grpc_status_ok())), None));
            };
            tokio::time::sleep(pause).await;
            Some((Ok(Frame::data(message)), Some(rest)))
        }
    });
    Ok(Response::builder()
        .header(header::CONTENT_TYPE, kind)
        .body(StreamBody::new(frames).boxed_unsync())?)
}

/// The first message with its prefix; the client need not have ended its half.
async fn first_message(mut body: Incoming) -> Result<Bytes, Failure> {
    let mut bytes = BytesMut::new();
    loop {
        if let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX>() {
            let [_, length @ ..] = *prefix;
            let length = usize::try_from(u32::from_be_bytes(length))?;
            if rest.len() >= length {
                return Ok(bytes.split_to(PREFIX + length).freeze());
            }
        }
        let frame = body.frame().await.ok_or("the call ended before its first message")??;
        bytes.extend(frame.into_data().ok());
    }
}

/// gRPC (unary and streams in both directions): the frames as they come, then the status in trailers.
fn echo(kind: HeaderValue, body: Incoming) -> Result<Response<Body>, Failure> {
    let frames = stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        loop {
            match body.frame().await {
                None => return Some((Ok(Frame::trailers(grpc_status_ok())), None)),
                Some(Err(error)) => return Some((Err(error.into()), None)),
                Some(Ok(frame)) if frame.is_data() => return Some((Ok(frame), Some(body))),
                // The trailers of a request say nothing in gRPC.
                Some(Ok(_)) => {}
            }
        }
    });
    Ok(Response::builder()
        .header(header::CONTENT_TYPE, kind)
        .body(StreamBody::new(frames).boxed_unsync())?)
}

/// OK.
fn grpc_status_ok() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("grpc-message", HeaderValue::from_static("echoed"));
    trailers
}
