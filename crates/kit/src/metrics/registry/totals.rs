//! Adds up the cells of the threads and writes the sums.

use std::{collections::BTreeMap, sync::Arc};

use super::{RegistryConfig, Snapshot};
use crate::metrics::{
    cells::{Counter, HistogramTotals},
    exposition::Exposition,
    labels::{ConnectionState, MethodLabel, ProtocolLabel, RouteLabels, SniMatch, TlsCipher, TlsResult, TlsVersion},
    series::{PHASES, SeriesCells},
    table::Metric,
    worker::WorkerCells,
};

/// Writes the series of one route.
pub(super) fn render_route(exposition: &mut Exposition, labels: &RouteLabels, cells: &[Arc<SeriesCells>]) {
    let base: [&str; 3] = [&labels.namespace, &labels.ingress, &labels.service];
    let mut requests: BTreeMap<(MethodLabel, u16), u64> = BTreeMap::new();
    let mut duration = HistogramTotals::default();
    let mut upstream: [HistogramTotals; PHASES.len()] = Default::default();
    let (mut request_bytes, mut response_bytes, mut inflight) = (0_u64, 0_u64, 0_i64);
    for cells in cells {
        cells
            .requests
            .visit(|method, code, count| *requests.entry((method, code)).or_default() += count);
        cells.duration.add_to(&mut duration);
        cells
            .upstream
            .iter()
            .zip(&mut upstream)
            .for_each(|(phase, totals)| phase.add_to(totals));
        request_bytes = request_bytes.wrapping_add(cells.request_bytes.get());
        response_bytes = response_bytes.wrapping_add(cells.response_bytes.get());
        inflight += cells.inflight.get();
    }
    let [namespace, ingress, service] = base;
    for ((method, code), count) in requests {
        let mut digits = itoa::Buffer::new();
        let code = if code == 0 { "_OTHER" } else { digits.format(code) };
        exposition.counter(
            Metric::Requests,
            &[namespace, ingress, service, method.as_str(), code],
            count,
        );
    }
    exposition.histogram(Metric::RequestDuration, &base, &duration);
    for (phase, totals) in PHASES.iter().zip(&upstream) {
        exposition.histogram(Metric::UpstreamDuration, &[namespace, ingress, service, phase], totals);
    }
    exposition.counter(Metric::RequestBytes, &base, request_bytes);
    exposition.counter(Metric::ResponseBytes, &base, response_bytes);
    exposition.gauge_count(Metric::InflightRequests, &base, inflight);
}

/// Writes what the threads count without a route.
pub(super) fn render_workers(exposition: &mut Exposition, snapshot: &Snapshot, config: &RegistryConfig) {
    for (index, reason) in config.reasons.iter().enumerate() {
        let count = sum(snapshot, |worker| worker.reasons.get(index));
        exposition.counter(Metric::ResponsesByReason, &[reason], count);
    }
    for (index, reason) in config.retry_reasons.iter().enumerate() {
        let count = sum(snapshot, |worker| worker.retries.get(index));
        exposition.counter(Metric::Retries, &[reason], count);
    }
    exposition.counter(
        Metric::UpstreamTruncated,
        &[],
        sum(snapshot, |worker| Some(&worker.truncated)),
    );
    let mut overhead = HistogramTotals::default();
    snapshot
        .workers
        .iter()
        .for_each(|worker| worker.overhead.add_to(&mut overhead));
    exposition.histogram(Metric::Overhead, &[], &overhead);
    render_connections(exposition, snapshot);
    render_handshakes(exposition, snapshot);
}

/// Panics caught on the data-plane threads.
pub(super) fn panics(snapshot: &Snapshot) -> u64 {
    sum(snapshot, |worker| Some(&worker.panics))
}

fn render_connections(exposition: &mut Exposition, snapshot: &Snapshot) {
    for (index, listener) in snapshot.listeners.iter().enumerate() {
        for state in ConnectionState::ALL {
            for protocol in ProtocolLabel::ALL {
                let open = snapshot
                    .workers
                    .iter()
                    .map(|worker| worker.connections(index, *state, *protocol))
                    .sum();
                exposition.gauge_count(
                    Metric::Connections,
                    &[listener, state.as_str(), protocol.as_str()],
                    open,
                );
            }
        }
    }
}

/// Writes the combinations that occurred.
fn render_handshakes(exposition: &mut Exposition, snapshot: &Snapshot) {
    for version in TlsVersion::ALL {
        for cipher in TlsCipher::ALL {
            for sni_match in SniMatch::ALL {
                for result in TlsResult::ALL {
                    let cell = (*version, *cipher, *sni_match, *result);
                    let count: u64 = snapshot.workers.iter().map(|worker| worker.handshakes(cell)).sum();
                    if count > 0 {
                        let labels = [version.as_str(), cipher.as_str(), sni_match.as_str(), result.as_str()];
                        exposition.counter(Metric::TlsHandshakes, &labels, count);
                    }
                }
            }
        }
    }
}

fn sum<'a>(snapshot: &'a Snapshot, counter: impl Fn(&'a WorkerCells) -> Option<&'a Counter>) -> u64 {
    snapshot
        .workers
        .iter()
        .filter_map(|worker| counter(worker))
        .map(Counter::get)
        .sum()
}
