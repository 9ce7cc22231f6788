//! What an explanation says: the stable JSON form, which the command line renders as text (docs/explain.md).

use serde::{Deserialize, Serialize};

/// Version of the form; a field that is added does not change it.
pub const SCHEMA: u32 = 1;

/// What happens to one request, from the listener to the bytes that the backend gets. What was not reached is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The request that is explained.
    pub request: RequestView,
    /// Where it arrives.
    pub listener: Option<ListenerView>,
    /// Which certificate the connection gets; HTTPS only.
    pub tls: Option<TlsView>,
    /// The host, and the host pattern whose rules are looked at.
    pub host: Option<HostView>,
    /// The path, and how else backends may read it.
    pub path: Option<PathView>,
    /// Every rule that could have been meant, in match order; those that do not serve say why.
    pub rules: Vec<RuleView>,
    /// The rule that serves.
    pub winner: Option<WinnerView>,
    /// What is done before the backend, in order.
    pub filters: Vec<FilterView>,
    /// The Service, and the endpoints to choose from.
    pub backend: Option<BackendView>,
    /// The request head as the backend gets it; one for each protocol that may be spoken.
    pub sent: Vec<SentView>,
    /// How it ends.
    pub result: ResultView,
    /// What else one should know.
    pub notes: Vec<String>,
}

/// The request that is explained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestView {
    /// The method.
    pub method: String,
    /// The URL as it was given.
    pub url: String,
    /// The address that it comes from, after a PROXY header.
    pub client_ip: String,
    /// The fields that it has, `Host` included.
    pub headers: Vec<FieldView>,
}

/// A header field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldView {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// A listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerView {
    /// `http` or `https`.
    pub scheme: String,
    /// Where it listens.
    pub address: String,
}

/// The certificate of the connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsView {
    /// The server name that the client sends; none: the URL names an IP address.
    pub server_name: Option<String>,
    /// `NAMESPACE/SECRET`, or `self-signed`: what a client gets that can verify every type of key.
    pub certificate: String,
    /// `exact`, `wildcard`, or `default` where no certificate is for the name.
    pub found_by: String,
    /// End of the certificate's validity, Unix seconds.
    pub not_after_unix_s: i64,
    /// Certificates for clients that cannot verify that one, in the order in which they are tried.
    pub others: Vec<String>,
    /// Where TLS is handed on unopened.
    pub passthrough: Option<PassthroughView>,
}

/// TLS that is handed to a Service unopened: what is inside cannot be explained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassthroughView {
    /// The Ingress that says so, `NAMESPACE/NAME Ingress`.
    pub object: String,
    /// The host of the Ingress.
    pub host: String,
}

/// The host of the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostView {
    /// In canonical form, without port; empty for none.
    pub name: String,
    /// The host of the rules that are looked at: a name, `*.SUFFIX`, or empty for the rules without a host; none where no
    /// rule is for the host.
    pub pattern: Option<String>,
}

/// The path of the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PathView {
    /// The form that rules are compared with.
    pub normal: String,
    /// The request target that is sent on.
    pub sent: String,
    /// How else backends may read an encoded slash, and the rule that such a path would select.
    pub readings: Vec<ReadingView>,
}

/// Another reading of a path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadingView {
    /// The path.
    pub path: String,
    /// The rule it would select: object and field; none: no rule.
    pub rule: Option<String>,
}

/// A rule that could have been meant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleView {
    /// The object, `NAMESPACE/NAME Ingress`.
    pub object: String,
    /// Where in the object: `spec.rules[0].http.paths[1]`, or `spec.defaultBackend`.
    pub field: String,
    /// The host of the rule; empty for none.
    pub host: String,
    /// `Exact`, `Prefix` or `DefaultBackend`.
    pub path_type: String,
    /// The path; none for a default backend.
    pub path: Option<String>,
    /// `selected`, `outranked`, `shadowed`, `unmatched` or `passedOver`.
    pub verdict: String,
    /// The rule that is in front: object and field.
    pub by: Option<String>,
    /// Why, in words.
    pub why: String,
}

/// The rule that serves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WinnerView {
    /// The object, `NAMESPACE/NAME Ingress`.
    pub object: String,
    /// Where in the object.
    pub field: String,
    /// Index in `spec.rules`; none for a default backend.
    pub rule_index: Option<u16>,
    /// Index in that rule's `http.paths`.
    pub path_index: Option<u16>,
    /// `Exact`, `Prefix` or `DefaultBackend`.
    pub path_type: String,
    /// The path; none for a default backend.
    pub path: Option<String>,
    /// Timeouts in milliseconds, and retries.
    pub policy: PolicyView,
}

/// Timeouts and retries of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyView {
    /// `connect-timeout`.
    pub connect_timeout_ms: u64,
    /// `response-timeout`.
    pub response_timeout_ms: u64,
    /// `response-idle-timeout`.
    pub response_idle_timeout_ms: u64,
    /// `request-timeout`; none: off.
    pub request_timeout_ms: Option<u64>,
    /// `tunnel-idle-timeout`.
    pub tunnel_idle_timeout_ms: u64,
    /// `retries`: attempts after the first.
    pub retries: u8,
    /// `retry-on`.
    pub retry_on: Vec<String>,
}

/// One thing that is done before the backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterView {
    /// Its name.
    pub name: String,
    /// `passes`, `answers`, or `notReached`.
    pub effect: String,
    /// What it does to this request, in words.
    pub why: String,
}

/// The Service, and the endpoints to choose from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendView {
    /// The Service, `NAMESPACE/NAME Service`.
    pub service: String,
    /// The port as the Service numbers it.
    pub port: u16,
    /// `http/1.1`, `h2c`, `https` (HTTP/2 or HTTP/1.1 by ALPN) or `wss` (HTTP/1.1 over TLS).
    pub protocol: String,
    /// `least-request`, `ewma`, `round-robin` or `maglev`.
    pub load_balancing: String,
    /// What is hashed, where it is `maglev`.
    pub hash_on: Option<String>,
    /// `none`, `cookie` or `client-ip`.
    pub affinity: String,
    /// The name whose addresses are the endpoints, `HOST:PORT`; of a Service of type `ExternalName`.
    pub external_name: Option<String>,
    /// The endpoints.
    pub endpoints: Vec<EndpointView>,
    /// The address that is sure to be picked, where it is.
    pub pick: Option<String>,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointView {
    /// Address and port.
    pub address: String,
    /// The pod.
    pub pod: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// The zone.
    pub zone: Option<String>,
    /// Share relative to the others.
    pub weight: u16,
    /// `usable`, `ejected` (passive), or `unhealthy` (active checks).
    pub health: String,
    /// Requests in flight from this proxy; 0 where nothing runs.
    pub active: u32,
    /// Moving average of the time to the first byte in microseconds; none before the first answer.
    pub latency_us: Option<u64>,
    /// The probability that this request goes there, 0 to 1.
    pub chance: f64,
}

/// A request head as a backend gets it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SentView {
    /// `http/1.1` or `h2`.
    pub protocol: String,
    /// The lines of an HTTP/1.1 head without their ends, or `NAME: VALUE` of every HTTP/2 field, pseudo-fields first.
    pub head: Vec<String>,
}

/// How the request ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultView {
    /// `forward`, or `answer`: the proxy itself answers; `passthrough`: TLS is handed on unopened.
    pub action: String,
    /// The status of the proxy's own answer.
    pub status: Option<u16>,
    /// The reason code, as in the access log, in metrics and in `Proxy-Status`.
    pub reason: Option<String>,
    /// Why, in words.
    pub why: String,
    /// `Location` of a redirect.
    pub location: Option<String>,
}
