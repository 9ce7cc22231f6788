//! The request spine: normalise, route, filters, forward. Each stage is a plain function; an error of any of them becomes
//! a response in exactly one place.

mod acquire;
mod attempts;
mod circumstances;
mod forward;
mod head;
mod normalise;
mod retry;
mod sticky;
mod upgrade;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use http::{
    HeaderValue, Method, Request, Response,
    header::{self, Entry},
};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use propylon_model::{Action, Refusal};
use propylon_routing::{Found, Route};

pub(crate) use self::{
    circumstances::{Circumstances, limits},
    head::{ExtraFields, HeadParts, body_length, request_head},
    normalise::{Normalised, normalise},
    retry::RETRY_REASONS,
    sticky::Sticky,
    upgrade::Asked,
};
use crate::{
    body::ResponseBody,
    connection_state::ConnectionState,
    exchange::{Exchange, ExchangeGuard, Matched},
    reason::Reason,
    respond::{self, ProxyError, respond},
    tables::Target,
    worker::{Stage, Worker},
};

/// What a stage passes on: the answer with its exchange, or the error with its exchange.
type Answer = Result<Response<ResponseBody>, (ProxyError, ExchangeGuard)>;

/// Answers one request.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    connection: Rc<ConnectionState>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (mut parts, incoming) = request.into_parts();
    let upgrade = if parts.method == Method::CONNECT {
        parts.extensions.remove::<OnUpgrade>()
    } else {
        None
    };
    let guard = Exchange::begin(&worker, &connection, parts);
    let exchange = Rc::clone(guard.exchange());
    // Pinned where it is made: the future is several KiB, and wrappers would move it.
    let mut stages = pin!(stages(&exchange, guard, incoming, upgrade));
    let answered = poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| stages.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(answer)) => Poll::Ready(Ok(answer)),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    );
    let mut response = match answered.await {
        Ok(Ok(response)) => response,
        Ok(Err((error, guard))) => respond(&error, guard),
        Err(_) => {
            worker.metrics.panic();
            respond::internal_error()
        }
    };
    // As gateways do where the backend names none; without a version, which helps nobody but an attacker.
    if let Entry::Vacant(place) = response.headers_mut().entry(header::SERVER) {
        place.insert(HeaderValue::from_static("propylon"));
    }
    if (worker.shared.stage() != Stage::Running || worker.shared.pressure.is_any())
        && !connection.http2.get()
        && response.status() != http::StatusCode::SWITCHING_PROTOCOLS
    {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

async fn stages(
    exchange: &Rc<Exchange>,
    guard: ExchangeGuard,
    incoming: Incoming,
    upgrade: Option<OnUpgrade>,
) -> Answer {
    let circumstances = Circumstances::of(exchange);
    if exchange.worker.shared.pressure.refuses_requests() {
        return Err((ProxyError::from(Reason::OverloadMemory), guard));
    }
    let request = match normalise(&circumstances) {
        Ok(request) => request,
        Err(error) => return Err((error, guard)),
    };
    normalise::note(exchange, &request);
    // The tables are pinned once, for the whole request.
    let tables = exchange.worker.tables();
    let route = match tables.routes.find(request.host(), &request.path) {
        Found::Route(route) => route,
        other => return Err((not_found(&other), guard)),
    };
    note_match(exchange, route);
    if let Err(error) = filters(&circumstances, route, &request) {
        return Err((error, guard));
    }
    forward::forward(exchange, guard, (&circumstances, route, &request), (incoming, upgrade)).await
}

/// The answer where no route was found.
pub(crate) fn not_found(found: &Found<'_, Target>) -> ProxyError {
    match found {
        Found::NoHost => ProxyError::new(Reason::RouteNotFoundHost, "no Ingress has a rule for this host"),
        Found::Ambiguous => ProxyError::new(
            Reason::PathAmbiguous,
            "servers may read this path in ways that select different rules",
        ),
        Found::NoPath | Found::Route(_) => {
            ProxyError::new(Reason::RouteNotFoundPath, "the host has rules, but none for this path")
        }
    }
}

fn note_match(exchange: &Exchange, route: &Route<Target>) {
    let target = &route.target;
    let series = exchange.worker.metrics.route(target.metrics);
    series.inflight().inc();
    let port = target.pool.as_ref().map_or(0, |pool| pool.spec.port);
    if let Some(cells) = target.stats.cells(exchange.worker.metrics.index()) {
        cells.in_flight.inc();
    }
    exchange.matched.replace(Some(Matched {
        series,
        stats: std::sync::Arc::clone(&target.stats),
        port,
    }));
}

/// What is answered without an endpoint.
fn filters(of: &Circumstances<'_>, route: &Route<Target>, request: &Normalised<'_>) -> Result<(), ProxyError> {
    redirect_https(of, route, request)?;
    max_forwards(request)?;
    refusal(route)
}

/// Answers plain HTTP with 308 to HTTPS, where the route wants it.
pub(crate) fn redirect_https(
    of: &Circumstances<'_>,
    route: &Route<Target>,
    request: &Normalised<'_>,
) -> Result<(), ProxyError> {
    if route.redirect_https && !request.is_https() && !is_acme(request) {
        return Err(redirect(of, request));
    }
    Ok(())
}

/// HTTP-01 challenges are never redirected (RFC 8555 8.3).
pub(crate) fn is_acme(request: &Normalised<'_>) -> bool {
    request.path.normal().starts_with(ACME)
}

/// Answers OPTIONS with `Max-Forwards: 0` (RFC 9110 7.6.2).
pub(crate) fn max_forwards(request: &Normalised<'_>) -> Result<(), ProxyError> {
    match request.max_forwards {
        Some(0) => Err(ProxyError::new(Reason::MaxForwards, "answered by the proxy")),
        _ => Ok(()),
    }
}

/// Answers 503 where the route has no backend to go to.
pub(crate) fn refusal(route: &Route<Target>) -> Result<(), ProxyError> {
    match &route.action {
        Action::Forward(_) => Ok(()),
        Action::Refuse(Refusal::BackendNotFound(_)) => {
            Err(ProxyError::new(Reason::BackendNotFound, "the Service does not exist"))
        }
        Action::Refuse(Refusal::BackendPortNotFound(_)) => Err(ProxyError::new(
            Reason::BackendPortNotFound,
            "the Service has no such port",
        )),
        Action::Refuse(Refusal::RestrictionUnsupported(_)) => Err(ProxyError::new(
            Reason::RestrictionUnsupported,
            "the Ingress restricts access in a way that is not supported yet",
        )),
    }
}

/// 308 to the same host, path and query over HTTPS.
fn redirect(of: &Circumstances<'_>, request: &Normalised<'_>) -> ProxyError {
    let host = match request.host() {
        // HTTP/1.0 without Host: the address that the client connected to is all there is.
        "" => of.local.ip().to_string(),
        host => host.to_owned(),
    };
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host
    };
    let target = request.target();
    let location = match of.https_public_port {
        443 | 0 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    let mut error = ProxyError::new(Reason::RedirectHttps, "");
    error.location = HeaderValue::from_str(&location).ok();
    error
}

/// Where HTTP-01 challenges are asked for.
const ACME: &str = "/.well-known/acme-challenge/";
