//! One check of one endpoint.

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use propylon_model::{BackendProtocol, Probe};
use tokio::time::timeout;

use super::grpc;
use crate::{
    duties::CheckSpec,
    upstream::{
        self, Alpn, Answer, BodyLength, BoxError, Connection, PeerTrust, RequestHead, TlsConfigError, TlsTransport,
        Transport, UpstreamBody,
    },
};

/// Why a check failed, as logs and reports say it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Failure(pub(super) String);

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<&str> for Failure {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A way of checking, ready to be used many times.
#[derive(Debug)]
pub(super) struct Prober {
    spec: CheckSpec,
    transport: Result<Transport, TlsConfigError>,
}

impl Prober {
    /// Makes the transport: the pool's own, or for gRPC one that speaks HTTP/2.
    pub(super) fn new(spec: CheckSpec) -> Self {
        let tls = |alpn| TlsTransport::new(&spec.tls, alpn).map(|tls| Transport::Tls(Arc::new(tls)));
        let transport = match (&spec.check.probe, spec.protocol) {
            (_, BackendProtocol::Https) | (Probe::Grpc(_), BackendProtocol::Wss) => tls(Alpn::Http2OrHttp1),
            (_, BackendProtocol::Wss) => tls(Alpn::Http1),
            (Probe::Grpc(_), _) => Ok(Transport::H2c),
            // Only the connection counts: nothing is said on it.
            (Probe::Tcp, _) | (_, BackendProtocol::Http1) => Ok(Transport::Http1),
            (_, BackendProtocol::H2c) => Ok(Transport::H2c),
        };
        Self { spec, transport }
    }

    /// Checks an endpoint once, on a connection of its own. Must run within a `LocalSet` or `LocalRuntime`.
    ///
    /// # Errors
    /// Why the endpoint is not as it should be; the next check may find otherwise.
    pub(super) async fn check(&self, address: SocketAddr) -> Result<(), Failure> {
        let patience = self.spec.check.timeout;
        let checked = timeout(patience, Box::pin(self.ask(address))).await;
        checked.unwrap_or_else(|_| Err(Failure(format!("no answer within {patience:?}"))))
    }

    async fn ask(&self, address: SocketAddr) -> Result<(), Failure> {
        let transport = self.transport.as_ref().map_err(|error| Failure(error.to_string()))?;
        let connected = upstream::connect(address, transport).await;
        let connection = connected.map_err(|error| describe(&error, std::error::Error::source(&error)))?;
        match &self.spec.check.probe {
            Probe::Tcp => Ok(()),
            Probe::Http(path) => self.http(connection, address, path).await,
            Probe::Grpc(service) => self.grpc(connection, address, service).await,
        }
    }

    /// As the kubelet: 200 to 399 is well.
    async fn http(&self, connection: Connection, address: SocketAddr, path: &str) -> Result<(), Failure> {
        if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
            return Err(Failure(format!("the path '{path}' cannot be asked for")));
        }
        let authority = self.authority(address);
        let head = RequestHead {
            extra: &[(&header::USER_AGENT, USER_AGENT.as_bytes()), (&header::ACCEPT, b"*/*")],
            ..head(&Method::GET, path, &authority)
        };
        let response = exchange(connection, &head, Empty::new()).await?;
        let status = response.status();
        // Read to its end, so that the backend sees no broken connection; a long one is not waited for.
        drop(Limited::new(response.into_body(), MOST_BODY).collect().await);
        if (200..400).contains(&status.as_u16()) {
            Ok(())
        } else {
            Err(Failure(format!("status {}", status.as_u16())))
        }
    }

    /// As the kubelet: only `SERVING` is well.
    async fn grpc(&self, connection: Connection, address: SocketAddr, service: &str) -> Result<(), Failure> {
        let Connection::Http2(_) = &connection else {
            return Err("the backend does not speak HTTP/2, which gRPC needs".into());
        };
        let authority = self.authority(address);
        let message = grpc::request(service);
        let deadline = grpc_timeout(self.spec.check.timeout);
        let head = RequestHead {
            body: BodyLength::Unknown,
            te_trailers: true,
            extra: &[
                (&header::USER_AGENT, USER_AGENT.as_bytes()),
                (&header::CONTENT_TYPE, b"application/grpc"),
                (&grpc::TIMEOUT, deadline.as_bytes()),
            ],
            ..head(&Method::POST, grpc::PATH, &authority)
        };
        let body = http_body_util::Full::new(message);
        let response = exchange(connection, &head, body).await?;
        let (parts, body) = response.into_parts();
        if parts.status != http::StatusCode::OK {
            return Err(Failure(format!("status {}", parts.status.as_u16())));
        }
        let body = Limited::new(body, MOST_BODY).collect().await;
        let body = body.map_err(|error| describe("the response broke off", Some(&*error)))?;
        let trailers = body.trailers().cloned();
        grpc::verdict(&parts.headers, trailers.as_ref(), &body.to_bytes())
    }

    /// The address, as for probes of the kubelet; behind an external name, that name.
    fn authority(&self, address: SocketAddr) -> String {
        let tls = matches!(self.spec.protocol, BackendProtocol::Https | BackendProtocol::Wss);
        let usual = if tls { 443 } else { 80 };
        match &self.spec.host {
            Some(host) if address.port() == usual => host.to_string(),
            Some(host) => format!("{host}:{}", address.port()),
            None => address.to_string(),
        }
    }
}

fn head<'a>(method: &'a Method, target: &'a str, authority: &'a str) -> RequestHead<'a> {
    RequestHead {
        method,
        target,
        authority: authority.as_bytes(),
        headers: empty(),
        peer: PeerTrust::Untrusted,
        body: BodyLength::None,
        te_trailers: false,
        expect_continue: false,
        upgrade: None,
        websocket_key: None,
        extra: &[],
    }
}

fn empty() -> &'static HeaderMap {
    static EMPTY: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
    &EMPTY
}

/// The body of a check's request.
type Sent<B> = Pin<Box<B>>;

async fn exchange<B>(
    connection: Connection,
    head: &RequestHead<'_>,
    body: B,
) -> Result<Response<UpstreamBody<Sent<B>>>, Failure>
where
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let body = Box::pin(body);
    let answer = match connection {
        Connection::Http1(connection) => connection.exchange(head, body, None).await,
        Connection::Http2(connection) => connection.exchange(head, body).await,
    };
    match answer {
        Ok(Answer::Response(response)) => Ok(response),
        Ok(Answer::Upgraded(_)) => Err("the backend switched protocols unasked".into()),
        Err(error) => {
            let source = error
                .source
                .as_deref()
                .map(|source| source as &(dyn std::error::Error + 'static));
            Err(describe(error.kind, source))
        }
    }
}

fn describe(what: impl fmt::Display, source: Option<&(dyn std::error::Error + 'static)>) -> Failure {
    Failure(match source {
        Some(source) => format!("{what}: {source}"),
        None => what.to_string(),
    })
}

/// The deadline as gRPC writes it: at most eight digits and a unit.
fn grpc_timeout(timeout: Duration) -> String {
    format!("{}m", timeout.as_millis().clamp(1, 99_999_999))
}

/// What the checks say they are.
const USER_AGENT: &str = concat!("propylon-health/", env!("CARGO_PKG_VERSION"));
/// The kubelet reads as much of a body.
const MOST_BODY: usize = 10 * 1024;
