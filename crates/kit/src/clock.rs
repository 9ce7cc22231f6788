//! The clocks: the one place of the workspace that reads them.
//!
//! [`Monotonic`] measures, [`unix_now_ms`] dates, [`CoarseClock`] is what a data-plane thread compares deadlines with.

#![expect(clippy::disallowed_types, reason = "this module is the one that wraps the clock")]

use std::{
    cell::Cell,
    ops::{Add, Sub},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A point on the monotonic clock; it never goes back.
///
/// # Cost
///
/// [`Monotonic::now`] is one vDSO call, about 25 ns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Monotonic(std::time::Instant);

impl Monotonic {
    /// The current time.
    pub fn now() -> Self {
        Self(std::time::Instant::now())
    }

    /// The time since this point.
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// The time since this point in microseconds.
    pub fn elapsed_us(self) -> u64 {
        saturating_us(self.0.elapsed())
    }

    /// The time from `earlier` to this point; zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// The time from `earlier` to this point in microseconds; zero where `earlier` is later.
    pub fn us_since(self, earlier: Self) -> u64 {
        saturating_us(self.since(earlier))
    }

    /// The same point as tokio's timers take it.
    pub fn to_tokio(self) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0)
    }
}

impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }
}

impl Sub for Monotonic {
    type Output = Duration;

    /// As [`Monotonic::since`].
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// The current time.
pub fn now() -> Monotonic {
    Monotonic::now()
}

/// The time since the Unix epoch; zero where the machine's date lies before it.
#[expect(clippy::disallowed_methods, reason = "this module is the one that wraps the clock")]
pub fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time since the Unix epoch in milliseconds.
pub fn unix_now_ms() -> u64 {
    u64::try_from(unix_now().as_millis()).unwrap_or(u64::MAX)
}

/// A duration in whole microseconds, at most `u64::MAX`.
pub fn saturating_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A clock of one thread that stands still between ticks, so that reading it is one load.
///
/// The owner calls [`CoarseClock::tick`] in its sweep (each 100 to 250 ms); deadlines are compared with
/// [`CoarseClock::now_ms`], and are therefore late by at most one sweep.
#[derive(Debug)]
pub struct CoarseClock {
    origin: Monotonic,
    now_ms: Cell<u64>,
    unix_ms: Cell<u64>,
}

impl CoarseClock {
    /// Makes a clock that starts at 0 ms.
    pub fn new() -> Self {
        Self {
            origin: Monotonic::now(),
            now_ms: Cell::new(0),
            unix_ms: Cell::new(unix_now_ms()),
        }
    }

    /// Reads both clocks of the machine; returns the new [`CoarseClock::now_ms`].
    pub fn tick(&self) -> u64 {
        let now_ms = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.now_ms.set(now_ms);
        self.unix_ms.set(unix_now_ms());
        now_ms
    }

    /// Milliseconds from the making of the clock to its last tick; never goes back.
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// The date of the last tick, milliseconds since the Unix epoch; may go back with the machine's date.
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms.get()
    }
}

impl Default for CoarseClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_never_underflows() {
        let earlier = now();
        let later = earlier + Duration::from_micros(1500);
        assert_eq!(later - earlier, Duration::from_micros(1500));
        assert_eq!(later.us_since(earlier), 1500);
        assert_eq!(earlier.since(later), Duration::ZERO);
    }

    #[test]
    fn the_coarse_clock_stands_still_between_ticks() {
        let clock = CoarseClock::new();
        let started = now();
        while started.elapsed() < Duration::from_millis(3) {
            std::hint::spin_loop();
        }
        assert_eq!(clock.now_ms(), 0);
        assert!(clock.tick() >= 3);
        assert_eq!(clock.now_ms(), clock.now_ms());
    }

    #[test]
    fn the_date_is_of_this_century() {
        assert!(unix_now_ms() > 1_700_000_000_000);
        assert!(unix_now() > Duration::from_secs(1_700_000_000));
    }
}
