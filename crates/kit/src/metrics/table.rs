//! Every metric that Propylon exposes: name, type, labels, meaning. The exposition and the reference page come from it.

/// The Prometheus type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A count that only grows.
    Counter,
    /// A level.
    Gauge,
    /// Durations by bucket; the name ends in `_seconds`, `_bucket`, `_sum` and `_count` are derived.
    Histogram,
}

impl MetricKind {
    /// The word of the `# TYPE` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricDef {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub kind: MetricKind,
    /// The label names, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// The meaning, one line.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($variant:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        /// A metric of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Metric {
            $(#[doc = concat!("`", $name, "`: ", $help)] $variant,)+
        }

        impl Metric {
            /// All metrics, in the order in which they are rendered.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Name, type, labels and meaning.
            pub const fn def(self) -> MetricDef {
                match self {
                    $(Self::$variant => MetricDef {
                        name: $name,
                        kind: MetricKind::$kind,
                        labels: &[$($label),*],
                        help: $help,
                    },)+
                }
            }
        }
    };
}

metrics! {
    Requests = Counter "propylon_requests_total" ["namespace", "ingress", "service", "method", "code"]
        "Requests that ended, by the object that served them, method and status code.";
    RequestDuration = Histogram "propylon_request_duration_seconds" ["namespace", "ingress", "service"]
        "From the head of the request to the end of the response.";
    UpstreamDuration = Histogram "propylon_upstream_duration_seconds" ["namespace", "ingress", "service", "phase"]
        "Phases of the exchange with the backend: connect, tls, ttfb (request sent to response head), total.";
    Overhead = Histogram "propylon_overhead_seconds" []
        "Time that the proxy added to forwarded requests: the request's duration without the waits for the backend and the client.";
    RequestBytes = Counter "propylon_request_bytes_total" ["namespace", "ingress", "service"]
        "Bytes of request bodies.";
    ResponseBytes = Counter "propylon_response_bytes_total" ["namespace", "ingress", "service"]
        "Bytes of response bodies.";
    InflightRequests = Gauge "propylon_inflight_requests" ["namespace", "ingress", "service"]
        "Requests being served now.";
    Connections = Gauge "propylon_connections" ["listener", "state", "protocol"]
        "Open downstream connections.";
    TlsHandshakes = Counter "propylon_tls_handshakes_total" ["version", "cipher", "sni_match", "result"]
        "Downstream TLS handshakes that ended.";
    ResponsesByReason = Counter "propylon_responses_by_reason_total" ["reason"]
        "Responses and refusals made by the proxy itself, by reason code (docs/reference/reasons.md).";
    Overload = Gauge "propylon_overload" ["resource"]
        "1 while new work is refused, or connections are let go, for want of memory, descriptors or connections (docs/overload.md).";
    MemoryBytes = Gauge "propylon_memory_bytes" ["kind"]
        "The memory limit of the cgroup and its use without the inactive page cache; 0 where there is no limit.";
    EndpointUp = Gauge "propylon_endpoint_up" ["namespace", "service", "endpoint"]
        "1 for each endpoint that takes requests; 0 where it is ready but its health checks fail or it was ejected for a while.";
    EndpointEjected = Counter "propylon_endpoint_ejected_total" ["namespace", "service", "endpoint"]
        "Times that an endpoint was left out for a while because connections or answers failed, or answers were slow.";
    Retries = Counter "propylon_retries_total" ["reason"]
        "Attempts after the first, by what the attempt before ended with.";
    L4Connections = Counter "propylon_l4_connections_total" ["namespace", "service", "listener", "end"]
        "Connections (TCP, passthrough) and sessions (UDP) of layer 4 that ended, by how (docs/l4.md).";
    L4OpenConnections = Gauge "propylon_l4_open_connections" ["namespace", "service", "listener"]
        "Open connections and sessions of layer 4.";
    L4ReceivedBytes = Counter "propylon_l4_received_bytes_total" ["namespace", "service", "listener"]
        "Bytes from clients that endpoints took at layer 4.";
    L4SentBytes = Counter "propylon_l4_sent_bytes_total" ["namespace", "service", "listener"]
        "Bytes from endpoints that clients took at layer 4.";
    L4Duration = Histogram "propylon_l4_duration_seconds" ["namespace", "service", "listener"]
        "From the accept of a connection, or the first datagram of a session, to its end.";
    L4DroppedDatagrams = Counter "propylon_l4_dropped_datagrams_total" ["namespace", "service", "listener", "reason"]
        "Datagrams that were not handed on, by why (docs/l4.md).";
    SnapshotGeneration = Gauge "propylon_snapshot_generation" []
        "Number of the configuration that is being served; grows with every change.";
    SnapshotCompile = Histogram "propylon_snapshot_compile_seconds" []
        "Time to compile one change into the tables.";
    SnapshotApply = Counter "propylon_snapshot_apply_total" ["result"]
        "Changes of configuration by result: applied, or rejected (the configuration before stays in force).";
    StreamConnected = Gauge "propylon_stream_connected" []
        "Whether the proxy's stream from a controller is open: 1 or 0. Without it, what was live last is served.";
    Propagation = Histogram "propylon_propagation_seconds" []
        "From the event (file change, watch event) to the change being served.";
    Objects = Gauge "propylon_objects" ["kind", "state"]
        "Kubernetes objects read, by kind and state: accepted, warning or rejected.";
    CertificateNotAfter = Gauge "propylon_certificate_not_after_timestamp_seconds" ["secret_namespace", "secret"]
        "End of validity of the certificate of a Secret, Unix seconds.";
    Leader = Gauge "propylon_leader" []
        "1 while this replica of the controller leads: it writes status, Events and addresses.";
    Proxies = Gauge "propylon_stream_proxies" ["state"]
        "Proxies connected to this replica: current, or behind the published configuration.";
    WatchUp = Gauge "propylon_watch_up" ["kind", "watched_namespace"]
        "1 while a kind of Kubernetes objects is followed; 0 while it is listed, fails, or is forbidden.";
    RightMissing = Gauge "propylon_right_missing" ["verb", "resource", "watched_namespace"]
        "1 for each right that the controller needs and does not have; the log says which role is to be mended.";
    StatusWrites = Counter "propylon_status_writes_total" ["kind", "result"]
        "Writes of the status of objects, by kind and result: written, conflict (somebody else wrote meanwhile), yielded (another controller owns it), failed.";
    LbPoolAddresses = Gauge "propylon_lb_pool_addresses" ["pool", "family", "state"]
        "Addresses of an IPAddressPool, by family (IPv4, IPv6) and state: assigned or available.";
    AccessLogDropped = Counter "propylon_access_log_dropped_total" []
        "Access log lines lost because the destination was too slow or refused them.";
    Panics = Counter "propylon_panics_total" []
        "Panics caught; each ended one request, connection or background task.";
    UpstreamTruncated = Counter "propylon_upstream_truncated_total" []
        "Responses cut short because the backend's body ended early or was malformed.";
    MetricSeries = Gauge "propylon_metric_series" []
        "Series of this exposition, without this one.";
    BuildInfo = Gauge "propylon_build_info" ["version", "revision", "rustc"]
        "Always 1; the build is in the labels.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_follow_the_conventions() {
        let mut names = BTreeSet::new();
        for metric in Metric::ALL {
            let def = metric.def();
            assert!(names.insert(def.name), "{} twice", def.name);
            assert!(def.name.starts_with("propylon_"), "{}", def.name);
            assert!(
                def.name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{}",
                def.name
            );
            assert_eq!(
                def.kind == MetricKind::Counter,
                def.name.ends_with("_total"),
                "{}",
                def.name
            );
            assert!(
                def.kind != MetricKind::Histogram || def.name.ends_with("_seconds"),
                "{}",
                def.name
            );
            assert!(!def.help.contains('\n') && def.help.ends_with('.'), "{}", def.name);
        }
    }

    #[test]
    fn the_enum_indexes_its_list() {
        assert!(
            Metric::ALL
                .iter()
                .enumerate()
                .all(|(index, metric)| *metric as usize == index)
        );
    }
}
