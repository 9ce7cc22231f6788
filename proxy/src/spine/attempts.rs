//! The attempts of one request: pick an endpoint, get a connection, exchange, and repeat where the policy says so and it is
//! safe.

use std::{net::SocketAddr, pin::pin, rc::Rc};

use propylon_kit::clock;
use propylon_model::RetryPolicy;

use super::retry::{self, Failure, Repeat, may_repeat, reason_of};
use crate::{
    balance::outlier,
    body::{ClientBody, Spans},
    exchange::Exchange,
    pool::{LocalEndpoint, LocalPool},
    reason::Reason,
    respond::ProxyError,
    upstream::{self, Answer, Connection, Home, RequestHead, SendError, UpstreamErrorKind},
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

/// Why an attempt led to no response.
struct Setback {
    error: ProxyError,
    /// The request body, where nothing was taken of it.
    body: Option<ClientBody>,
    cause: Cause,
}

pub(super) enum Cause {
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
        // What is left of the request's time would only be waited away: the answer is better than none.
        let watch = &self.exchange.watch;
        let is_late = wait_ms > 0 && !watch.lasts_until(self.exchange.in_ms(wait_ms));
        if self.upgrade || is_late || !self.is_left(tried) || !self.may_resend(tried) {
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
