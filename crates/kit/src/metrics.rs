//! Metrics: single-writer counters per data-plane thread, summed by the scrape.
//!
//! What it is: a [`Registry`] (one per process, shared by the control side), a [`WorkerMetrics`] per data-plane thread,
//! a [`RouteSeries`] per route and thread, and the [`table`] of every name that is rendered.
//!
//! What it is not: a general metrics library. Names and labels are fixed (`docs/reference/metrics.md`), and a label
//! value never comes from a request.
//!
//! How a request is counted: the table's compile step interns the route's labels with [`Registry::route`]; the thread
//! that serves a request finds its own cells with [`WorkerMetrics::route`] and writes them with plain loads and stores;
//! [`Registry::render`] adds the threads up. Nothing on the request path is shared for writing or locked.

mod cells;
mod control;
mod exposition;
mod labels;
mod latency;
mod registry;
mod series;
pub mod table;
mod worker;

pub use cells::{BUCKET_BOUNDS_US, Counter, Gauge, Histogram};
pub use control::{ApplyResult, Control, WriteResult};
pub use exposition::Exposition;
pub use labels::{
    ConnectionState, ListenerId, MethodLabel, ProtocolLabel, RouteId, RouteLabels, SniMatch, TlsCipher, TlsResult,
    TlsVersion,
};
pub use latency::{LATENCY_BUCKETS, LatencyCounts, LatencyHistogram, latency_bound_us};
pub use registry::{Registry, RegistryConfig};
pub use series::{RequestSample, RouteSeries, UpstreamSample};
pub use table::{Metric, MetricDef, MetricKind};
pub use worker::WorkerMetrics;

#[cfg(test)]
mod tests;
