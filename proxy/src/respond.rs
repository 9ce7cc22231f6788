//! The one place where an error becomes a response.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use thiserror::Error;

use crate::{body::ResponseBody, exchange::ExchangeGuard, reason::Reason};

/// Why a request gets an answer of ours.
#[derive(Debug, Error)]
#[error("{}: {detail}", reason.code())]
pub(crate) struct ProxyError {
    pub(crate) reason: Reason,
    /// What a person should know; never text of the client.
    pub(crate) detail: &'static str,
    /// Value of `Location`, on redirects.
    pub(crate) location: Option<HeaderValue>,
}

impl ProxyError {
    pub(crate) fn new(reason: Reason, detail: &'static str) -> Self {
        Self {
            reason,
            detail,
            location: None,
        }
    }
}

impl From<Reason> for ProxyError {
    fn from(reason: Reason) -> Self {
        Self::new(reason, "")
    }
}

/// Builds the response: status of the reason, `Proxy-Status` (RFC 9209), a line of text.
pub(crate) fn respond(error: &ProxyError, guard: ExchangeGuard) -> Response<ResponseBody> {
    let reason = error.reason;
    let exchange = guard.exchange();
    exchange.status.set(reason.status().as_u16());
    exchange.note(reason);
    exchange.complete.set(true);
    let (status, is_head) = (reason.status(), exchange.parts.method == http::Method::HEAD);
    let closes = is_doubt(reason) && !exchange.connection.http2.get();
    let text = match error.detail {
        "" => format!("{status}\n{}\n", reason.code()),
        detail => format!("{status}\n{}: {detail}\n", reason.code()),
    };
    let length = HeaderValue::from(text.len());
    exchange.response_bytes.set(if is_head { 0 } else { text.len() as u64 });
    let body = if is_head {
        ResponseBody::empty(guard)
    } else {
        ResponseBody::full(Bytes::from(text), guard)
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CONTENT_LENGTH, length);
    if let Ok(value) = HeaderValue::from_str(&proxy_status(reason)) {
        headers.insert("proxy-status", value);
    }
    if closes {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(location) = &error.location {
        headers.insert(header::LOCATION, location.clone());
    }
    match reason {
        Reason::MaxForwards | Reason::TraceNotAllowed => {
            headers.insert(header::ALLOW, HeaderValue::from_static(METHODS))
        }
        Reason::EndpointQueueFull
        | Reason::EndpointQueueTimeout
        | Reason::NoReadyEndpoints
        | Reason::OverloadConnections
        | Reason::OverloadDescriptors
        | Reason::OverloadMemory => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        _ => None,
    };
    response
}

/// Whether it is in doubt where the request ends: what follows it on an HTTP/1.1 connection may be its body (RFC 9112 11.2).
fn is_doubt(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ConnectNotImplemented
            | Reason::HeadersTooLarge
            | Reason::HostInvalid
            | Reason::RequestBodyInvalid
            | Reason::RequestBodyTimeout
            | Reason::RequestInvalid
            | Reason::UriTooLong
    )
}

/// The answer where a panic took the exchange with it.
pub(crate) fn internal_error() -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::detached());
    *response.status_mut() = Reason::InternalError.status();
    if let Ok(value) = HeaderValue::from_str(&proxy_status(Reason::InternalError)) {
        response.headers_mut().insert("proxy-status", value);
    }
    response
}

/// `propylon; error=TYPE; details="CODE"`.
pub(crate) fn proxy_status(reason: Reason) -> String {
    match reason.status().as_u16() {
        200..400 => format!("propylon; details=\"{}\"", reason.code()),
        _ => format!(
            "propylon; error={}; details=\"{}\"",
            reason.proxy_error(),
            reason.code()
        ),
    }
}

const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS";
