//! The affinity cookie of a request and of its response.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, header, request::Parts};
use propylon_model::{Affinity, AffinityCookie};
use propylon_routing::Route;

use crate::{
    balance::{
        affinity::{Channel, StickyKey, set_cookie},
        hash,
    },
    exchange::Exchange,
    pool::PoolHandle,
    tables::Target,
};

/// A client that is to be bound to an endpoint.
pub(crate) struct Sticky<'a> {
    cookie: &'a AffinityCookie,
    /// The list of endpoints that the cookie's value is good for.
    scope: &'a str,
    /// Where its cookie leads.
    pub(crate) bound: Option<SocketAddr>,
}

impl<'a> Sticky<'a> {
    /// What the policy of a pool makes of a request; none where it binds by no cookie.
    pub(crate) fn of(parts: &Parts, key: &StickyKey, handle: &'a PoolHandle) -> Option<Self> {
        let Affinity::Cookie(cookie) = &handle.spec.policy.affinity else {
            return None;
        };
        let scope = handle.spec.endpoints.as_str();
        let fields = parts.headers.get_all(header::COOKIE);
        let value = hash::cookie(fields.iter().map(HeaderValue::as_bytes), &cookie.name);
        Some(Self {
            cookie,
            scope,
            bound: value.and_then(|value| key.open(scope, value)),
        })
    }

    /// Binds the client to the endpoint that answered, where it was not bound to it before.
    pub(super) fn bind(&self, exchange: &Exchange, route: &Route<Target>, channel: Channel, headers: &mut HeaderMap) {
        let answered = exchange.upstream.address.get();
        let Some(endpoint) = answered.filter(|_| answered != self.bound) else {
            return;
        };
        let random = exchange.worker.random_u128().to_be_bytes();
        let Some(nonce) = random.first_chunk() else { return };
        let path = route.path.as_ref().map_or("/", |path| path.path().as_str());
        let token = exchange.worker.shared.sticky.key.seal(*nonce, self.scope, endpoint);
        match token.map(|token| set_cookie(self.cookie, &token, path, channel)) {
            Ok(Some(field)) => drop(headers.append(header::SET_COOKIE, field)),
            Ok(None) => tracing::debug!(name = %self.cookie.name, "the affinity cookie cannot stand in a field"),
            Err(error) => tracing::debug!(%error, "the affinity cookie cannot be sealed"),
        }
    }
}
