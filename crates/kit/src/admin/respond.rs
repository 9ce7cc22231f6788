//! From a request to its answer.

use std::{collections::BTreeMap, fmt, net::Ipv6Addr, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::sync::Semaphore;

use super::probe::{Check, Probe, verdict};
use crate::metrics::Registry;

/// Answers that are computed at a time, off the runtime's own thread.
const MAX_RENDERING: usize = 2;

type Render = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

/// What an admin server serves. A path that is not in it is 404.
pub struct Routes {
    handlers: BTreeMap<&'static str, Handler>,
    rendering: Arc<Semaphore>,
}

enum Handler {
    Json(Render),
    Metrics(Render),
    Probe(Arc<Probe>, fn(&Probe) -> Vec<Check>),
}

impl Routes {
    /// Serves nothing yet.
    pub fn new() -> Self {
        Self {
            handlers: BTreeMap::new(),
            rendering: Arc::new(Semaphore::new(MAX_RENDERING)),
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

    /// Answers a request; its body is not read.
    pub(super) async fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
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
        match handler {
            Handler::Probe(probe, checks) => {
                let (holds, text) = verdict(&checks(probe), is_verbose(request.uri().query()));
                plain(
                    if holds {
                        StatusCode::OK
                    } else {
                        StatusCode::SERVICE_UNAVAILABLE
                    },
                    text,
                )
            }
            Handler::Metrics(render) => self.rendered(render, "text/plain; version=0.0.4; charset=utf-8").await,
            Handler::Json(render) => {
                if is_local_name(request) {
                    self.rendered(render, "application/json").await
                } else {
                    plain(StatusCode::FORBIDDEN, "the Host must be an IP address or localhost\n")
                }
            }
        }
    }

    async fn rendered(&self, render: &Render, content_type: &'static str) -> Response<Full<Bytes>> {
        let Ok(_permit) = self.rendering.acquire().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down\n");
        };
        let render = Arc::clone(render);
        match tokio::task::spawn_blocking(move || render()).await {
            Ok(body) => with_body(StatusCode::OK, content_type, body.into()),
            Err(error) => {
                tracing::error!(%error, "an admin view panicked");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the view panicked\n")
            }
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

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_body(status, "text/plain; charset=utf-8", text.into())
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn is_verbose(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair.split('=').next() == Some("verbose")))
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
