//! The document of `/stats`: what every route and endpoint has served since the process started.
//!
//! Counts only grow; a reader takes two documents and looks at the difference ([`Window`]). A route or endpoint that goes
//! and comes back, or a process that starts again, begins at zero.

mod collect;
pub mod figures;
mod window;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub(crate) use collect::{EndpointRow, RouteRow, collect, endpoints, path_type, refusal_text, routes};
pub use window::{EndpointRates, RouteRates, Window};

/// What `/stats` answers. Field names are `camelCase` in JSON and stable; new ones may be added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Stats {
    /// Version of the program.
    pub version: String,
    /// When the process started, Unix milliseconds; tells one process from the next.
    pub started_unix_ms: u64,
    /// Time since then, milliseconds, by a clock that never goes back.
    pub uptime_ms: u64,
    /// Number of the routes that are being served; grows with every change of them.
    pub generation: u64,
    /// Upper bounds of the latency buckets in microseconds; the last bucket has none.
    pub latency_bounds_us: Vec<u64>,
    /// Requests that no rule matched, and those refused before a rule was looked for.
    pub unmatched: Served,
    /// Every rule of the table, in the order in which rules are matched.
    pub routes: Vec<RouteStats>,
    /// Every endpoint of every Service port, by name and address.
    pub endpoints: Vec<EndpointStats>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteStats {
    /// The host; empty for rules without one.
    pub host: String,
    /// The path; none for a default backend.
    pub path: Option<String>,
    /// `Exact`, `Prefix` or `DefaultBackend`.
    pub path_type: String,
    /// The object that the rule comes from: `NAMESPACE/NAME KIND`.
    pub source: String,
    /// The Service port: `NAMESPACE/NAME:PORT`; none where requests are refused.
    pub service: Option<String>,
    /// Why requests are refused; none where they are not.
    pub refused: Option<String>,
    /// What it has served.
    #[serde(flatten)]
    pub served: Served,
}

/// Counts of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Served {
    /// Requests that ended.
    pub requests: u64,
    /// Requests being served now.
    pub in_flight: u64,
    /// Requests that ended with 5xx, or were cut short by the endpoint or the proxy; not those that the client broke off.
    pub errors: u64,
    /// Requests that ended, by class of the status that the client got (499 where it went away before).
    pub status: StatusClasses,
    /// The proxy's own answers and early ends by reason code; those that occurred.
    pub reasons: BTreeMap<String, u64>,
    /// From the head of the request to the end of the response: pairs of the bucket (index in `latencyBoundsUs`, or one
    /// beyond) and its count, without the empty ones.
    pub latency: Vec<(usize, u64)>,
}

/// Counts by class of the status code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusClasses {
    /// 100 to 199: upgrades.
    #[serde(rename = "1xx")]
    pub informational: u64,
    /// 200 to 299.
    #[serde(rename = "2xx")]
    pub success: u64,
    /// 300 to 399.
    #[serde(rename = "3xx")]
    pub redirection: u64,
    /// 400 to 499.
    #[serde(rename = "4xx")]
    pub client_error: u64,
    /// 500 to 599.
    #[serde(rename = "5xx")]
    pub server_error: u64,
    /// All others.
    pub other: u64,
}

/// One endpoint. Its counts are of attempts: a request that is repeated counts at each endpoint that it was sent to. They
/// are up to 100 ms old.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointStats {
    /// The Service port that it belongs to: `NAMESPACE/NAME:PORT`.
    pub service: String,
    /// Where it is.
    pub address: String,
    /// The pod, where known.
    pub pod: Option<String>,
    /// The node, where known.
    pub node: Option<String>,
    /// The zone, where known.
    pub zone: Option<String>,
    /// Share of the traffic relative to the others.
    pub weight: u16,
    /// Whether it is used.
    pub health: Health,
    /// For how long it will still be left out, milliseconds; 0: it is not.
    pub ejected_for_ms: u64,
    /// How often it was left out.
    pub ejections: u64,
    /// Attempts that ended.
    pub requests: u64,
    /// Of these, those without a response, with a broken one, or with 5xx.
    pub failures: u64,
    /// Attempts under way now.
    pub in_flight: u64,
    /// Connections that are open or being opened.
    pub connections: u64,
    /// Moving average of the time to the first byte, microseconds; none before the first answer.
    pub latency_us: Option<u64>,
    /// The last failure.
    pub last_failure: Option<Failure>,
}

/// Whether an endpoint is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Left out for a while, because of what its requests ended with.
    Ejected,
    /// Fails its health checks.
    Unhealthy,
    /// Used; passes its health checks.
    Healthy,
    /// Used; there are no health checks, or none was made yet.
    #[default]
    Unchecked,
}

impl Health {
    /// The word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::Unhealthy => "unhealthy",
            Self::Healthy => "healthy",
            Self::Unchecked => "in use",
        }
    }

    /// Whether requests are sent there.
    pub const fn is_used(self) -> bool {
        matches!(self, Self::Healthy | Self::Unchecked)
    }
}

/// A failure of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failure {
    /// The reason code, or the status as `status_503`.
    pub what: String,
    /// How long ago, milliseconds.
    pub ago_ms: u64,
}
