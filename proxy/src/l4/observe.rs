//! What is written down of connections at layer 4. Never fails, never waits.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc};

use propylon_kit::{
    access_log::StreamEntry,
    clock::{self, Monotonic},
};

use super::{End, Series};
use crate::worker::Worker;

/// Counts one connection from its accept until it is dropped.
pub(super) struct Record {
    worker: Rc<Worker>,
    series: Arc<Series>,
    began: Monotonic,
    end: Cell<End>,
    received: Cell<u64>,
    sent: Cell<u64>,
    pub(super) client: Cell<SocketAddr>,
    pub(super) endpoint: Cell<Option<SocketAddr>>,
}

impl Record {
    pub(super) fn begin(worker: &Rc<Worker>, series: &Arc<Series>, client: SocketAddr) -> Self {
        series.of(worker.l4.index()).open.inc();
        Self {
            worker: Rc::clone(worker),
            series: Arc::clone(series),
            began: clock::now(),
            end: Cell::new(End::InternalError),
            received: Cell::new(0),
            sent: Cell::new(0),
            client: Cell::new(client),
            endpoint: Cell::new(None),
        }
    }

    /// Notes how it ends.
    pub(super) fn end(&self, end: End) {
        self.end.set(end);
    }

    /// Counts datagrams that went nowhere.
    pub(super) fn count_dropped(&self, end: End, count: u64) {
        if count > 0 {
            self.series.of(self.worker.l4.index()).count_dropped(end, count);
        }
    }

    /// Takes over how much went to the endpoint and to the client so far.
    pub(super) fn note_bytes(&self, received: u64, sent: u64) {
        let cells = self.series.of(self.worker.l4.index());
        cells
            .received
            .add(received.saturating_sub(self.received.replace(received)));
        cells.sent.add(sent.saturating_sub(self.sent.replace(sent)));
    }
}

impl Record {
    fn log(&self, now: Monotonic, duration_us: u64) {
        let (labels, end) = (&self.series.labels, self.end.get());
        self.worker.log.record_stream(&StreamEntry {
            unix_ms: self.worker.unix_ms(now),
            client: self.client.get(),
            transport: if labels.listener.ends_with("/UDP") {
                "udp"
            } else {
                "tcp"
            },
            namespace: &labels.namespace,
            service: &labels.service,
            listener: &labels.listener,
            upstream: self.endpoint.get(),
            received_bytes: self.received.get(),
            sent_bytes: self.sent.get(),
            duration_us,
            status: end.status(),
            end: end.code(),
        });
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let cells = self.series.of(self.worker.l4.index());
        cells.open.dec();
        if std::thread::panicking() {
            self.end.set(End::InternalError);
            self.worker.metrics.panic();
        }
        if let Some(count) = cells.ended.get(self.end.get().index()) {
            count.inc();
        }
        let now = clock::now();
        let duration_us = now.us_since(self.began);
        cells.duration.record_us(duration_us);
        if self.worker.log.is_enabled() {
            self.log(now, duration_us);
        }
    }
}
