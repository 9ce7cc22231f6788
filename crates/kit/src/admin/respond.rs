//! From a request to its answer.

use std::{collections::BTreeMap, fmt, net::Ipv6Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::sync::Semaphore;

use super::{
    events::{AnswerBody, EventBody, EventSource},
    probe::{Check, Probe, verdict},
};
use crate::metrics::Registry;

/// Answers that are computed at a time, off the runtime's own thread.
const MAX_RENDERING: usize = 2;
/// Clients that watch streams of events at a time; further ones are refused. Well below the connections of a server, so
/// that probes and metrics always have room.
const MAX_WATCHING: usize = 16;

type Render = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;
/// A view that depends on the request's query, which is passed as it was sent.
pub(super) type RenderQuery = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// A view that may refuse the query; the text says why.
type RenderAnswer = Arc<dyn Fn(&str) -> Result<Vec<u8>, String> + Send + Sync>;

/// What an admin server serves. A path that is not in it is 404.
pub struct Routes {
    handlers: BTreeMap<&'static str, Handler>,
    rendering: Arc<Semaphore>,
    watching: Arc<Semaphore>,
}

enum Handler {
    Events(Arc<EventSource>),
    Html(RenderQuery, HeaderValue),
    Json(Render),
    JsonOf(RenderAnswer),
    Metrics(Render),
    Probe(Arc<Probe>, fn(&Probe) -> Vec<Check>),
}

impl Routes {
    /// Serves nothing yet.
    pub fn new() -> Self {
        Self {
            handlers: BTreeMap::new(),
            rendering: Arc::new(Semaphore::new(MAX_RENDERING)),
            watching: Arc::new(Semaphore::new(MAX_WATCHING)),
        }
    }

    /// Adds `/livez`, `/readyz` and `/startupz`; `?verbose` lists every check.
    #[must_use]
    pub fn probes(mut self, probe: &Arc<Probe>) -> Self {
        self.handlers
            .insert("/livez", Handler::Probe(Arc::clone(probe), Probe::liveness));
        self.handlers
            .insert("/readyz", Handler::Probe(Arc::clone(probe), Probe::readiness));
        self.handlers
            .insert("/startupz", Handler::Probe(Arc::clone(probe), Probe::startup));
        self
    }

    /// Adds `/metrics`.
    #[must_use]
    pub fn metrics(mut self, registry: &Arc<Registry>) -> Self {
        let registry = Arc::clone(registry);
        self.handlers.insert(
            "/metrics",
            Handler::Metrics(Arc::new(move || registry.render().into_bytes())),
        );
        self
    }

    /// Adds a view that writes a JSON text; it runs on a blocking thread.
    #[must_use]
    pub fn json(mut self, path: &'static str, render: impl Fn() -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.handlers.insert(path, Handler::Json(Arc::new(render)));
        self
    }

    /// Adds a view that writes a JSON text for the query of the request, or refuses it (400) with a line of text; it runs
    /// on a blocking thread.
    #[must_use]
    pub fn json_of(
        mut self,
        path: &'static str,
        render: impl Fn(&str) -> Result<Vec<u8>, String> + Send + Sync + 'static,
    ) -> Self {
        self.handlers.insert(path, Handler::JsonOf(Arc::new(render)));
        self
    }

    /// Adds a page: `render` gets the query of the request and gives the HTML text; it runs on a blocking thread.
    /// `policy` is the page's `Content-Security-Policy`.
    #[must_use]
    pub fn html(
        mut self,
        path: &'static str,
        policy: HeaderValue,
        render: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.handlers.insert(path, Handler::Html(Arc::new(render), policy));
        self
    }

    /// Adds a stream of server-sent events, each named `view` with what `render` gives for the request's query: one at
    /// once, then one after each `interval` in which it changed. At most 16 clients watch at a time; a client that
    /// does not read is closed after 10 s, and every stream after five minutes (browsers open it again).
    #[must_use]
    pub fn events(
        mut self,
        path: &'static str,
        interval: Duration,
        render: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let source = EventSource {
            render: Arc::new(render),
            interval,
            rendering: Arc::clone(&self.rendering),
            watching: Arc::clone(&self.watching),
        };
        self.handlers.insert(path, Handler::Events(Arc::new(source)));
        self
    }

    /// Answers a request; its body is not read.
    pub(super) async fn respond<B>(&self, request: &Request<B>) -> Response<AnswerBody> {
        let Some(handler) = self.handlers.get(request.uri().path()) else {
            return plain(StatusCode::NOT_FOUND, "not found\n");
        };
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        if handler.tells_configuration() && !is_local_name(request) {
            return plain(StatusCode::FORBIDDEN, "the Host must be an IP address or localhost\n");
        }
        let query = request.uri().query().unwrap_or_default();
        match handler {
            Handler::Events(source) => watch(source, request.method(), query),
            Handler::Html(render, policy) => {
                let (render, query) = (Arc::clone(render), query.to_owned());
                let mut response = self.rendered(move || render(&query), "text/html; charset=utf-8").await;
                restrict(response.headers_mut(), policy);
                response
            }
            Handler::Probe(probe, checks) => {
                let (holds, text) = verdict(&checks(probe), is_verbose(query));
                plain(
                    if holds {
                        StatusCode::OK
                    } else {
                        StatusCode::SERVICE_UNAVAILABLE
                    },
                    text,
                )
            }
            Handler::Metrics(render) => {
                let render = Arc::clone(render);
                self.rendered(move || render(), "text/plain; version=0.0.4; charset=utf-8")
                    .await
            }
            Handler::Json(render) => {
                let render = Arc::clone(render);
                self.rendered(move || render(), "application/json").await
            }
            Handler::JsonOf(render) => {
                let (render, query) = (Arc::clone(render), query.to_owned());
                self.rendered_or_refused(move || render(&query), "application/json")
                    .await
            }
        }
    }

    async fn rendered(
        &self,
        render: impl FnOnce() -> Vec<u8> + Send + 'static,
        content_type: &'static str,
    ) -> Response<AnswerBody> {
        self.rendered_or_refused(move || Ok(render()), content_type).await
    }

    async fn rendered_or_refused(
        &self,
        render: impl FnOnce() -> Result<Vec<u8>, String> + Send + 'static,
        content_type: &'static str,
    ) -> Response<AnswerBody> {
        let Ok(_permit) = self.rendering.acquire().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
        };
        match tokio::task::spawn_blocking(render).await {
            Ok(Ok(body)) => with_body(StatusCode::OK, content_type, full(body.into())),
            Ok(Err(refusal)) => plain(StatusCode::BAD_REQUEST, refusal),
            Err(error) => {
                tracing::error!(%error, "an admin view panicked");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the view panicked\n")
            }
        }
    }
}

impl Handler {
    /// Whether a foreign web page must not read the answer.
    fn tells_configuration(&self) -> bool {
        match self {
            Self::Events(_) | Self::Html(..) | Self::Json(_) | Self::JsonOf(_) => true,
            Self::Metrics(_) | Self::Probe(..) => false,
        }
    }
}

impl Default for Routes {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.handlers.keys()).finish()
    }
}

fn watch(source: &Arc<EventSource>, method: &Method, query: &str) -> Response<AnswerBody> {
    if method == Method::HEAD {
        return with_body(StatusCode::OK, EVENT_STREAM, full(Bytes::new()));
    }
    let Some(permit) = source.admit() else {
        let text = "too many clients watch already; reload the page instead\n";
        return plain(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let events = EventBody::new(Arc::clone(source), query, permit);
    with_body(StatusCode::OK, EVENT_STREAM, AnswerBody::Events(events))
}

/// What a page may do in a browser, and who may show it.
fn restrict(headers: &mut http::HeaderMap, policy: &HeaderValue) {
    headers.insert(header::CONTENT_SECURITY_POLICY, policy.clone());
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<AnswerBody> {
    with_body(status, "text/plain; charset=utf-8", full(text.into()))
}

fn full(body: Bytes) -> AnswerBody {
    AnswerBody::Full(Full::new(body))
}

fn with_body(status: StatusCode, content_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CORP, HeaderValue::from_static("same-origin"));
    response
}

fn is_verbose(query: &str) -> bool {
    query.split('&').any(|pair| pair.split('=').next() == Some("verbose"))
}

/// Whether the request names the server by an IP address or as `localhost`, which no foreign web page can.
fn is_local_name<B>(request: &Request<B>) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = request.uri().authority().map(http::uri::Authority::as_str).or(host) else {
        return false;
    };
    if let Some(address) = host.strip_prefix('[') {
        return address
            .split_once(']')
            .is_some_and(|(address, _port)| address.parse::<Ipv6Addr>().is_ok());
    }
    let name = host.split_once(':').map_or(host, |(name, _port)| name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::Ipv4Addr>().is_ok()
}

const EVENT_STREAM: &str = "text/event-stream";
/// No page of another origin embeds an answer (Fetch Standard 3.7).
const CORP: header::HeaderName = header::HeaderName::from_static("cross-origin-resource-policy");
