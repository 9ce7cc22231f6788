//! Upgrades: `Upgrade` of HTTP/1.1 (RFC 9110 7.8) passed through, and WebSocket over HTTP/2 (RFC 8441) translated to one.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;

use super::normalise::Normalised;
use crate::{
    body::{ResponseBody, Spans},
    edge::fields::Upgrade,
    exchange::ExchangeGuard,
    tunnel::{self, PendingTunnel},
    upstream::Upgraded,
};

/// What the client asks to switch to.
pub(crate) enum Asked<'a> {
    /// WebSocket by extended CONNECT; the nonce is ours.
    ExtendedConnect { nonce: u128 },
    /// Nothing.
    No,
    /// The protocols of the client's `Upgrade` field.
    Upgrade(&'a HeaderValue),
}

impl<'a> Asked<'a> {
    /// What a request asks for; `nonce` is there where it is an extended CONNECT.
    pub(crate) fn of(parts: &'a Parts, request: &Normalised<'_>, nonce: Option<u128>) -> Self {
        if let Some(nonce) = nonce {
            return Self::ExtendedConnect { nonce };
        }
        // An upgrade to h2c is never passed on: it would open a path around every rule.
        match request.facts.upgrade {
            Some(Upgrade::WebSocket | Upgrade::Other) => {
                parts.headers.get(header::UPGRADE).map_or(Self::No, Self::Upgrade)
            }
            Some(Upgrade::H2c) | None => Self::No,
        }
    }

    pub(crate) fn is_some(&self) -> bool {
        !matches!(self, Self::No)
    }

    pub(crate) fn is_extended_connect(&self) -> bool {
        matches!(self, Self::ExtendedConnect { .. })
    }

    pub(crate) fn method(&self, method: &'a Method) -> &'a Method {
        if self.is_extended_connect() { &GET } else { method }
    }

    pub(crate) fn field(&self) -> Option<&'a HeaderValue> {
        match self {
            Self::ExtendedConnect { .. } => Some(&WEBSOCKET),
            Self::No => None,
            Self::Upgrade(field) => Some(field),
        }
    }

    /// `Sec-WebSocket-Key`: 16 random bytes in base64 (RFC 6455 4.1).
    pub(crate) fn websocket_key(&self) -> Option<String> {
        match self {
            Self::ExtendedConnect { nonce } => Some(STANDARD.encode(nonce.to_be_bytes())),
            _ => None,
        }
    }
}

/// The endpoint switched: the client gets 101, or 200 on HTTP/2, and the tunnel begins when it has it.
pub(super) fn accept(
    upgraded: Upgraded,
    spans: &Spans,
    guard: ExchangeGuard,
    on_upgrade: Option<OnUpgrade>,
) -> Response<ResponseBody> {
    let exchange = std::rc::Rc::clone(guard.exchange());
    let Upgraded {
        response,
        io,
        leftover,
        held,
    } = upgraded;
    let mut answer = Response::from_parts(response, ResponseBody::detached());
    exchange.upstream.status.set(StatusCode::SWITCHING_PROTOCOLS.as_u16());
    exchange.watch.disarm();
    let pending = PendingTunnel {
        upstream: io,
        leftover,
        held,
        idle_ms: spans.tunnel_idle_ms,
        guard,
    };
    if let Some(on_upgrade) = on_upgrade {
        *answer.status_mut() = StatusCode::OK;
        answer.headers_mut().remove(header::UPGRADE);
        answer.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
        tunnel::spawn_http2(pending, on_upgrade);
    } else {
        answer
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        exchange.connection.tunnel.replace(Some(pending));
    }
    exchange.status.set(answer.status().as_u16());
    answer
}

/// GET, for the extended CONNECT that becomes an upgrade.
static GET: Method = Method::GET;
/// The protocol of WebSocket upgrades.
static WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
