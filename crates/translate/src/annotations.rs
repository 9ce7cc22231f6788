//! Every annotation that Propylon reads or knows, in one table: parsing and the generated reference both use it.

use std::{sync::Arc, time::Duration};

use propylon_model::{Algorithm, HashOn, Kind, Probe, ProxyVersion, RetryOn, SameSite};

use crate::{spelling::nearest, world::PortRef};

mod read;
mod table;

pub use table::TABLE;

/// What every annotation of Propylon starts with.
pub const PREFIX: &str = "propylon.dev/";

pub(crate) const AFFINITY: &str = "affinity";
pub(crate) const AFFINITY_COOKIE_DOMAIN: &str = "affinity-cookie-domain";
pub(crate) const AFFINITY_COOKIE_MAX_AGE: &str = "affinity-cookie-max-age";
pub(crate) const AFFINITY_COOKIE_NAME: &str = "affinity-cookie-name";
pub(crate) const AFFINITY_COOKIE_PATH: &str = "affinity-cookie-path";
pub(crate) const AFFINITY_COOKIE_SAME_SITE: &str = "affinity-cookie-same-site";
pub(crate) const BACKEND_CA_SECRET: &str = "backend-ca-secret";
pub(crate) const BACKEND_SERVER_NAME: &str = "backend-server-name";
pub(crate) const CONNECT_TIMEOUT: &str = "connect-timeout";
pub(crate) const HASH_ON: &str = "hash-on";
pub(crate) const HEALTH_CHECK: &str = "health-check";
pub(crate) const HEALTH_CHECK_HEALTHY: &str = "health-check-healthy";
pub(crate) const HEALTH_CHECK_INTERVAL: &str = "health-check-interval";
pub(crate) const HEALTH_CHECK_TIMEOUT: &str = "health-check-timeout";
pub(crate) const HEALTH_CHECK_UNHEALTHY: &str = "health-check-unhealthy";
pub(crate) const LB_PATH: &str = "lb-path";
pub(crate) const LOAD_BALANCING: &str = "load-balancing";
pub(crate) const MAX_CONNECTIONS_PER_ENDPOINT: &str = "max-connections-per-endpoint";
pub(crate) const MAX_PENDING_REQUESTS: &str = "max-pending-requests";
pub(crate) const MAX_REQUESTS_PER_ENDPOINT: &str = "max-requests-per-endpoint";
pub(crate) const OUTLIER_EJECTION: &str = "outlier-ejection";
pub(crate) const PENDING_TIMEOUT: &str = "pending-timeout";
pub(crate) const PROXY_PROTOCOL: &str = "proxy-protocol";
pub(crate) const REDIRECT_HTTPS: &str = "redirect-https";
pub(crate) const REQUEST_TIMEOUT: &str = "request-timeout";
pub(crate) const RESPONSE_IDLE_TIMEOUT: &str = "response-idle-timeout";
pub(crate) const RESPONSE_TIMEOUT: &str = "response-timeout";
pub(crate) const RETRIES: &str = "retries";
pub(crate) const RETRY_NON_IDEMPOTENT: &str = "retry-non-idempotent";
pub(crate) const RETRY_ON: &str = "retry-on";
pub(crate) const RETRY_TIMEOUT: &str = "retry-timeout";
pub(crate) const SLOW_START: &str = "slow-start";
pub(crate) const TLS_PASSTHROUGH: &str = "tls-passthrough";
pub(crate) const TLS_PORTS: &str = "tls-ports";
pub(crate) const TLS_SECRET: &str = "tls-secret";
pub(crate) const TUNNEL_IDLE_TIMEOUT: &str = "tunnel-idle-timeout";

/// The annotations that decide how an endpoint is chosen: on an Ingress they give it pools of its own.
pub(crate) const OF_POOLS: &[&str] = &[
    AFFINITY,
    AFFINITY_COOKIE_DOMAIN,
    AFFINITY_COOKIE_MAX_AGE,
    AFFINITY_COOKIE_NAME,
    AFFINITY_COOKIE_PATH,
    AFFINITY_COOKIE_SAME_SITE,
    HASH_ON,
    HEALTH_CHECK,
    HEALTH_CHECK_HEALTHY,
    HEALTH_CHECK_INTERVAL,
    HEALTH_CHECK_TIMEOUT,
    HEALTH_CHECK_UNHEALTHY,
    LOAD_BALANCING,
    MAX_CONNECTIONS_PER_ENDPOINT,
    MAX_PENDING_REQUESTS,
    MAX_REQUESTS_PER_ENDPOINT,
    OUTLIER_EJECTION,
    PENDING_TIMEOUT,
    SLOW_START,
];

/// One annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The name behind [`PREFIX`].
    pub name: &'static str,
    /// The kinds that may carry it; where both may, the Ingress's value goes before the Service's.
    pub applies_to: &'static [Kind],
    /// The values, in words.
    pub accepted: &'static str,
    /// What holds without it, in words.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub doc: &'static str,
    /// How its values are read; none: not supported in this version, and reported.
    pub form: Option<Form>,
}

impl Annotation {
    /// Whether this version obeys it.
    pub const fn is_supported(&self) -> bool {
        self.form.is_some()
    }

    /// Whether objects of the kind may carry it.
    pub fn applies(&self, kind: Kind) -> bool {
        self.applies_to.contains(&kind)
    }
}

/// The grammar of an annotation's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// IP addresses with commas between them.
    Addresses,
    /// `none`, `cookie` or `client-ip`.
    Affinity,
    /// `least-request`, `ewma`, `round-robin` or `maglev`.
    Algorithm,
    /// `session`, or a duration from 1 s to 9600 h (400 days, RFC 6265bis 5.5).
    CookieAge,
    /// A DNS name; a leading dot does not count (RFC 6265bis 5.7).
    CookieDomain,
    /// A token (RFC 9110 5.6.2).
    CookieName,
    /// A path without `;` and control characters.
    CookiePath,
    /// A whole number.
    Count {
        /// The least that is accepted.
        least: u32,
        /// The most that is accepted.
        most: u32,
    },
    /// A whole number from 1, or `off`.
    CountOrOff,
    /// A duration.
    Duration,
    /// A duration, or `off`.
    DurationOrOff,
    /// `client-ip`, `uri`, or `header:`, `cookie:` or `query:` and a name.
    HashOn,
    /// `none`, `tcp`, `http:` and a path, `grpc`, or `grpc:` and the name of a service.
    HealthCheck,
    /// A DNS name.
    HostName,
    /// A duration from 100 ms.
    Interval,
    /// `proxy` or `kernel`.
    LbPath,
    /// Names and numbers of ports with commas between them, or `*`.
    Ports,
    /// `v1` or `v2`.
    ProxyVersion,
    /// `auto`, `true` or `false`.
    Redirect,
    /// Failures with commas between them.
    RetryOn,
    /// `Lax`, `Strict` or `None`.
    SameSite,
    /// The name of a Secret in the same namespace.
    SecretName,
    /// `true` or `false`.
    Switch,
    /// Any text but an empty one.
    Text,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Affinity(AffinityKind),
    Algorithm(Algorithm),
    Count(u32),
    Duration(Duration),
    HashOn(HashOn),
    /// The check; none: `none`.
    HealthCheck(Option<Probe>),
    LbPath(LbPath),
    Name(Arc<str>),
    Off,
    /// The ports; none: `*`.
    Ports(Option<Arc<[PortRef]>>),
    ProxyVersion(ProxyVersion),
    Redirect(Redirect),
    RetryOn(RetryOn),
    SameSite(SameSite),
    Switch(bool),
    /// The annotation stands there, but it never had a value that could be read.
    Unusable,
}

/// Whether a client is sent to the same endpoint again, and by what it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AffinityKind {
    ClientIp,
    Cookie,
    None,
}

/// Who forwards the traffic of a `LoadBalancer` Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LbPath {
    Kernel,
    Proxy,
}

/// When plain HTTP is answered with a redirect to HTTPS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Redirect {
    Always,
    /// Where the host has a certificate Secret of its own.
    #[default]
    Auto,
    Never,
}

/// The annotation of a name behind [`PREFIX`].
pub fn find(name: &str) -> Option<&'static Annotation> {
    TABLE.iter().find(|annotation| annotation.name == name)
}

/// The known name that an unknown one was probably meant to be.
pub(crate) fn suggest(unknown: &str) -> Option<&'static str> {
    nearest(unknown, TABLE.iter().map(|annotation| annotation.name))
}

#[cfg(test)]
mod tests;
