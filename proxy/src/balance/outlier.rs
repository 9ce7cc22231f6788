//! Passive health: when an endpoint is left out for a while, judged by what requests met there.
//!
//! Failures in a row (connections that fail, 5xx answers) and latency far from the others' lead to it; it lasts longer
//! each time; never is more than half of a list left out.

/// How a request failed at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection could not be made, or not in time.
    Connect,
    /// The connection ended before a response, the response did not come in time, or it was a 5xx.
    Response,
}

/// Whether an endpoint that failed this often in a row, the last time in this way, is to be left out.
pub const fn is_due(failures_in_a_row: u32, last: Failure) -> bool {
    failures_in_a_row
        >= match last {
            Failure::Connect => CONNECT_FAILURES,
            Failure::Response => RESPONSE_FAILURES,
        }
}

/// Whether one more of `count` endpoints may be left out where `ejected` are: never more than half.
pub const fn may_eject(ejected: usize, count: usize) -> bool {
    (ejected + 1) * 2 <= count
}

/// How long an endpoint is left out, and how often that has happened without a longer good time in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// To be handed in the next time.
    pub times: u32,
    /// Milliseconds from now on.
    pub duration_ms: u64,
}

/// The next ejection of an endpoint: [`FIRST_MS`], twice as long each time, at most [`LONGEST_MS`]; each [`FORGIVE_MS`]
/// of good time since the last one ended takes one time off.
pub fn ejection(times_before: u32, good_ms: u64) -> Ejection {
    let forgiven = u32::try_from(good_ms / FORGIVE_MS).unwrap_or(u32::MAX);
    let before = times_before.saturating_sub(forgiven);
    let duration_ms = FIRST_MS.saturating_mul(1_u64.checked_shl(before).unwrap_or(u64::MAX));
    Ejection {
        times: before.saturating_add(1).min(MOST_TIMES),
        duration_ms: duration_ms.min(LONGEST_MS),
    }
}

/// What is known of the latency of an endpoint over the last interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Answers in the interval.
    pub count: u64,
    /// Mean time to the first byte, microseconds.
    pub mean_us: u64,
}

/// The latency above which an endpoint is an outlier, microseconds: [`SLOWER`] times the median of those that were asked
/// often enough, and [`SLOWER_US`] more than it at least; none where too few were.
///
/// # Cost
/// Linear.
pub fn latency_limit_us(samples: impl IntoIterator<Item = Sample>) -> Option<u64> {
    let mut means: Vec<u64> = samples
        .into_iter()
        .filter(|sample| sample.count >= LEAST_ANSWERS)
        .map(|sample| sample.mean_us)
        .collect();
    if means.len() < LEAST_ENDPOINTS {
        return None;
    }
    let middle = (means.len() - 1) / 2;
    let (_, median, _) = means.select_nth_unstable(middle);
    Some(median.saturating_mul(SLOWER).max(median.saturating_add(SLOWER_US)))
}

/// Whether an endpoint is too slow, by the limit of its list.
pub const fn is_slow(sample: Sample, limit_us: u64) -> bool {
    sample.count >= LEAST_ANSWERS && sample.mean_us > limit_us
}

/// Whether the ejections of a list are to be ignored: fewer than half of those that could be used are left. They would be
/// overloaded next, and so many at once are more likely our own trouble than theirs.
pub const fn is_panic(usable: usize, count: usize) -> bool {
    usable * 2 < count
}

/// Connect failures in a row that lead to an ejection.
pub const CONNECT_FAILURES: u32 = 3;
/// Failed responses in a row that lead to an ejection.
pub const RESPONSE_FAILURES: u32 = 5;
/// The first ejection, milliseconds.
pub const FIRST_MS: u64 = 5_000;
/// The longest ejection, milliseconds.
pub const LONGEST_MS: u64 = 60_000;
/// Good time after which one ejection is forgiven, milliseconds.
pub const FORGIVE_MS: u64 = 60_000;
/// From one look at the latencies of a list to the next, milliseconds.
pub const INTERVAL_MS: u64 = 5_000;
/// Endpoints with answers enough that a comparison of latencies needs.
pub const LEAST_ENDPOINTS: usize = 3;
/// Answers of an endpoint in an interval that make its latency count.
pub const LEAST_ANSWERS: u64 = 10;
/// How many times slower than the median an outlier is.
pub const SLOWER: u64 = 4;
/// How much slower than the median an outlier is at least, microseconds: below that nobody notices.
pub const SLOWER_US: u64 = 100_000;
/// Doubling further would not lengthen an ejection.
const MOST_TIMES: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failed_connections_or_five_failed_answers_in_a_row() {
        assert!(!is_due(2, Failure::Connect) && is_due(3, Failure::Connect));
        assert!(!is_due(4, Failure::Response) && is_due(5, Failure::Response));
    }

    #[test]
    fn never_more_than_half() {
        assert!(!may_eject(0, 0) && !may_eject(0, 1));
        assert!(may_eject(0, 2) && !may_eject(1, 2));
        assert!(may_eject(0, 3) && !may_eject(1, 3));
        for count in 0..200 {
            let mut ejected = 0;
            while may_eject(ejected, count) {
                ejected += 1;
            }
            assert!(
                ejected * 2 <= count && (ejected + 1) * 2 > count,
                "{ejected} of {count}"
            );
            assert!(!is_panic(count - ejected, count), "{ejected} of {count}");
        }
    }

    #[test]
    fn ejections_double_and_are_forgiven() {
        let mut times = 0;
        let mut durations = Vec::new();
        for _ in 0..40 {
            let next = ejection(times, 0);
            times = next.times;
            durations.push(next.duration_ms);
        }
        assert_eq!(durations[..6], [5_000, 10_000, 20_000, 40_000, 60_000, 60_000]);
        assert!(durations[6..].iter().all(|duration| *duration == LONGEST_MS));
        assert_eq!(ejection(3, 2 * FORGIVE_MS).duration_ms, 10_000);
        assert_eq!(ejection(times, u64::MAX).duration_ms, FIRST_MS);
    }

    #[test]
    fn an_outlier_is_far_from_the_median() {
        let sample = |count, mean_us| Sample { count, mean_us };
        let ordinary = [sample(100, 10_000), sample(100, 12_000), sample(100, 11_000)];
        let limit = latency_limit_us(ordinary.into_iter().chain([sample(100, 900_000)])).unwrap();
        assert_eq!(limit, 111_000);
        assert!(is_slow(sample(100, 900_000), limit));
        assert!(!is_slow(sample(5, 900_000), limit), "too few answers");
        assert!(!ordinary.iter().any(|ordinary| is_slow(*ordinary, limit)));
        let slow_service = [sample(50, 800_000), sample(50, 900_000), sample(50, 1_100_000)];
        let limit = latency_limit_us(slow_service).unwrap();
        assert!(
            !slow_service.iter().any(|sample| is_slow(*sample, limit)),
            "all are slow"
        );
        assert_eq!(latency_limit_us(ordinary.into_iter().take(2)), None);
    }

    #[test]
    fn panic_is_below_half() {
        assert!(is_panic(1, 3) && !is_panic(2, 4) && is_panic(0, 1) && !is_panic(0, 0));
    }
}
