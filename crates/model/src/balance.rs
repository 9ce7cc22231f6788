//! How an endpoint of a pool is chosen, watched and protected: typed policies, each from an annotation of the same name.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::text::is_default;

/// How an endpoint is chosen (`load-balancing`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Power of two choices by requests in flight.
    #[default]
    LeastRequest,
    /// Power of two choices by the peak-sensitive moving average of latency times requests in flight.
    Ewma,
    /// In turn, by weight.
    RoundRobin,
    /// Consistent hashing of [`HashOn`] (Eisenbud et al., "Maglev", NSDI 2016, section 3.4).
    Maglev,
}

impl Algorithm {
    /// As the annotation spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ewma => "ewma",
            Self::LeastRequest => "least-request",
            Self::Maglev => "maglev",
            Self::RoundRobin => "round-robin",
        }
    }
}

/// What [`Algorithm::Maglev`] hashes (`hash-on`); a request without it is hashed by the client's address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HashOn {
    /// The client's address, as forwarded headers of trusted peers give it.
    #[default]
    ClientIp,
    /// The value of a cookie.
    Cookie(Arc<str>),
    /// The value of a header field; the name in lower case.
    Header(Arc<str>),
    /// The value of a parameter of the query.
    Query(Arc<str>),
    /// Path and query as the client sent them.
    Uri,
}

/// As the annotation spells it.
impl fmt::Display for HashOn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => formatter.write_str("client-ip"),
            Self::Cookie(name) => write!(formatter, "cookie:{name}"),
            Self::Header(name) => write!(formatter, "header:{name}"),
            Self::Query(name) => write!(formatter, "query:{name}"),
            Self::Uri => formatter.write_str("uri"),
        }
    }
}

/// Whether a client is sent to the same endpoint again (`affinity`, `sessionAffinity`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// No.
    #[default]
    None,
    /// By the client's address, for as long as the span since its last request (`ClientIP`; Kubernetes: 1 s to 24 h).
    ClientIp(Duration),
    /// By a cookie that the proxy sets.
    Cookie(AffinityCookie),
}

impl Affinity {
    /// As the annotation spells it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::ClientIp(_) => "client-ip",
            Self::Cookie(_) => "cookie",
            Self::None => "none",
        }
    }
}

/// The affinity cookie (RFC 6265bis).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct AffinityCookie {
    /// The name. Default `PROPYLON`.
    pub name: Arc<str>,
    /// `Max-Age`; none: a session cookie. Default none.
    pub max_age: Option<Duration>,
    /// `Path`; none: the path of the rule. Default none.
    pub path: Option<Arc<str>>,
    /// `Domain`; none: the host only. Default none.
    pub domain: Option<Arc<str>>,
    /// `SameSite`. Default `Lax`.
    pub same_site: SameSite,
}

impl Default for AffinityCookie {
    fn default() -> Self {
        Self {
            name: "PROPYLON".into(),
            max_age: None,
            path: None,
            domain: None,
            same_site: SameSite::default(),
        }
    }
}

/// The `SameSite` attribute of a cookie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// `Lax`.
    #[default]
    Lax,
    /// `None`; browsers take it from HTTPS only.
    None,
    /// `Strict`.
    Strict,
}

impl SameSite {
    /// As the attribute spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lax => "Lax",
            Self::None => "None",
            Self::Strict => "Strict",
        }
    }
}

/// An active health check (`health-check` and its companions).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// From one check to the next. Default 10 s.
    pub interval: Duration,
    /// How long an answer may take. Default 1 s.
    pub timeout: Duration,
    /// Successes in a row until an endpoint counts as healthy again. Default 2.
    pub healthy: u16,
    /// Failures in a row until it counts as unhealthy. Default 3.
    pub unhealthy: u16,
}

impl HealthCheck {
    /// A check with the default times and counts.
    pub const fn new(probe: Probe) -> Self {
        Self {
            probe,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        }
    }
}

/// What an active health check asks an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// `grpc.health.v1.Health/Check` of a service; the empty name is the whole server.
    Grpc(Arc<str>),
    /// `GET` of a path; 200 to 399 is healthy, as for probes of the kubelet.
    Http(Arc<str>),
    /// A TCP connection (and TLS, where the pool speaks it).
    Tcp,
}

/// As the annotation spells it.
impl fmt::Display for Probe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(service) if service.is_empty() => formatter.write_str("grpc"),
            Self::Grpc(service) => write!(formatter, "grpc:{service}"),
            Self::Http(path) => write!(formatter, "http:{path}"),
            Self::Tcp => formatter.write_str("tcp"),
        }
    }
}

/// Bounds of what one endpoint is given, shared by the whole process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct EndpointLimits {
    /// Connections to one endpoint; none: off. Default none.
    pub max_connections: Option<u32>,
    /// Requests in flight to one endpoint; none: off. Default none.
    pub max_requests: Option<u32>,
    /// Requests of the pool that wait for a free endpoint; more are answered 503. Default 1024.
    pub max_pending: u32,
    /// How long a request waits. Default 3 s.
    pub pending_timeout: Duration,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_requests: None,
            max_pending: 1024,
            pending_timeout: Duration::from_secs(3),
        }
    }
}

/// Everything that decides which endpoint of a pool is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct PoolPolicy {
    /// `load-balancing`.
    #[serde(skip_serializing_if = "is_default")]
    pub algorithm: Algorithm,
    /// `hash-on`.
    #[serde(skip_serializing_if = "is_default")]
    pub hash_on: HashOn,
    /// `affinity`, or `sessionAffinity` of the Service.
    #[serde(skip_serializing_if = "is_default")]
    pub affinity: Affinity,
    /// `outlier-ejection`. Default true.
    pub outlier_ejection: bool,
    /// `health-check`. Default none.
    #[serde(skip_serializing_if = "is_default")]
    pub health_check: Option<HealthCheck>,
    /// Limits.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: EndpointLimits,
    /// `slow-start`: how long a new endpoint takes to get its full share. Default none: at once.
    #[serde(skip_serializing_if = "is_default")]
    pub slow_start: Option<Duration>,
}

impl Default for PoolPolicy {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            hash_on: HashOn::default(),
            affinity: Affinity::default(),
            outlier_ejection: true,
            health_check: None,
            limits: EndpointLimits::default(),
            slow_start: None,
        }
    }
}

/// When a request is sent again (`retries` and its companions); only ever what is safe to repeat (RFC 9110 9.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// Attempts after the first. 0 to 10. Default 2.
    pub attempts: u8,
    /// Which failures. Default connect failures and resets.
    pub on: RetryOn,
    /// Longest time of one attempt; none: off. Default none.
    pub per_try_timeout: Option<Duration>,
    /// Whether methods that are not idempotent are repeated too, after something was sent. Default false.
    pub non_idempotent: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 2,
            on: RetryOn::default(),
            per_try_timeout: None,
            non_idempotent: false,
        }
    }
}

/// The failures after which a request is sent again (`retry-on`).
#[expect(clippy::struct_excessive_bools, reason = "a set of named conditions, not a state")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct RetryOn {
    /// The connection could not be made. Default true.
    pub connect_failure: bool,
    /// The connection ended before a response. Default true.
    pub reset: bool,
    /// The response is 429. Default false.
    pub status_429: bool,
    /// The response is 502. Default false.
    pub status_502: bool,
    /// The response is 503. Default false.
    pub status_503: bool,
    /// The response is 504. Default false.
    pub status_504: bool,
}

impl RetryOn {
    /// Never.
    pub const NEVER: Self = Self {
        connect_failure: false,
        reset: false,
        status_429: false,
        status_502: false,
        status_503: false,
        status_504: false,
    };

    /// The conditions that are on, as the annotation spells them.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let conditions = [
            ("connect-failure", self.connect_failure),
            ("reset", self.reset),
            ("429", self.status_429),
            ("502", self.status_502),
            ("503", self.status_503),
            ("504", self.status_504),
        ];
        conditions.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name)
    }

    /// Whether responses of this status are among them.
    pub const fn has_status(self, status: u16) -> bool {
        match status {
            429 => self.status_429,
            502 => self.status_502,
            503 => self.status_503,
            504 => self.status_504,
            _ => false,
        }
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Self {
            connect_failure: true,
            reset: true,
            ..Self::NEVER
        }
    }
}
