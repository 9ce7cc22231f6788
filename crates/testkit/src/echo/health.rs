//! How the backend says that it is, by HTTP and by the gRPC health checking protocol.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU16, AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::body::{self, Body, Failure};

/// What is said, and what was asked.
#[derive(Debug)]
pub(super) struct Health {
    status: AtomicU16,
    checks: AtomicU64,
    last: Mutex<Option<(String, String)>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            status: AtomicU16::new(200),
            checks: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }
}

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Grpc,
    Http,
}

/// Whether a request asks for the health.
pub(super) fn wanted(request: &Request<Incoming>) -> Option<Asked> {
    match request.uri().path() {
        "/grpc.health.v1.Health/Check" if *request.method() == Method::POST => Some(Asked::Grpc),
        "/health" => Some(Asked::Http),
        _ => None,
    }
}

impl Health {
    pub(super) fn set(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    pub(super) fn checks(&self) -> u64 {
        self.checks.load(Ordering::Relaxed)
    }

    pub(super) fn last(&self) -> Option<(String, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn answer(&self, asked: Asked, request: Request<Incoming>) -> Result<Response<Body>, Failure> {
        self.note(&request);
        let status = StatusCode::from_u16(self.status.load(Ordering::Relaxed))?;
        let response = match asked {
            Asked::Grpc => grpc(status, &request.into_body().collect().await?.to_bytes()),
            Asked::Http => Response::builder()
                .status(status)
                .body(body::full(Bytes::from_static(b"health\n"))),
        };
        self.checks.fetch_add(1, Ordering::Relaxed);
        Ok(response?)
    }

    fn note(&self, request: &Request<Incoming>) {
        let field = |name| request.headers().get(name)?.to_str().ok().map(ToOwned::to_owned);
        let authority = request.uri().authority().map(ToString::to_string);
        let authority = authority.or_else(|| field(header::HOST)).unwrap_or_default();
        let agent = field(header::USER_AGENT).unwrap_or_default();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((authority, agent));
    }
}

fn grpc(status: StatusCode, request: &[u8]) -> http::Result<Response<Body>> {
    let builder = Response::builder().header(header::CONTENT_TYPE, "application/grpc");
    let service = match request {
        [0, 0, 0, 0, 0] => "",
        [0, 0, 0, 0, _, 0x0a, _, name @ ..] => std::str::from_utf8(name).unwrap_or("?"),
        _ => "?",
    };
    if !matches!(service, "" | "echo") {
        // NOT_FOUND, with nothing but a head.
        return builder.header("grpc-status", "5").body(body::full(Bytes::new()));
    }
    let serving = if status.is_success() { 1 } else { 2 };
    let message = Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, serving]);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    builder.body(body::with_trailers(message, trailers))
}
