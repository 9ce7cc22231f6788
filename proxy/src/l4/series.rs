//! What is counted of a listener: cells per worker, summed at the scrape.

use std::sync::Arc;

use propylon_kit::metrics::{Counter, Exposition, Gauge, Histogram, Metric};

use super::End;

/// Which Service a connection was for, and where it came in: `PORT/PROTOCOL`, or `passthrough`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Labels {
    pub(crate) namespace: Arc<str>,
    pub(crate) service: Arc<str>,
    pub(crate) listener: Arc<str>,
}

/// The counts of one listener; they live as long as it does, whatever changes in its settings.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    workers: Box<[Cells]>,
    /// Takes what no worker of ours counts; never rendered.
    nowhere: Cells,
}

/// The counts of one worker, which alone writes them.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Cells {
    pub(crate) open: Gauge,
    pub(crate) ended: [Counter; End::ALL.len()],
    /// Bytes from clients.
    pub(crate) received: Counter,
    /// Bytes to clients.
    pub(crate) sent: Counter,
    pub(crate) duration: Histogram,
    /// Datagrams that went nowhere.
    pub(crate) dropped: [Counter; End::ALL.len()],
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            open: Gauge::default(),
            ended: std::array::from_fn(|_| Counter::default()),
            received: Counter::default(),
            sent: Counter::default(),
            duration: Histogram::default(),
            dropped: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl Cells {
    /// Counts datagrams that went nowhere.
    pub(crate) fn count_dropped(&self, end: End, count: u64) {
        if let Some(dropped) = self.dropped.get(end.index()) {
            dropped.add(count);
        }
    }
}

impl Series {
    pub(crate) fn new(labels: Labels, workers: usize) -> Self {
        Self {
            labels,
            workers: (0..workers).map(|_| Cells::default()).collect(),
            nowhere: Cells::default(),
        }
    }

    /// The cells of a worker.
    pub(crate) fn of(&self, worker: usize) -> &Cells {
        self.workers.get(worker).unwrap_or(&self.nowhere)
    }

    /// Writes the sums.
    pub(crate) fn render(&self, exposition: &mut Exposition) {
        let Labels {
            namespace,
            service,
            listener,
        } = &self.labels;
        let labels = [&**namespace, &**service, &**listener];
        let sum = |counter: fn(&Cells) -> &Counter| self.workers.iter().map(|cells| counter(cells).get()).sum();
        for end in End::ALL {
            let of_end = |cells: &Cells| cells.ended.get(end.index()).map_or(0, Counter::get);
            let count: u64 = self.workers.iter().map(of_end).sum();
            if count > 0 || *end == End::Complete {
                let [namespace, service, listener] = labels;
                exposition.counter(
                    Metric::L4Connections,
                    &[namespace, service, listener, end.code()],
                    count,
                );
            }
        }
        for end in End::ALL {
            let of_end = |cells: &Cells| cells.dropped.get(end.index()).map_or(0, Counter::get);
            let count: u64 = self.workers.iter().map(of_end).sum();
            if count > 0 {
                let [namespace, service, listener] = labels;
                exposition.counter(
                    Metric::L4DroppedDatagrams,
                    &[namespace, service, listener, end.code()],
                    count,
                );
            }
        }
        let open = self.workers.iter().map(|cells| cells.open.get()).sum();
        exposition.gauge_count(Metric::L4OpenConnections, &labels, open);
        exposition.counter(Metric::L4ReceivedBytes, &labels, sum(|cells| &cells.received));
        exposition.counter(Metric::L4SentBytes, &labels, sum(|cells| &cells.sent));
        let durations = self.workers.iter().map(|cells| &cells.duration);
        exposition.histogram_sum(Metric::L4Duration, &labels, durations);
    }
}
