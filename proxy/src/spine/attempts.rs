//! The attempts of one request: pick an endpoint, get a connection, exchange, and repeat where the policy says so and it is
//! safe.

use std::{future::poll_fn, net::SocketAddr, pin::pin, rc::Rc};

use propylon_kit::clock;
use propylon_model::{BackendProtocol, RetryPolicy};

use super::retry::{self, Failure, Repeat, may_repeat, reason_of};
use crate::{
    balance::outlier,
    body::{ClientBody, Spans},
    config::millis,
    exchange::Exchange,
    pool::{Lease, LocalEndpoint, LocalPool, Permit, Picked, Wanted},
    reason::Reason,
    respond::ProxyError,
    upstream::{self, Answer, Connection, Home, RequestHead, SendError, Transport, UpstreamError, UpstreamErrorKind},
};

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    pub(super) exchange: &'a Rc<Exchange>,
    pub(super) pool: &'a Rc<LocalPool>,
    pub(super) spans: &'a Spans,
    pub(super) head: &'a RequestHead<'a>,
    pub(super) retry: &'a RetryPolicy,
    /// Where the client's affinity cookie leads.
    pub(super) sticky: Option<SocketAddr>,
    pub(super) upgrade: bool,
}

/// What was tried so far.
#[derive(Default)]
struct Tried {
    addresses: Vec<SocketAddr>,
    /// Whether idle connections are not to be trusted.
    fresh_only: bool,
    /// Attempts that count: one that was refused at the door does not, while there are others to ask.
    counted: u8,
    /// How often room was found that another took.
    missed: u8,
    /// Whether the request has no body, so that it can be sent again after it was sent.
    bodyless: bool,
}

/// A connection with what is known of it.
struct Acquired {
    connection: Connection,
    /// The address that the connection was made to, where it is not the one that was picked.
    moved: Option<Rc<LocalEndpoint>>,
    reused: bool,
}

/// A new connection, and the address that it was made to, where it is not the one that was picked.
type Connected = (Connection, Option<Rc<LocalEndpoint>>);

/// Why an attempt led to no response.
struct Setback {
    error: ProxyError,
    /// The request body, where nothing was taken of it.
    body: Option<ClientBody>,
    cause: Cause,
}

enum Cause {
    /// The connection could not be made: nothing was sent.
    Connect,
    /// Another request took the last connection that the endpoint may have.
    Full,
    /// The connection ended before a response.
    Reset(Failure),
    /// No response in time.
    Timeout,
    /// Another attempt would not help.
    Final,
}

impl Attempts<'_> {
    /// Gives the answer of the first attempt that is not to be repeated.
    pub(super) async fn run(&self, body: ClientBody) -> Result<Answer<ClientBody>, ProxyError> {
        let mut tried = Tried {
            bodyless: body.is_empty(),
            ..Tried::default()
        };
        let mut body = body;
        self.pool.group.count_request();
        loop {
            let endpoint = self.lease(&tried.addresses).await?;
            let attempts = &self.exchange.upstream.attempts;
            attempts.set(attempts.get().saturating_add(1));
            let repeat = match self.attempt(&endpoint, tried.fresh_only, body).await {
                Ok(answer) => {
                    let status = status_of(&answer);
                    if !self.retry.on.has_status(status) {
                        return Ok(answer);
                    }
                    match self.after_status(&answer, status, &tried) {
                        Some(repeat) => repeat,
                        None => return Ok(answer),
                    }
                }
                Err(Setback {
                    body: Some(back),
                    cause: Cause::Full,
                    ..
                }) if tried.missed < MOST_MISSED => {
                    self.exchange.release();
                    (tried.missed, tried.fresh_only, body) = (tried.missed + 1, false, back);
                    continue;
                }
                Err(setback) => self.after_setback(setback, &endpoint, &mut tried)?,
            };
            self.end_attempt(&repeat, &mut tried, endpoint.address).await?;
            body = repeat.body;
        }
    }

    async fn attempt(
        &self,
        endpoint: &Rc<LocalEndpoint>,
        fresh_only: bool,
        body: ClientBody,
    ) -> Result<Answer<ClientBody>, Setback> {
        let acquired = match self.acquire(endpoint, fresh_only).await {
            Ok(acquired) => acquired,
            Err((error, cause)) => {
                let body = Some(body);
                return Err(Setback { error, body, cause });
            }
        };
        let endpoint = acquired.moved.as_ref().unwrap_or(endpoint);
        let reused = acquired.reused;
        match self.exchange_on(acquired.connection, endpoint, body).await {
            Ok(Ok(answer)) => {
                self.pool.answered(self.exchange, endpoint, status_of(&answer));
                Ok(answer)
            }
            Ok(Err(error)) => Err(self.broken(endpoint, error, reused)),
            Err(error) => {
                let late = error.reason == Reason::ResponseTimeout;
                if late {
                    self.pool.failed(self.exchange, endpoint, outlier::Failure::Response);
                }
                Err(Setback {
                    error,
                    body: None,
                    cause: if late { Cause::Timeout } else { Cause::Final },
                })
            }
        }
    }

    /// What to do where an endpoint did not answer.
    ///
    /// # Errors
    /// The setback's, where the request is not sent again.
    fn after_setback(
        &self,
        setback: Setback,
        endpoint: &LocalEndpoint,
        tried: &mut Tried,
    ) -> Result<Repeat, ProxyError> {
        let Setback { error, body, cause } = setback;
        let repeat = |body, why| Repeat {
            body,
            why,
            fault: Some(error.reason),
            is_free: false,
            wait_ms: 0,
        };
        if !self.is_left(tried) {
            return Err(error);
        }
        let (on, method) = (&self.retry.on, &self.exchange.parts.method);
        match (cause, body) {
            (Cause::Connect, Some(body)) if on.connect_failure => Ok(Repeat {
                is_free: error.reason == Reason::ConnectionRefused && self.has_others(tried),
                ..repeat(body, retry::CONNECT_FAILURE)
            }),
            (Cause::Reset(failure), Some(body)) if on.reset && may_repeat(method, self.retry, failure) => {
                // What was idle beside a dead connection is likely dead too.
                endpoint.drop_idle();
                tried.fresh_only = true;
                Ok(repeat(body, retry::RESET))
            }
            (Cause::Timeout, _) if self.retry.per_try_timeout.is_some() && self.may_resend(tried) => {
                let body = ClientBody::empty(self.exchange, self.spans);
                Ok(repeat(body, retry::TIMEOUT))
            }
            _ => Err(error),
        }
    }

    /// What to do where an endpoint answered with a status that is to be repeated; none: hand the answer on.
    fn after_status(&self, answer: &Answer<ClientBody>, status: u16, tried: &Tried) -> Option<Repeat> {
        let Answer::Response(response) = answer else {
            return None;
        };
        let wait_ms = retry::wait_ms(response.headers())?;
        if self.upgrade || !self.is_left(tried) || !self.may_resend(tried) {
            return None;
        }
        self.exchange.upstream.status.set(status);
        Some(Repeat {
            body: ClientBody::empty(self.exchange, self.spans),
            why: retry::status_index(status),
            fault: None,
            is_free: false,
            wait_ms,
        })
    }

    /// Ends an attempt that is followed by another, and waits as long as the endpoint asked for.
    ///
    /// # Errors
    /// When the whole exchange takes too long.
    async fn end_attempt(&self, repeat: &Repeat, tried: &mut Tried, address: SocketAddr) -> Result<(), ProxyError> {
        let exchange = self.exchange;
        exchange.upstream.fault.set(repeat.fault);
        exchange.release();
        exchange.upstream.status.set(0);
        tried.addresses.push(address);
        tried.counted += u8::from(!repeat.is_free);
        exchange.watch.retry();
        exchange.worker.metrics.retry(repeat.why);
        if repeat.wait_ms > 0 {
            let until_ms = exchange.in_ms(repeat.wait_ms);
            exchange.watch.arm(until_ms, Reason::ResponseTimeout);
            let waited = exchange.watch.guard(pin!(std::future::pending::<()>())).await;
            if waited == Err(Reason::RequestTimeout) {
                return Err(ProxyError::from(Reason::RequestTimeout));
            }
            exchange.watch.retry();
        }
        Ok(())
    }

    fn is_left(&self, tried: &Tried) -> bool {
        tried.counted < self.retry.attempts && self.exchange.watch.fired() != Some(Reason::RequestTimeout)
    }

    /// Whether there are endpoints, apart from the one that was just asked, that were not asked yet.
    fn has_others(&self, tried: &Tried) -> bool {
        let asked = tried.addresses.len() + 1;
        asked < MOST_ASKED.min(self.pool.size())
    }

    /// Whether a request that an endpoint has seen may be sent again: it has the same effect twice, and there is budget.
    fn may_resend(&self, tried: &Tried) -> bool {
        let exchange = self.exchange;
        tried.bodyless
            && (self.retry.non_idempotent || exchange.parts.method.is_idempotent())
            && self.pool.group.withdraw_retry()
    }

    /// Leases an endpoint that was not tried yet, else any; waits where none has room.
    async fn lease(&self, tried: &[SocketAddr]) -> Result<Rc<LocalEndpoint>, ProxyError> {
        let waiting = &self.pool.handle.endpoints.waiting;
        // Who waits comes first.
        if !self.pool.is_limited() || waiting.is_empty() {
            if let Some(leased) = self.try_lease(tried) {
                return leased;
            }
        }
        // Boxed: rare, and only where there are limits.
        Box::pin(self.wait_for_room(tried)).await
    }

    async fn wait_for_room(&self, tried: &[SocketAddr]) -> Result<Rc<LocalEndpoint>, ProxyError> {
        let (exchange, endpoints) = (self.exchange, &self.pool.handle.endpoints);
        let limits = &self.pool.handle.spec.policy.limits;
        let Some(place) = endpoints.waiting.join(limits.max_pending) else {
            return Err(ProxyError::new(
                Reason::EndpointQueueFull,
                "every endpoint has as much to do as it may, and too many requests wait already",
            ));
        };
        let until_ms = exchange.in_ms(millis(limits.pending_timeout));
        exchange.watch.arm(until_ms, Reason::EndpointQueueTimeout);
        let turn = poll_fn(|context| place.poll(context, || self.try_lease(tried)));
        let leased = exchange.watch.guard(pin!(turn)).await;
        exchange.watch.disarm();
        leased.unwrap_or_else(|reason| {
            let detail = match reason {
                Reason::EndpointQueueTimeout => "no endpoint had room in time",
                _ => "",
            };
            Err(ProxyError::new(reason, detail))
        })
    }

    /// Leases an endpoint; none where all are full.
    fn try_lease(&self, tried: &[SocketAddr]) -> Option<Result<Rc<LocalEndpoint>, ProxyError>> {
        let exchange = self.exchange;
        let wanted = Wanted {
            client: exchange
                .client
                .get()
                .unwrap_or_else(|| exchange.connection.peer.address().ip()),
            head: Some(&exchange.parts),
            sticky: self.sticky,
            own_connection: self.upgrade,
            tried,
        };
        match self.pool.pick(&exchange.worker, &wanted) {
            Picked::Endpoint(endpoint) => {
                exchange.lease(Lease::take(&endpoint, &self.pool.handle.spec.policy.limits)?);
                Some(Ok(endpoint))
            }
            Picked::Full => None,
            Picked::Nobody => Some(Err(ProxyError::new(
                Reason::NoReadyEndpoints,
                "the Service has no endpoint that can serve",
            ))),
        }
    }

    async fn acquire(&self, endpoint: &Rc<LocalEndpoint>, fresh_only: bool) -> Result<Acquired, (ProxyError, Cause)> {
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
        let permit = self.permit(endpoint)?;
        let (mut connection, moved) = self.connect(endpoint).await?;
        if let Some(permit) = permit {
            match &mut connection {
                Connection::Http1(connection) => connection.hold(Box::new(permit)),
                Connection::Http2(connection) => connection.hold(Box::new(permit)),
            }
        }
        if let Some(moved) = &moved {
            // It refused, or took longer than its head start: after a few times it is left out for a while.
            self.pool.failed(self.exchange, endpoint, outlier::Failure::Connect);
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

    /// The right to make a connection, where the number is limited.
    fn permit(&self, endpoint: &LocalEndpoint) -> Result<Option<Permit>, (ProxyError, Cause)> {
        let Some(most) = self.pool.handle.spec.policy.limits.max_connections else {
            return Ok(None);
        };
        match Permit::take(endpoint, most) {
            Some(permit) => Ok(Some(permit)),
            None => Err((ProxyError::from(Reason::EndpointQueueFull), Cause::Full)),
        }
    }

    /// Connects; where another address of the same name was quicker, gives that too.
    async fn connect(&self, endpoint: &LocalEndpoint) -> Result<Connected, (ProxyError, Cause)> {
        let exchange = self.exchange;
        let transport = self.transport().map_err(|error| (error, Cause::Final))?;
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
        let reason = match connected {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => {
                tracing::debug!(%error, endpoint = %endpoint.address, "connect failed");
                reason_of(error.kind)
            }
            Err(Reason::RequestTimeout) => return Err((ProxyError::from(Reason::RequestTimeout), Cause::Final)),
            Err(reason) => reason,
        };
        self.pool.failed(exchange, endpoint, outlier::Failure::Connect);
        Err((ProxyError::from(reason), Cause::Connect))
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
            (true, _) => &handle.transports.upgrade,
            (false, _) => &handle.transports.usual,
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
    ) -> Result<Result<Answer<ClientBody>, SendError<ClientBody>>, ProxyError> {
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

    /// The connection broke before a response.
    fn broken(&self, endpoint: &LocalEndpoint, error: SendError<ClientBody>, reused: bool) -> Setback {
        let failure = Failure {
            sent: error.sent,
            response_started: error.response_started,
            reused,
            body_untouched: error.body.is_some(),
        };
        tracing::debug!(kind = %error.kind, endpoint = %endpoint.address, ?failure, "attempt failed");
        if failure.is_fault_of_endpoint(error.kind) {
            self.pool.failed(self.exchange, endpoint, outlier::Failure::Response);
        }
        let reason = if error.body.is_none() && client_left(error.source.as_ref()) {
            Reason::ClientClosed
        } else {
            reason_of(error.kind)
        };
        Setback {
            error: ProxyError::from(reason),
            body: error.body,
            cause: match error.kind {
                UpstreamErrorKind::RequestBody => Cause::Final,
                _ => Cause::Reset(failure),
            },
        }
    }
}

fn status_of(answer: &Answer<ClientBody>) -> u16 {
    match answer {
        Answer::Response(response) => response.status().as_u16(),
        Answer::Upgraded(_) => http::StatusCode::SWITCHING_PROTOCOLS.as_u16(),
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

/// How many endpoints are asked for a connection where each refuses at once.
const MOST_ASKED: usize = 16;
/// How often a request looks for room that another then takes, before it is answered 503.
const MOST_MISSED: u8 = 8;
