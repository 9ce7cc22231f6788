//! What a request is judged by: its head, and what is known of its connection and of the settings.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use arc_swap::ArcSwap;
use http::request::Parts;

use crate::{
    config::{self, Switch},
    edge::{Limits, PeerInfo, Scheme, TrustedProxies},
    exchange::Exchange,
    tls::{CertTable, TlsInfo},
};

/// Everything that the stages before the endpoint depend on. They need no connection, so that a request that nobody sent
/// can be explained by the same code.
#[derive(Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    pub(crate) parts: &'a Parts,
    pub(crate) scheme: Scheme,
    pub(crate) peer: &'a PeerInfo,
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
    pub(crate) tls: Option<&'a TlsInfo>,
    pub(crate) certificates: &'a Arc<ArcSwap<CertTable>>,
    pub(crate) trusted: &'a TrustedProxies,
    pub(crate) limits: Limits,
    /// Port in redirects to HTTPS.
    pub(crate) https_public_port: u16,
    /// Whether requests get a `Via` field.
    pub(crate) via: bool,
    /// Randomness for a request id.
    pub(crate) random: u128,
}

impl<'a> Circumstances<'a> {
    pub(crate) fn of(exchange: &'a Exchange) -> Self {
        let (connection, shared) = (&exchange.connection, &exchange.worker.shared);
        Self {
            parts: &exchange.parts,
            scheme: if connection.is_https() {
                Scheme::Https
            } else {
                Scheme::Http
            },
            peer: &connection.peer,
            local: connection.local,
            tls: connection.tls.as_ref(),
            certificates: &shared.live.certificates,
            trusted: &shared.trusted,
            limits: limits(&shared.config.limits),
            https_public_port: shared.https_public_port.load(Ordering::Relaxed),
            via: shared.config.via == Switch::On,
            random: exchange.request_id,
        }
    }
}

/// The limits of a request head.
pub(crate) fn limits(limits: &config::Limits) -> Limits {
    Limits {
        max_headers: limits.max_headers as usize,
        max_header_bytes: limits.max_header_bytes as usize,
        max_uri_bytes: limits.max_uri_bytes as usize,
    }
}
