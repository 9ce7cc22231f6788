//! What is written down of connections and exchanges: metrics and the access log. Never fails, never waits.

use std::{net::SocketAddr, rc::Rc};

use http::{HeaderValue, Version, header};
use propylon_kit::access_log::{Entry, UpstreamEntry};
use propylon_kit::clock::{self, Monotonic};
use propylon_kit::metrics::{
    ConnectionState as StateLabel, ListenerId, MethodLabel, ProtocolLabel, RequestSample, RouteId, SniMatch, TlsCipher,
    TlsResult, TlsVersion, UpstreamSample,
};

use crate::{
    connection_state::{ConnectionState, Kill},
    edge::Scheme,
    exchange::Exchange,
    reason::Reason,
    tls::{CertIdentity, TlsFault, TlsInfo},
    worker::Worker,
};

/// Client connections by listener; one of the two listeners of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listeners {
    pub(crate) http: ListenerId,
    pub(crate) https: ListenerId,
}

pub(crate) fn connection_opened(worker: &Worker, state: &ConnectionState) {
    gauge(worker, state, StateLabel::Idle).inc();
}

pub(crate) fn connection_closed(worker: &Worker, state: &ConnectionState) {
    state.closed.set(true);
    gauge(
        worker,
        state,
        if state.active.get() == 0 {
            StateLabel::Idle
        } else {
            busy(state)
        },
    )
    .dec();
}

fn busy(state: &ConnectionState) -> StateLabel {
    if state.tunnels.get() {
        StateLabel::Tunnel
    } else {
        StateLabel::Active
    }
}

/// An HTTP/1.1 connection became a tunnel; a tunnel on HTTP/2 is a stream among others.
pub(crate) fn tunnel_began(worker: &Worker, state: &ConnectionState) {
    if !state.http2.get() {
        gauge(worker, state, StateLabel::Active).dec();
        gauge(worker, state, StateLabel::Tunnel).inc();
        state.tunnels.set(true);
    }
}

/// Counts a connection before its protocol is known (PROXY header, TLS handshake, first bytes) while this lives.
pub(crate) struct Handshaking<'a>(&'a propylon_kit::metrics::Gauge);

impl<'a> Handshaking<'a> {
    pub(crate) fn new(worker: &'a Worker, listener: ListenerId) -> Self {
        let gauge = worker
            .metrics
            .connections(listener, StateLabel::Handshake, ProtocolLabel::Unknown);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Handshaking<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A request begins; called before it is counted as active.
pub(crate) fn began(worker: &Worker, state: &ConnectionState) {
    if state.active.get() == 0 && !state.closed.get() {
        gauge(worker, state, StateLabel::Idle).dec();
        gauge(worker, state, StateLabel::Active).inc();
    }
}

/// A TLS handshake ended.
pub(crate) fn handshake<S>(worker: &Worker, result: &Result<(S, TlsInfo), TlsFault>) {
    match result {
        Ok((_, info)) => {
            let version = match info.version {
                rustls::ProtocolVersion::TLSv1_2 => TlsVersion::Tls12,
                _ => TlsVersion::Tls13,
            };
            let sni = match (&info.sni, &info.certificate) {
                (None, _) => SniMatch::None,
                (Some(_), CertIdentity::Named(_)) => SniMatch::Exact,
                (Some(_), CertIdentity::SelfSigned) => SniMatch::Default,
            };
            let result = if info.resumed {
                TlsResult::Resumed
            } else {
                TlsResult::Full
            };
            worker
                .metrics
                .tls_handshake(version, TlsCipher::from_iana(u16::from(info.cipher)), sni, result);
        }
        Err(fault) => {
            tracing::debug!(fault = fault.name(), %fault, "TLS handshake failed");
            worker
                .metrics
                .tls_handshake(TlsVersion::None, TlsCipher::None, SniMatch::None, TlsResult::Failed);
        }
    }
}

/// An exchange is over: counts and logs it.
pub(crate) fn finish(exchange: &Rc<Exchange>) {
    let (worker, state) = (&exchange.worker, &exchange.connection);
    if state.active.get() == 0 && !state.closed.get() {
        gauge(worker, state, busy(state)).dec();
        gauge(worker, state, StateLabel::Idle).inc();
        state.tunnels.set(false);
    }
    if std::thread::panicking() {
        // The service answers 500 when the panic has been caught.
        exchange.note(Reason::InternalError);
        exchange.status.set(Reason::InternalError.status().as_u16());
    } else if !exchange.complete.get() && exchange.reason.get().is_none() {
        exchange.note(match state.kill.get() {
            Some(Kill::Abort) => Reason::DrainTimeout,
            Some(Kill::Stalled) => Reason::ClientStalled,
            _ => Reason::ClientClosed,
        });
        state
            .glitches
            .set(state.glitches.get().saturating_add(u32::from(state.http2.get())));
    }
    if let Some(reason) = exchange.reason.get() {
        worker.metrics.reason(reason.index());
        if reason == Reason::ResponseIncomplete {
            worker.metrics.upstream_truncated();
        }
    }
    let now = clock::now();
    count(exchange, now);
    if worker.log.is_enabled() {
        log(exchange, now);
    }
}

/// A head that was refused, or did not come in time: counted and logged with the little that is known of it.
pub(crate) fn refused(worker: &Worker, state: &ConnectionState, reason: Reason) {
    refused_unread(worker, (state.peer.address(), scheme(state)), reason);
}

/// A connection that was refused before anything was read of it.
pub(crate) fn refused_at_accept(worker: &Worker, (peer, scheme): (SocketAddr, Scheme), reason: Reason) {
    refused_unread(worker, (peer, scheme.as_str()), reason);
}

fn refused_unread(worker: &Worker, (peer, scheme): (SocketAddr, &str), reason: Reason) {
    let status = reason.status().as_u16();
    worker.metrics.reason(reason.index());
    worker.metrics.route(RouteId::UNMATCHED).record(&RequestSample {
        method: MethodLabel::Other,
        status,
        duration_us: 0,
        request_bytes: 0,
        response_bytes: 0,
        upstream: None,
    });
    record_unmatched(worker, status, 0, Some(reason));
    if !worker.log.is_enabled() {
        return;
    }
    worker.log.record(&Entry {
        unix_ms: worker.unix_ms(clock::now()),
        client_address: peer.ip(),
        client_port: peer.port(),
        method: "",
        scheme,
        host: b"",
        path: b"",
        version: Version::HTTP_11,
        status,
        request_length: 0,
        request_body_bytes: 0,
        response_body_bytes: 0,
        user_agent: None,
        referer: None,
        duration_us: 0,
        upstream: None,
        namespace: "",
        ingress: "",
        service: "",
        service_port: "",
        request_id: b"",
        reason: Some(reason.code()),
    });
}

fn scheme(state: &ConnectionState) -> &'static str {
    if state.is_https() { "https" } else { "http" }
}

fn count(exchange: &Exchange, now: Monotonic) {
    let upstream = &exchange.upstream;
    let duration_us = now.us_since(exchange.started);
    let total_us = upstream.sent.get().map(|sent| now.us_since(sent));
    let sample = RequestSample {
        method: MethodLabel::from(&exchange.parts.method),
        status: status(exchange),
        duration_us,
        request_bytes: exchange.request_bytes.get(),
        response_bytes: exchange.response_bytes.get(),
        upstream: total_us.map(|total_us| UpstreamSample {
            connect_us: upstream.connect_us.get(),
            tls_us: None,
            ttfb_us: upstream.first_byte_us.get(),
            total_us: Some(total_us),
        }),
    };
    if let Some(total_us) = total_us {
        exchange
            .worker
            .metrics
            .overhead_us(duration_us.saturating_sub(total_us + upstream.connect_us.get().unwrap_or(0)));
    }
    let (worker, reason) = (&exchange.worker, exchange.reason.get());
    if let Some(matched) = &*exchange.matched.borrow() {
        matched.series.inflight().dec();
        matched.series.record(&sample);
        if let Some(cells) = matched.stats.cells(worker.metrics.index()) {
            cells.in_flight.dec();
            cells.record(sample.status, duration_us, reason);
        }
    } else {
        worker.metrics.route(RouteId::UNMATCHED).record(&sample);
        record_unmatched(worker, sample.status, duration_us, reason);
    }
}

fn record_unmatched(worker: &Worker, status: u16, duration_us: u64, reason: Option<Reason>) {
    if let Some(cells) = worker.shared.live.unmatched.cells(worker.metrics.index()) {
        cells.record(status, duration_us, reason);
    }
}

/// The status that the client got; 499, as nginx says, when it went away before there was one.
fn status(exchange: &Exchange) -> u16 {
    match exchange.status.get() {
        0 => 499,
        status => status,
    }
}

fn gauge<'a>(worker: &'a Worker, state: &ConnectionState, label: StateLabel) -> &'a propylon_kit::metrics::Gauge {
    let listeners = &worker.shared.listeners;
    let listener = if state.is_https() {
        listeners.https
    } else {
        listeners.http
    };
    let protocol = if state.http2.get() {
        ProtocolLabel::Http2
    } else {
        ProtocolLabel::Http1
    };
    worker.metrics.connections(listener, label, protocol)
}

fn log(exchange: &Exchange, now: Monotonic) {
    let (parts, upstream, worker) = (&exchange.parts, &exchange.upstream, &exchange.worker);
    let matched = exchange.matched.borrow();
    let (namespace, ingress, service) = matched.as_ref().map_or(("", "", ""), |matched| {
        let labels = &matched.stats.labels;
        (&*labels.namespace, &*labels.ingress, &*labels.service)
    });
    let mut port = itoa::Buffer::new();
    let service_port = matched
        .as_ref()
        .filter(|matched| matched.port != 0)
        .map_or("", |matched| port.format(matched.port));
    let field = |name: header::HeaderName| parts.headers.get(name).map(HeaderValue::as_bytes);
    let kept_id = exchange.kept_request_id.take();
    let own_id = request_id_text(exchange.request_id);
    let peer = exchange.connection.peer.address();
    let client = exchange.client.get().unwrap_or_else(|| peer.ip());
    let host = parts.uri.authority().map(|authority| authority.host().as_bytes());
    worker.log.record(&Entry {
        unix_ms: worker.unix_ms(now),
        client_address: client,
        client_port: if client == peer.ip() { peer.port() } else { 0 },
        method: parts.method.as_str(),
        scheme: scheme(&exchange.connection),
        host: host.or_else(|| field(header::HOST)).unwrap_or_default(),
        path: parts.uri.path().as_bytes(),
        version: parts.version,
        status: status(exchange),
        request_length: u64::from(exchange.head_bytes.get()) + exchange.request_bytes.get(),
        request_body_bytes: exchange.request_bytes.get(),
        response_body_bytes: exchange.response_bytes.get(),
        user_agent: field(header::USER_AGENT),
        referer: field(header::REFERER),
        duration_us: now.us_since(exchange.started),
        upstream: upstream.address.get().map(|address| UpstreamEntry {
            address,
            status: Some(upstream.status.get()).filter(|status| *status != 0),
            duration_us: upstream.sent.get().map_or(0, |sent| now.us_since(sent)),
            response_bytes: if upstream.status.get() == 0 {
                0
            } else {
                exchange.response_bytes.get()
            },
            attempts: u32::from(upstream.attempts.get()),
        }),
        namespace,
        ingress,
        service,
        service_port,
        request_id: kept_id.as_ref().map_or(own_id.as_slice(), HeaderValue::as_bytes),
        reason: exchange.reason.get().map(Reason::code),
    });
}

/// 32 hexadecimal digits, as `X-Request-ID` has them.
fn request_id_text(id: u128) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'0'; 32];
    for (position, digit) in text.iter_mut().rev().enumerate() {
        *digit = DIGITS
            .get((id >> (4 * position)) as usize & 0xf)
            .copied()
            .unwrap_or(b'0');
    }
    text
}
