//! The request head as the server reads it: by the same parser with the same settings.

use std::{
    cell::RefCell,
    convert::Infallible,
    future::Future,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::{Request, Response, request::Parts};
use http_body_util::Empty;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;

use super::query::{Query, Url};
use crate::{
    config::Limits,
    http_server::{http1_builder, refusal},
    reason::Reason,
};

/// The bytes that a client of HTTP/1.1 would send.
pub(super) fn written(query: &Query, url: &Url<'_>) -> String {
    let slash = if url.target.starts_with('/') { "" } else { "/" };
    let mut head = format!("{} {slash}{} HTTP/1.1\r\n", query.method, url.target);
    for (name, value) in fields(query, url) {
        head.push_str(&name);
        head.push_str(": ");
        head.push_str(&value);
        head.push_str("\r\n");
    }
    head + "\r\n"
}

/// The fields of the request, `Host` among them.
pub(super) fn fields(query: &Query, url: &Url<'_>) -> Vec<(String, String)> {
    let is_host = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("host");
    let own = query.headers.iter().find(is_host).is_none();
    let host = own.then(|| ("Host".to_owned(), url.authority.to_owned()));
    host.into_iter().chain(query.headers.iter().cloned()).collect()
}

/// Reads a head; the reason where the parser refuses it.
pub(super) fn read(head: &str, limits: &Limits) -> Result<(Parts, Incoming), Reason> {
    let taken: Rc<RefCell<Option<(Parts, Incoming)>>> = Rc::default();
    let service = {
        let taken = Rc::clone(&taken);
        service_fn(move |request: Request<Incoming>| {
            taken.replace(Some(request.into_parts()));
            std::future::ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
        })
    };
    let io = TokioIo::new(tokio::io::join(head.as_bytes(), tokio::io::sink()));
    let mut connection = pin!(http1_builder(limits).serve_connection(io, service));
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..MAX_POLLS {
        // Everything is there to be read, so that a poll never waits for anything but its next turn.
        let polled = connection.as_mut().poll(&mut context);
        if let Some(read) = taken.take() {
            return Ok(read);
        }
        match polled {
            Poll::Pending => {}
            Poll::Ready(Err(error)) if error.is_parse() => return Err(refusal(&error)),
            Poll::Ready(_) => return Err(Reason::RequestInvalid),
        }
    }
    Err(Reason::RequestInvalid)
}

/// Far more turns than the longest head takes.
const MAX_POLLS: usize = 4096;
