//! The endpoint of an attempt, and a connection to it: waited for where there are limits, taken from the idle ones, else made.

use std::{future::poll_fn, net::SocketAddr, pin::pin, rc::Rc};

use propylon_kit::clock;
use propylon_model::BackendProtocol;

use super::{
    attempts::{Attempts, Cause},
    retry::reason_of,
};
use crate::{
    balance::outlier,
    config::millis,
    pool::{Lease, LocalEndpoint, Permit, Picked, Wanted},
    reason::Reason,
    respond::ProxyError,
    upstream::{self, Connection, Transport, UpstreamError},
    waiting::Need,
};

/// A connection with what is known of it.
pub(super) struct Acquired {
    pub(super) connection: Connection,
    /// The address that the connection was made to, where it is not the one that was picked.
    pub(super) moved: Option<Rc<LocalEndpoint>>,
    pub(super) reused: bool,
}

/// A new connection, and the address that it was made to, where it is not the one that was picked.
type Connected = (Connection, Option<Rc<LocalEndpoint>>);

impl Attempts<'_> {
    /// Leases an endpoint that was not tried yet, else any; waits where none has room.
    pub(super) async fn lease(&self, tried: &[SocketAddr]) -> Result<Rc<LocalEndpoint>, ProxyError> {
        let waiting = &self.pool.handle.endpoints.waiting;
        // Who waits comes first.
        if (!self.pool.is_limited() || waiting.is_empty())
            && let Some(leased) = self.try_lease(tried)
        {
            return leased;
        }
        // Boxed: rare, and only where there are limits.
        Box::pin(self.wait_for_room(tried)).await
    }

    async fn wait_for_room(&self, tried: &[SocketAddr]) -> Result<Rc<LocalEndpoint>, ProxyError> {
        let (exchange, endpoints) = (self.exchange, &self.pool.handle.endpoints);
        let limits = &self.pool.handle.spec.policy.limits;
        let need = Need {
            max_requests: limits.max_requests,
            max_connections: limits.max_connections,
            own_connection: self.upgrade,
        };
        let Some(place) = endpoints.waiting.join(limits.max_pending, need) else {
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

    pub(super) async fn acquire(
        &self,
        endpoint: &Rc<LocalEndpoint>,
        fresh_only: bool,
    ) -> Result<Acquired, (ProxyError, Cause)> {
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
        if reason == Reason::OverloadDescriptors {
            // No endpoint is to blame, and another one is as far.
            exchange.worker.shared.pressure.note_starved();
            return Err((ProxyError::from(reason), Cause::Final));
        }
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
}
