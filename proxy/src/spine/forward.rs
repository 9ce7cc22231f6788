//! The last stages: pick an endpoint, get a connection, exchange, and repeat where that is safe.

use std::{net::SocketAddr, pin::pin, rc::Rc};

use http::Response;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use propylon_kit::clock;
use propylon_model::BackendProtocol;
use propylon_routing::Route;

use super::{
    Answer, Circumstances,
    head::{ExtraFields, HeadParts, body_length, request_head},
    normalise::Normalised,
    retry::{Failure, may_repeat, reason_of},
    upgrade,
};
use crate::{
    balance::power_of_two,
    body::{ClientBody, ResponseBody, Spans},
    edge::client_address::Scratch,
    exchange::{Exchange, ExchangeGuard},
    pool::{LocalEndpoint, LocalPool},
    reason::Reason,
    respond::ProxyError,
    tables::Target,
    upstream::{self, Connection, Home, RequestHead, SendError, Transport, UpstreamError},
};

/// Sends the request to an endpoint of the route's pool and gives its answer.
pub(super) async fn forward(
    exchange: &Rc<Exchange>,
    guard: ExchangeGuard,
    (of, route, request): (&Circumstances<'_>, &Route<Target>, &Normalised<'_>),
    (incoming, on_upgrade): (Incoming, Option<OnUpgrade>),
) -> Answer {
    let Some(handle) = &route.target.pool else {
        return Err((
            ProxyError::new(Reason::BackendNotFound, "the rule has no backend"),
            guard,
        ));
    };
    let spans = Spans::new(
        &route.policy,
        exchange.worker.shared.config.deadlines.body_idle_ms,
        request.facts.grpc,
    );
    if let Some(total) = route.policy.request_timeout {
        exchange.watch.arm_total(exchange.in_ms(crate::config::millis(total)));
    }
    let nonce = on_upgrade.is_some().then(|| exchange.worker.random_u128());
    let asked = upgrade::Asked::of(of.parts, request, nonce);
    let (mut scratch, mut hops) = (Scratch::default(), itoa::Buffer::new());
    let extra = ExtraFields::new(of, request, &mut scratch, &mut hops);
    let (target, websocket_key) = (request.target(), asked.websocket_key());
    let made = HeadParts {
        asked: &asked,
        body: body_length(&incoming, request),
        extra: &extra,
        target: &target,
        websocket_key: websocket_key.as_deref(),
    };
    let head = request_head(of, request, &made);
    let pool = exchange.worker.local_pool(handle);
    let attempts = Attempts {
        exchange,
        pool: &pool,
        spans: &spans,
        head: &head,
        upgrade: asked.is_some(),
    };
    match attempts.run(ClientBody::new(incoming, exchange, &spans)).await {
        // To the client, 2xx would say that the tunnel is there (RFC 8441 4).
        Ok(upstream::Answer::Response(response)) if asked.is_extended_connect() && response.status().is_success() => {
            exchange.upstream.status.set(response.status().as_u16());
            Err((
                ProxyError::new(Reason::UpgradeRefused, "the backend did not switch protocols"),
                guard,
            ))
        }
        Ok(upstream::Answer::Response(response)) => Ok(answer(response, &spans, guard)),
        Ok(upstream::Answer::Upgraded(upgraded)) => Ok(upgrade::accept(*upgraded, &spans, guard, on_upgrade)),
        Err(error) => Err((error, guard)),
    }
}

fn answer(
    response: Response<upstream::UpstreamBody<ClientBody>>,
    spans: &Spans,
    guard: ExchangeGuard,
) -> Response<ResponseBody> {
    let exchange = guard.exchange();
    exchange.status.set(response.status().as_u16());
    exchange.upstream.status.set(response.status().as_u16());
    response.map(|body| ResponseBody::upstream(body, spans, guard))
}

/// The tries of one request.
struct Attempts<'a> {
    exchange: &'a Rc<Exchange>,
    pool: &'a Rc<LocalPool>,
    spans: &'a Spans,
    head: &'a RequestHead<'a>,
    upgrade: bool,
}

/// A connection with what is known of it.
struct Acquired {
    connection: Connection,
    /// The address that the connection was made to, where it is not the one that was picked.
    moved: Option<Rc<LocalEndpoint>>,
    reused: bool,
}

impl Attempts<'_> {
    async fn run(&self, mut body: ClientBody) -> Result<upstream::Answer<ClientBody>, ProxyError> {
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut fresh_only = false;
        loop {
            let endpoint = self.pick(&tried)?;
            self.exchange.lease(&endpoint);
            self.exchange
                .upstream
                .attempts
                .set(self.exchange.upstream.attempts.get().saturating_add(1));
            let last = tried.len() >= RETRIES;
            let acquired = match self.acquire(&endpoint, fresh_only).await {
                Ok(acquired) => acquired,
                Err(error) if last || self.exchange.watch.fired() == Some(Reason::RequestTimeout) => return Err(error),
                Err(error) => {
                    self.exchange.upstream.fault.set(Some(error.reason));
                    self.repeat(&mut tried, endpoint.address, CONNECT_FAILURE);
                    continue;
                }
            };
            let endpoint = acquired.moved.unwrap_or(endpoint);
            let reused = acquired.reused;
            match self.exchange_on(acquired.connection, &endpoint, body).await? {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let failure = Failure {
                        sent: error.sent,
                        response_started: error.response_started,
                        reused,
                        body_untouched: error.body.is_some(),
                    };
                    tracing::debug!(kind = %error.kind, endpoint = %endpoint.address, ?failure, "attempt failed");
                    body = match error.body {
                        Some(body) if !last && may_repeat(&self.exchange.parts.method, failure) => body,
                        _ if client_left(error.source.as_ref()) => return Err(ProxyError::from(Reason::ClientClosed)),
                        _ => return Err(ProxyError::from(reason_of(error.kind))),
                    };
                    // What was idle beside a dead connection is likely dead too.
                    endpoint.drop_idle();
                    self.exchange.upstream.fault.set(Some(reason_of(error.kind)));
                    fresh_only = true;
                    self.repeat(&mut tried, endpoint.address, RESET);
                }
            }
        }
    }

    fn repeat(&self, tried: &mut Vec<SocketAddr>, address: SocketAddr, why: usize) {
        tried.push(address);
        self.exchange.watch.retry();
        self.exchange.worker.metrics.retry(why);
    }

    /// An endpoint that was not tried yet, else any.
    fn pick(&self, tried: &[SocketAddr]) -> Result<Rc<LocalEndpoint>, ProxyError> {
        let worker = &self.exchange.worker;
        let endpoints = self.pool.endpoints(&worker.now_ms);
        let load = |index: usize| endpoints.get(index).map_or(u32::MAX, |endpoint| endpoint.active.get());
        let fresh = |index: usize| {
            endpoints
                .get(index)
                .is_some_and(|endpoint| !tried.contains(&endpoint.address))
        };
        let random = worker.random_u64();
        let index = power_of_two(endpoints.len(), random, load, fresh)
            .or_else(|| power_of_two(endpoints.len(), random, load, |_| true));
        index
            .and_then(|index| endpoints.get(index).map(Rc::clone))
            .ok_or_else(|| ProxyError::new(Reason::NoReadyEndpoints, "the Service has no endpoint that can serve"))
    }

    async fn acquire(&self, endpoint: &Rc<LocalEndpoint>, fresh_only: bool) -> Result<Acquired, ProxyError> {
        if !self.upgrade
            && let Some(connection) = endpoint.http2()
        {
            return Ok(Acquired {
                connection: Connection::Http2(connection),
                moved: None,
                reused: true,
            });
        }
        if !fresh_only && let Some(connection) = endpoint.take_idle() {
            return Ok(Acquired {
                connection: Connection::Http1(connection),
                moved: None,
                reused: true,
            });
        }
        let (connection, moved) = self.connect(endpoint).await?;
        if let Some(moved) = &moved {
            self.exchange.move_lease(moved);
        }
        if let Connection::Http2(shared) = &connection {
            moved.as_ref().unwrap_or(endpoint).keep_http2(shared);
        }
        Ok(Acquired {
            connection,
            moved,
            reused: false,
        })
    }

    /// Connects; where another address of the same name was quicker, gives that too.
    async fn connect(&self, endpoint: &LocalEndpoint) -> Result<(Connection, Option<Rc<LocalEndpoint>>), ProxyError> {
        let exchange = self.exchange;
        let transport = self.transport()?;
        exchange
            .watch
            .arm(exchange.in_ms(self.spans.connect_ms), Reason::ConnectionTimeout);
        let began = clock::now();
        // Boxed: once per connection, and large with its TLS handshake.
        let rival = self.pool.other_family(endpoint);
        let mut connecting = Box::pin(async {
            let Some(rival) = rival else {
                let connection = upstream::connect(endpoint.address, transport).await?;
                return Ok::<_, UpstreamError>((connection, None));
            };
            let connected = upstream::connect_either(endpoint.address, rival.address, transport);
            let (address, connection) = connected.await?;
            Ok((connection, (address == rival.address).then_some(rival)))
        });
        let connected = exchange.watch.guard(connecting.as_mut()).await;
        exchange.watch.disarm();
        exchange.upstream.connect_us.set(Some(began.elapsed_us()));
        match connected {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                tracing::debug!(%error, endpoint = %endpoint.address, "connect failed");
                Err(ProxyError::from(reason_of(error.kind)))
            }
            Err(reason) => Err(ProxyError::from(reason)),
        }
    }

    /// An upgrade needs a connection that speaks HTTP/1.1.
    fn transport(&self) -> Result<&Transport, ProxyError> {
        let handle = &self.pool.handle;
        let transport = match (self.upgrade, handle.spec.protocol) {
            (true, BackendProtocol::H2c) => {
                return Err(ProxyError::new(
                    Reason::UpgradeRefused,
                    "the backend speaks HTTP/2 only",
                ));
            }
            (true, _) => &handle.upgrade_transport,
            (false, _) => &handle.transport,
        };
        transport.as_ref().map_err(|_| {
            ProxyError::new(
                Reason::TlsCertificateError,
                "the TLS settings of the backend are not usable",
            )
        })
    }

    async fn exchange_on(
        &self,
        connection: Connection,
        endpoint: &Rc<LocalEndpoint>,
        body: ClientBody,
    ) -> Result<Result<upstream::Answer<ClientBody>, SendError<ClientBody>>, ProxyError> {
        let exchange = self.exchange;
        exchange
            .watch
            .arm(exchange.in_ms(self.spans.response_ms), Reason::ResponseTimeout);
        let began = clock::now();
        exchange.upstream.sent.set(Some(began));
        let result = match connection {
            Connection::Http1(connection) => {
                let home: Rc<dyn Home> = Rc::<LocalEndpoint>::clone(endpoint);
                let future = pin!(connection.exchange(self.head, body, Some(home)));
                exchange.watch.guard(future).await
            }
            Connection::Http2(connection) => {
                let future = pin!(connection.exchange(self.head, body));
                exchange.watch.guard(future).await
            }
        };
        exchange.upstream.first_byte_us.set(Some(began.elapsed_us()));
        result.map_err(|reason| {
            ProxyError::from(if reason == Reason::ResponseIdle {
                Reason::ResponseTimeout
            } else {
                reason
            })
        })
    }
}

/// Whether an exchange failed because the client went away in the middle of its body.
fn client_left(source: Option<&upstream::BoxError>) -> bool {
    source
        .and_then(|source| source.downcast_ref::<hyper::Error>())
        .is_some_and(|error| {
            error.is_incomplete_message() || error.is_canceled() || error.is_closed() || error.is_body_write_aborted()
        })
}

/// Attempts after the first.
const RETRIES: usize = 2;
/// Index of the retry reason: the connection could not be made.
pub(crate) const CONNECT_FAILURE: usize = 0;
/// Index of the retry reason: the connection ended before a response.
pub(crate) const RESET: usize = 1;
/// The retry reasons, as metrics name them.
pub(crate) const RETRY_REASONS: &[&str] = &["connect-failure", "reset"];
