//! What is answered to a request.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts, response};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{
    Counters,
    body::{self, Body, Failure},
    grpc, health,
    report::{Received, receive, report},
    upgrade,
};

/// What is known of the connection that a request came on.
#[derive(Clone)]
pub(super) struct Connection {
    /// The name of the backend.
    pub name: Arc<str>,
    /// Further members of a report.
    pub facts: Arc<BTreeMap<String, String>>,
    /// The client.
    pub peer: SocketAddr,
    /// Counts up from 1.
    pub number: u64,
    /// Whether it is encrypted.
    pub tls: bool,
    /// Of the backend.
    pub counters: Arc<Counters>,
}

/// What the path asks for.
enum Wish {
    Bytes(u64),
    Chunked(u64),
    Close,
    Delay(Duration),
    Echo,
    Headers,
    Live,
    Report,
    SlowBody(u64, Duration),
    Status(StatusCode),
    Trailers,
    Truncate(u64),
}

impl Wish {
    fn of(uri: &Uri) -> Self {
        let mut segments = uri.path().trim_start_matches('/').split('/');
        let word = segments.next().unwrap_or_default();
        let mut number = || segments.next().and_then(|text| text.parse::<u64>().ok());
        let parameter = |name| parameter(uri.query().unwrap_or_default(), name);
        let wish = match word {
            "bytes" => number().or_else(|| parameter("n")).map(Self::Bytes),
            "chunked" => number().map(Self::Chunked),
            "close" => Some(Self::Close),
            "delay" => number().map(|pause| Self::Delay(Duration::from_millis(pause))),
            "echo" => Some(Self::Echo),
            "headers" => Some(Self::Headers),
            "live" => Some(Self::Live),
            "slow" => parameter("ms").map(|pause| Self::Delay(Duration::from_millis(pause))),
            "slow-body" => number()
                .zip(number())
                .map(|(count, pause)| Self::SlowBody(count, Duration::from_millis(pause))),
            "status" => number()
                .and_then(|code| u16::try_from(code).ok())
                .and_then(|code| StatusCode::from_u16(code).ok())
                .map(Self::Status),
            "trailers" => Some(Self::Trailers),
            "truncate" => number().map(Self::Truncate),
            _ => None,
        };
        wish.unwrap_or(Self::Report)
    }
}

/// A number among the parameters of a query.
fn parameter(query: &str, name: &str) -> Option<u64> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name)?.1.parse().ok()
}

/// Answers one request; an error breaks the connection (or stream).
pub(super) async fn answer(connection: Connection, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
    connection.counters.requests.fetch_add(1, Ordering::Relaxed);
    if upgrade::is_wanted(&request) {
        return upgrade::accept(request);
    }
    if let Some(wanted) = health::wanted(&request) {
        return connection.counters.health.answer(wanted, request).await;
    }
    if is_grpc(request.headers()) {
        return grpc::answer(request).await;
    }
    let (head, body) = request.into_parts();
    match Wish::of(&head.uri) {
        Wish::Bytes(length) => {
            receive(body).await?;
            with_length(length, body::pieces(length))
        }
        Wish::Chunked(length) => {
            receive(body).await?;
            Ok(Response::new(body::pieces(length)))
        }
        Wish::Close => Err("closed as asked".into()),
        Wish::Delay(pause) => {
            let received = receive(body).await?;
            tokio::time::sleep(pause).await;
            json(StatusCode::OK, report(&connection, &head, &received))
        }
        Wish::Echo => Ok(echo(&head, body)),
        Wish::Headers => json(StatusCode::OK, report(&connection, &head, &Received::default())),
        Wish::Live => Ok(Response::new(body::full("live\n"))),
        Wish::Report => json(StatusCode::OK, report(&connection, &head, &receive(body).await?)),
        Wish::SlowBody(count, pause) => {
            receive(body).await?;
            Ok(Response::new(body::slow(count, pause)))
        }
        Wish::Status(status) => {
            let received = receive(body).await?;
            json(status, report(&connection, &head, &received))
        }
        Wish::Trailers => trailers(&receive(body).await?),
        Wish::Truncate(length) => with_length(length, body::broken_after(length / 2)),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn json(status: StatusCode, report: Bytes) -> Result<Response<Body>, Failure> {
    let body = if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        body::full(Bytes::new())
    } else {
        body::full(report)
    };
    let builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json");
    Ok(builder.body(body)?)
}

fn with_length(length: u64, body: Body) -> Result<Response<Body>, Failure> {
    Ok(Response::builder().header(header::CONTENT_LENGTH, length).body(body)?)
}

/// The request body and its trailers, as they come.
fn echo(head: &Parts, body: Incoming) -> Response<Body> {
    let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
    for name in [header::CONTENT_TYPE, header::TRAILER] {
        if let Some(value) = head.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    if head.method == Method::HEAD {
        *response.body_mut() = body::full(Bytes::new());
    }
    response
}

fn trailers(received: &Received) -> Result<Response<Body>, Failure> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-echo-trailer", HeaderValue::from(received.body_bytes));
    let data = Bytes::from_static(b"trailers follow\n");
    Ok(response::Builder::new()
        .header(header::TRAILER, "x-echo-trailer")
        .body(body::with_trailers(data, trailers))?)
}
