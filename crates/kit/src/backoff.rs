//! Growing pauses between attempts, with full jitter.

use std::time::Duration;

/// Pauses that are random between zero and a bound; the bound doubles from `base` to `cap`.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    bound: Duration,
}

impl Backoff {
    /// Makes a sequence of pauses that starts with at most `base` and never exceeds `cap`.
    pub const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap, bound: base }
    }

    /// The next pause.
    pub fn pause(&mut self, rng: &mut fastrand::Rng) -> Duration {
        let bound = self.bound.min(self.cap);
        self.bound = bound.saturating_mul(2);
        bound.mul_f64(rng.f64())
    }

    /// Starts again, after an attempt that succeeded.
    pub const fn reset(&mut self) {
        self.bound = self.base;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_cap_and_start_again() {
        let (base, cap) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut rng = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::new(base, cap);
        let mut longest = Duration::ZERO;
        for attempt in 0..1000 {
            let pause = backoff.pause(&mut rng);
            assert!(pause <= cap && (attempt > 0 || pause <= base));
            longest = longest.max(pause);
        }
        assert!(longest > cap / 2, "{longest:?}");
        backoff.reset();
        assert!(backoff.pause(&mut rng) <= base);
    }
}
