//! The peak-sensitive moving average of latency (Finagle's `PeakEwma`): a slower answer counts at once, faster ones bring
//! the average down only with time, and silence lets it fade, so that an endpoint that was slow is tried again.

/// The moving average of one endpoint, as one worker sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeakEwma {
    value_us: f64,
    at_us: u64,
}

impl PeakEwma {
    /// An endpoint of which nothing is known.
    pub const NEW: Self = Self {
        value_us: 0.0,
        at_us: 0,
    };

    /// Takes in the time to the first byte of an answer; `now_us` on any clock that does not go back.
    pub fn observe(&mut self, sample_us: u64, now_us: u64) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "microseconds of an exchange are far below 2^52"
        )]
        let sample_us = (sample_us as f64).max(1.0);
        let kept = self.fade(now_us);
        let (before, at_us) = (self.value_us, now_us.max(self.at_us));
        let faded = before * kept;
        let value_us = if sample_us >= faded {
            sample_us.max(faded)
        } else {
            sample_us.mul_add(1.0 - kept, faded)
        };
        *self = Self { value_us, at_us };
    }

    /// Takes in a failure: it counts as an answer that took [`FAILURE_US`] at least, however fast it came.
    pub fn observe_failure(&mut self, sample_us: u64, now_us: u64) {
        self.observe(sample_us.max(FAILURE_US), now_us);
    }

    /// The average in microseconds; none before the first answer.
    pub fn value_us(&self, now_us: u64) -> Option<f64> {
        (self.at_us != 0 || self.value_us > 0.0).then(|| self.value_us * self.fade(now_us))
    }

    /// What a request would cost here: latency times the requests that it shares the endpoint with. `share` is the
    /// weight relative to the greatest of the list, above 0 and at most 1.
    ///
    /// An endpoint of which nothing is known is tried with one request, and no second before the first was answered.
    pub fn cost(&self, active: u32, share: f32, now_us: u64) -> f64 {
        let load = f64::from(active) / f64::from(share.max(f32::MIN_POSITIVE)) + 1.0;
        match self.value_us(now_us) {
            Some(value_us) => value_us.max(1.0) * load,
            None if active == 0 => 0.0,
            None => UNKNOWN_US * load,
        }
    }

    fn fade(&self, now_us: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "only the size of a span matters")]
        let span_us = now_us.saturating_sub(self.at_us) as f64;
        (-span_us / DECAY_US).exp()
    }
}

/// The time after which an answer counts for 1/e, microseconds: 10 s.
pub const DECAY_US: f64 = 10_000_000.0;
/// What a failure counts as, microseconds: 1 s. Without it an endpoint that fails fast would draw the traffic.
pub const FAILURE_US: u64 = 1_000_000;
/// What an endpoint counts as whose first answer is still awaited, microseconds.
const UNKNOWN_US: f64 = 60_000_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slower_answer_counts_at_once_and_a_faster_one_with_time() {
        let mut ewma = PeakEwma::default();
        assert_eq!(ewma.value_us(5), None);
        ewma.observe(1_000, 10);
        ewma.observe(50_000, 20);
        assert!((ewma.value_us(20).unwrap() - 50_000.0).abs() < 1.0);
        ewma.observe(1_000, 30);
        assert!(ewma.value_us(30).unwrap() > 49_000.0);
        for step in 1..=600_u64 {
            ewma.observe(1_000, 30 + step * 100_000);
        }
        assert!(ewma.value_us(60_000_030).unwrap() < 1_200.0);
    }

    #[test]
    fn silence_lets_it_fade() {
        let mut ewma = PeakEwma::default();
        ewma.observe(1_000_000, 1);
        let after = ewma.value_us(10_000_001).unwrap();
        assert!((after - 1_000_000.0 / std::f64::consts::E).abs() < 10.0, "{after}");
    }

    #[test]
    fn a_fast_failure_is_no_bargain() {
        let (mut failing, mut slow) = (PeakEwma::default(), PeakEwma::default());
        failing.observe_failure(100, 1);
        slow.observe(20_000, 1);
        assert!(failing.cost(0, 1.0, 2) > slow.cost(5, 1.0, 2));
    }

    #[test]
    fn an_unknown_endpoint_gets_one_request_and_no_second() {
        let (unknown, mut known) = (PeakEwma::default(), PeakEwma::default());
        known.observe(1_000, 1);
        assert!(unknown.cost(0, 1.0, 1) < known.cost(0, 1.0, 1));
        assert!(unknown.cost(1, 1.0, 1) > known.cost(100, 1.0, 1));
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_does_no_harm() {
        let mut ewma = PeakEwma::default();
        ewma.observe(1_000, 100);
        ewma.observe(500, 50);
        let value = ewma.value_us(10).unwrap();
        assert!((500.0..=1_000.0).contains(&value), "{value}");
    }
}
