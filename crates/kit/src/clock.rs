//! The clocks: the one place of the workspace that reads them.
//!
//! [`Monotonic`] measures, [`unix_now_ms`] dates.

#![expect(clippy::disallowed_types, reason = "this module is the one that wraps the clock")]

use std::{
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

/// A second since the Unix epoch as `2026-11-21T18:00:00Z` (RFC 3339); empty outside of the years -9999 to 9999.
pub fn utc_text(unix_s: i64) -> String {
    let date = jiff::Timestamp::from_second(unix_s);
    date.map(|date| date.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        .unwrap_or_default()
}

/// A duration in whole microseconds, at most `u64::MAX`.
pub fn saturating_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
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
    fn a_date_is_written_in_utc() {
        assert_eq!(utc_text(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc_text(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(utc_text(i64::MAX), "");
    }

    #[test]
    fn the_date_is_of_this_century() {
        assert!(unix_now_ms() > 1_700_000_000_000);
        assert!(unix_now() > Duration::from_secs(1_700_000_000));
    }
}
