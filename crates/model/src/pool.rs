//! A pool: how the endpoints of a Service port are spoken to.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    balance::PoolPolicy,
    name::EndpointsName,
    object::ObjectRef,
    text::{self, is_default},
};

/// The protocol towards the endpoints of a pool, from `appProtocol` (KEP-3726) and the port's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendProtocol {
    /// HTTP/2 with prior knowledge, without TLS (`kubernetes.io/h2c`, `grpc`).
    H2c,
    /// HTTP/1.1 without TLS (`http`, `kubernetes.io/ws`, none given).
    Http1,
    /// TLS, then HTTP/2 or HTTP/1.1 by ALPN (`https`).
    Https,
    /// TLS, then HTTP/1.1 (`kubernetes.io/wss`).
    Wss,
}

impl BackendProtocol {
    /// For people: `http/1.1`, `h2c`, `https` (HTTP/2 or HTTP/1.1 by ALPN), `wss` (HTTP/1.1 inside TLS).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::H2c => "h2c",
            Self::Http1 => "http/1.1",
            Self::Https => "https",
            Self::Wss => "wss",
        }
    }
}

/// How the certificate of a TLS backend is verified; without a CA it is not, and a notice says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct BackendTls {
    /// Certificates (DER) of the authorities that must have issued the backend's, from `backend-ca-secret`.
    #[serde(skip_serializing_if = "Option::is_none", with = "text::optional_base64_list")]
    pub ca_der: Option<Arc<[Vec<u8>]>>,
    /// Name sent as SNI and verified, from `backend-server-name`; none: the endpoint's address is verified and no SNI sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<Arc<str>>,
}

/// How the endpoints of one Service port are spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Pool {
    /// The Service, for metrics and logs.
    pub service: ObjectRef,
    /// The port as the Service numbers it.
    pub port: u16,
    /// The endpoints to choose from.
    pub endpoints: EndpointsName,
    /// The protocol.
    pub protocol: BackendProtocol,
    /// TLS settings, used where the protocol is a TLS one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tls: BackendTls,
    /// How an endpoint is chosen.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: PoolPolicy,
}
