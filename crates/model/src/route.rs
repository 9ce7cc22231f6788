//! Route groups: the paths that one source object puts on one host.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    balance::RetryPolicy, host::HostPattern, name::PoolName, object::ObjectRef, path::NormalPath, text::is_default,
};

/// How a rule's path is compared with the request's, both in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// The whole path (`Exact`).
    Exact(NormalPath),
    /// Element-wise prefix (`Prefix`, `ImplementationSpecific`); a trailing slash of the rule does not count.
    Prefix(NormalPath),
}

impl PathMatch {
    /// The rule's path.
    pub fn path(&self) -> &NormalPath {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path,
        }
    }
}

/// Why requests of a rule are refused rather than served open.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The Service of the backend does not exist, or is one that is not served; `NAMESPACE/SERVICE`.
    BackendNotFound(Arc<str>),
    /// The Service has no such port; `NAMESPACE/SERVICE:PORT`, or without the port where the backend names none.
    BackendPortNotFound(Arc<str>),
    /// An annotation restricts access, or verifies the backend, in a way that cannot be obeyed; its name.
    RestrictionUnsupported(Arc<str>),
}

/// What is done with a request that a rule selected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Send it to an endpoint of the pool.
    Forward(PoolName),
    /// Answer 503 with the reason.
    Refuse(Refusal),
}

/// Timeouts and retries of a rule; all from annotations, the Ingress before the Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct RoutePolicy {
    /// TCP (and TLS) connect to an endpoint. Default 1 s.
    pub connect_timeout: Duration,
    /// From the request sent to the first byte of the response's head. Default 60 s.
    pub response_timeout: Duration,
    /// Between bytes of the response body. Default 60 s.
    pub response_idle_timeout: Duration,
    /// The whole exchange; none: off. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<Duration>,
    /// Silence on an upgraded connection or a gRPC stream, both directions. Default 1 h.
    pub tunnel_idle_timeout: Duration,
    /// When the request is sent again.
    #[serde(skip_serializing_if = "is_default")]
    pub retry: RetryPolicy,
}

impl Default for RoutePolicy {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            response_timeout: Duration::from_mins(1),
            response_idle_timeout: Duration::from_mins(1),
            request_timeout: None,
            tunnel_idle_timeout: Duration::from_hours(1),
            retry: RetryPolicy::default(),
        }
    }
}

/// Where a rule stands in its object: `spec.rules[RULE].http.paths[PATH]` of an Ingress. It tells people where to look, and
/// decides nothing. Positions above 65,535 are written as 65,535.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(default)]
pub struct RulePosition {
    /// Index in `spec.rules`.
    pub rule: u16,
    /// Index in its `http.paths`.
    pub path: u16,
}

impl RulePosition {
    /// The position of two indices.
    pub fn new(rule: usize, path: usize) -> Self {
        let narrow = |index: usize| u16::try_from(index).unwrap_or(u16::MAX);
        Self {
            rule: narrow(rule),
            path: narrow(path),
        }
    }
}

/// The field of the Ingress.
impl fmt::Display for RulePosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "spec.rules[{}].http.paths[{}]", self.rule, self.path)
    }
}

/// One path of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Rule {
    /// What it matches.
    pub path: PathMatch,
    /// What is done.
    pub action: Action,
    /// Timeouts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: RoutePolicy,
    /// Where it stands in the source.
    #[serde(default, skip_serializing_if = "is_default")]
    pub position: RulePosition,
}

/// The paths that one source object puts on one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct RouteGroup {
    /// The object that it comes from.
    pub source: ObjectRef,
    /// Creation time of the source, Unix seconds; none where undated. The oldest wins a conflict, undated objects come
    /// last, ties and undated ones in the order of namespace and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_unix_s: Option<i64>,
    /// The host.
    pub host: HostPattern,
    /// The paths, in the order of the source.
    pub rules: Vec<Rule>,
    /// Where requests of this host go that no rule matches (`spec.defaultBackend`); on [`HostPattern::Any`] it also
    /// takes the requests of hosts that have no rules at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_backend: Option<(Action, RoutePolicy)>,
    /// Whether plain HTTP is answered with 308 to HTTPS; `auto` is already decided.
    #[serde(default)]
    pub redirect_https: bool,
}
