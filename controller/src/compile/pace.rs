//! When the next compile begins: a decision of times alone.

use std::time::Duration;

use propylon_kit::clock::Monotonic;

/// After a compile, changes are gathered until there was none for so long.
const QUIET: Duration = Duration::from_millis(50);
/// A change never waits longer than this, and one that comes so long after the last compile does not wait at all.
const CAP: Duration = Duration::from_millis(250);
/// Changes of endpoints wait only so long after the last compile.
const ENDPOINTS: Duration = Duration::from_millis(5);
/// Longest rest after a compile, however long it took.
const REST_CAP: Duration = Duration::from_millis(300);

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Endpoints: they come and go with every pod, and are cheap to compile.
    Endpoints,
    /// Anything else.
    Other,
}

/// Decides when to compile: the first change at once, then gathered; endpoints go before.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the last compile ended, and how long it took.
    last: Option<(Monotonic, Duration)>,
    /// The first and the last of the other changes since.
    other: Option<(Monotonic, Monotonic)>,
    /// The first change of endpoints since.
    endpoints: Option<Monotonic>,
}

impl Pace {
    /// A change came.
    pub(super) fn change(&mut self, lane: Lane, now: Monotonic) {
        match lane {
            Lane::Endpoints => {
                self.endpoints.get_or_insert(now);
            }
            Lane::Other => self.other = Some(self.other.map_or((now, now), |(first, _)| (first, now))),
        }
    }

    /// A compile ended; it took so long.
    pub(super) fn compiled(&mut self, now: Monotonic, took: Duration) {
        *self = Self {
            last: Some((now, took)),
            other: None,
            endpoints: None,
        };
    }

    /// When the next compile is due; none: nothing changed.
    pub(super) fn due(&self) -> Option<Monotonic> {
        let other = self.other.map(|(first, last)| match self.last {
            Some((ended, _)) if first.since(ended) < CAP => (last + QUIET).min(first + CAP),
            _ => first,
        });
        let endpoints = self.endpoints.map(|first| match self.last {
            Some((ended, _)) => first.max(ended + ENDPOINTS),
            None => first,
        });
        let wanted = match (other, endpoints) {
            (Some(other), Some(endpoints)) => other.min(endpoints),
            (other, endpoints) => other.or(endpoints)?,
        };
        // Never so often that compiling is all there is.
        let rested = self.last.map(|(ended, took)| ended + took.min(REST_CAP));
        Some(rested.map_or(wanted, |rested| rested.max(wanted)))
    }
}

#[cfg(test)]
mod tests {
    use propylon_kit::clock;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_change_on_its_own_does_not_wait() {
        let start = clock::now();
        let mut pace = Pace::default();
        assert_eq!(pace.due(), None);
        pace.change(Lane::Other, start);
        assert_eq!(pace.due(), Some(start));
        pace.compiled(start + MS, MS);
        assert_eq!(pace.due(), None);
        pace.change(Lane::Other, start + CAP + MS);
        assert_eq!(pace.due(), Some(start + CAP + MS));
    }

    #[test]
    fn changes_that_follow_each_other_are_gathered_up_to_the_cap() {
        let start = clock::now();
        let mut pace = Pace::default();
        pace.compiled(start, MS);
        pace.change(Lane::Other, start + 10 * MS);
        assert_eq!(pace.due(), Some(start + 60 * MS));
        for after in 2..40 {
            pace.change(Lane::Other, start + after * 10 * MS);
        }
        assert_eq!(pace.due(), Some(start + 260 * MS));
    }

    #[test]
    fn endpoints_go_before_and_a_slow_compile_is_rested_from() {
        let start = clock::now();
        let mut pace = Pace::default();
        pace.compiled(start, MS);
        pace.change(Lane::Other, start + 2 * MS);
        pace.change(Lane::Endpoints, start + 3 * MS);
        assert_eq!(pace.due(), Some(start + 5 * MS));
        pace.compiled(start + 6 * MS, MS);
        pace.change(Lane::Endpoints, start + 30 * MS);
        assert_eq!(pace.due(), Some(start + 30 * MS));
        pace.compiled(start, 100 * MS);
        pace.change(Lane::Endpoints, start + MS);
        assert_eq!(pace.due(), Some(start + 100 * MS));
    }
}
