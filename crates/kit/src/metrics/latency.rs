//! Durations by fine buckets, for quantiles that people look at.

use super::cells::Counter;

/// Buckets of a [`LatencyHistogram`]: four per power of two from 32 us to 33.5 s, one below and one above.
pub const LATENCY_BUCKETS: usize = 82;

/// Durations by bucket; the width of a bucket is at most a quarter of its lower bound. One writing thread, as [`Counter`].
#[derive(Debug)]
pub struct LatencyHistogram([Counter; LATENCY_BUCKETS]);

/// The counts of one or more [`LatencyHistogram`]s, by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyCounts(pub [u64; LATENCY_BUCKETS]);

impl LatencyHistogram {
    /// Records one duration in microseconds; only for the one writing thread.
    ///
    /// # Cost
    ///
    /// About 10 instructions.
    pub fn record_us(&self, value_us: u64) {
        if let Some(bucket) = self.0.get(bucket_of(value_us)) {
            bucket.inc();
        }
    }

    /// Adds what was recorded to `counts`, from any thread.
    pub fn add_to(&self, counts: &mut LatencyCounts) {
        for (count, bucket) in counts.0.iter_mut().zip(&self.0) {
            *count = count.wrapping_add(bucket.get());
        }
    }
}

impl Default for LatencyHistogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl LatencyCounts {
    /// How many durations were recorded.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What was recorded since `earlier`; zero where a count fell, because the cells began anew.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.clone();
        for (count, before) in counts.0.iter_mut().zip(&earlier.0) {
            *count = count.saturating_sub(*before);
        }
        counts
    }

    /// The duration in microseconds that the share `q` (0 to 1) of the recorded ones does not exceed, interpolated
    /// within its bucket; none where nothing was recorded. In the last bucket it is the bucket's lower bound.
    pub fn quantile_us(&self, q: f64) -> Option<u64> {
        let total = self.total();
        if total == 0 {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank among counts; the share is clamped and a count stays below 2^53"
        )]
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).clamp(1, total);
        let mut below = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            if below + count >= rank {
                let from = lower_bound_us(bucket);
                let width = latency_bound_us(bucket).map_or(0, |to| to - from);
                return Some(from + width * (rank - below) / count.max(&1));
            }
            below += count;
        }
        None
    }
}

impl Default for LatencyCounts {
    fn default() -> Self {
        Self([0; LATENCY_BUCKETS])
    }
}

/// The upper bound of a bucket in microseconds, which is the lower bound of the next and belongs to that; none for the last
/// bucket, which takes the rest.
pub fn latency_bound_us(bucket: usize) -> Option<u64> {
    match bucket {
        0 => Some(SMALLEST_US),
        _ if bucket + 1 >= LATENCY_BUCKETS => None,
        _ => Some((4 + (bucket % 4) as u64) << (SMALLEST_BITS - 3 + bucket / 4)),
    }
}

fn lower_bound_us(bucket: usize) -> u64 {
    bucket.checked_sub(1).and_then(latency_bound_us).unwrap_or(0)
}

fn bucket_of(value_us: u64) -> usize {
    if value_us < SMALLEST_US {
        return 0;
    }
    let octave = (u64::BITS - 1 - value_us.leading_zeros()) as usize;
    let quarter = (value_us >> (octave - 2) & 3) as usize;
    (1 + (octave + 1 - SMALLEST_BITS) * 4 + quarter).min(LATENCY_BUCKETS - 1)
}

/// Durations below this share a bucket.
const SMALLEST_US: u64 = 32;
/// Significant bits of [`SMALLEST_US`].
const SMALLEST_BITS: usize = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_lies_within_its_bucket(value in prop_oneof![0..100_000_u64, 0..50_000_000_u64, any::<u64>()]) {
            let bucket = bucket_of(value);
            prop_assert!(lower_bound_us(bucket) <= value);
            prop_assert!(latency_bound_us(bucket).is_none_or(|bound| value < bound));
        }

        #[test]
        fn a_quantile_is_no_further_off_than_its_bucket(mut values in prop::collection::vec(40..20_000_000_u64, 1..200), percent in 0..100_u32) {
            let histogram = LatencyHistogram::default();
            for value in &values {
                histogram.record_us(*value);
            }
            let mut counts = LatencyCounts::default();
            histogram.add_to(&mut counts);
            values.sort_unstable();
            let rank = (percent as usize * values.len()).div_ceil(100).clamp(1, values.len());
            let exact = values[rank - 1];
            // A share that is not exact in binary may lie one rank further.
            let next = values[rank.min(values.len() - 1)];
            let found = counts.quantile_us(f64::from(percent) / 100.0).unwrap();
            let is_near = |exact: u64| found.abs_diff(exact) <= exact / 4 + 1;
            prop_assert!(is_near(exact) || is_near(next), "{} for {}", found, exact);
        }
    }

    #[test]
    fn bounds_rise_and_the_last_bucket_has_none() {
        let bounds: Vec<u64> = (0..LATENCY_BUCKETS).map_while(latency_bound_us).collect();
        assert_eq!(bounds.len(), LATENCY_BUCKETS - 1);
        assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(bounds[..6], [32, 40, 48, 56, 64, 80]);
        assert_eq!(bounds.last(), Some(&(1 << 25)));
        assert_eq!(bucket_of(u64::MAX), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn nothing_recorded_has_no_quantile_and_counts_never_fall_below_zero() {
        let mut one = LatencyCounts::default();
        assert_eq!(one.quantile_us(0.5), None);
        one.0[3] = 2;
        let later = LatencyCounts::default();
        assert_eq!(later.since(&one).total(), 0);
        assert_eq!(one.since(&later), one);
    }
}
