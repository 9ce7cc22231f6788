//! The cells that are written by one thread and read by the scrape.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// The upper bounds of the histogram buckets in microseconds: those of OpenTelemetry's `http.server.request.duration`
/// (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5 and 10 s). One more bucket takes the rest.
pub const BUCKET_BOUNDS_US: [u64; 14] = [
    5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000, 5_000_000,
    7_500_000, 10_000_000,
];

/// Buckets of a histogram: one per bound, and the one without bound.
pub(crate) const BUCKETS: usize = BUCKET_BOUNDS_US.len() + 1;

/// By the number of significant bits of a value: the first bucket that can hold a value of so many bits.
const FIRST_BUCKET: [u8; 65] = first_buckets();

/// A count that only grows.
///
/// Exactly one thread may write it (that is what makes a plain load and store right, and spares the locked
/// instruction); any thread may read it. Two writers lose counts, but never corrupt anything else.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`; only for the one writing thread.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Adds one; only for the one writing thread.
    pub fn inc(&self) {
        self.add(1);
    }

    /// The count, from any thread.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A level that rises and falls; one writing thread, as [`Counter`].
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Raises the level by one; only for the one writing thread.
    pub fn inc(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// Lowers the level by one; only for the one writing thread.
    pub fn dec(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(1), Relaxed);
    }

    /// The level, from any thread. The sum over the threads is what means something: an item may be counted in by one
    /// and out by another.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Durations by bucket ([`BUCKET_BOUNDS_US`]) with their sum; one writing thread, as [`Counter`].
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum_us: Counter,
}

impl Histogram {
    /// Records one duration in microseconds; only for the one writing thread.
    ///
    /// # Cost
    ///
    /// About 20 instructions.
    pub fn record_us(&self, value_us: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(value_us)) {
            bucket.inc();
        }
        self.sum_us.add(value_us);
    }

    /// Adds what was recorded to `totals`, from any thread.
    pub(crate) fn add_to(&self, totals: &mut HistogramTotals) {
        for (total, bucket) in totals.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.get();
        }
        totals.sum_us += self.sum_us.get();
    }
}

/// The sums of histograms at one scrape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HistogramTotals {
    /// Counts per bucket, not cumulated.
    pub(crate) buckets: [u64; BUCKETS],
    /// Sum of the recorded durations in microseconds.
    pub(crate) sum_us: u64,
}

impl HistogramTotals {
    /// How many durations were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Records one duration in microseconds.
    pub(crate) fn record_us(&mut self, value_us: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(value_us)) {
            *bucket += 1;
        }
        self.sum_us = self.sum_us.saturating_add(value_us);
    }
}

/// The bucket of a value: the first whose bound is not below it.
fn bucket_of(value_us: u64) -> usize {
    let bits = (u64::BITS - value_us.leading_zeros()) as usize;
    let mut bucket = usize::from(FIRST_BUCKET.get(bits).copied().unwrap_or_default());
    while BUCKET_BOUNDS_US.get(bucket).is_some_and(|bound| *bound < value_us) {
        bucket += 1;
    }
    bucket
}

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
const fn first_buckets() -> [u8; 65] {
    let mut table = [0; 65];
    let mut bits = 1;
    while bits <= 64 {
        let smallest = 1_u64 << (bits - 1);
        let mut bucket = 0_u8;
        while (bucket as usize) < BUCKET_BOUNDS_US.len() && BUCKET_BOUNDS_US[bucket as usize] < smallest {
            bucket += 1;
        }
        table[bits] = bucket;
        bits += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_bucket_is_the_first_whose_bound_holds_the_value(value in prop_oneof![0..20_000_000_u64, any::<u64>()]) {
            let linear = BUCKET_BOUNDS_US.iter().filter(|bound| **bound < value).count();
            prop_assert_eq!(bucket_of(value), linear);
        }
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        for (index, bound) in BUCKET_BOUNDS_US.iter().enumerate() {
            assert_eq!(bucket_of(*bound), index);
            assert_eq!(bucket_of(bound + 1), index + 1);
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn totals_add_up_over_threads() {
        let (one, two) = (Histogram::default(), Histogram::default());
        one.record_us(4_000);
        one.record_us(6_000);
        two.record_us(60_000_000);
        let mut totals = HistogramTotals::default();
        one.add_to(&mut totals);
        two.add_to(&mut totals);
        assert_eq!(totals.count(), 3);
        assert_eq!(totals.sum_us, 60_010_000);
        assert_eq!((totals.buckets[0], totals.buckets[1], totals.buckets[14]), (1, 1, 1));
    }
}
