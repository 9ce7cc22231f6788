//! From the results of checks to a verdict.

use propylon_model::HealthCheck;

use crate::endpoint_state::CheckVerdict;

/// What one way of checking made of one endpoint.
#[derive(Debug)]
pub(super) struct Tally {
    verdict: CheckVerdict,
    /// Results in a row that speak for another verdict.
    against: u16,
}

impl Tally {
    /// Begins to count, with the verdict that stands.
    pub(super) const fn new(verdict: CheckVerdict) -> Self {
        Self { verdict, against: 0 }
    }

    /// The verdict that stands.
    pub(super) const fn verdict(&self) -> CheckVerdict {
        self.verdict
    }

    /// Counts a result, and gives the verdict if it changed. An endpoint of which nothing is known is healthy with the
    /// first success; it is unhealthy with the same number of failures as any other.
    pub(super) fn count(&mut self, succeeded: bool, check: &HealthCheck) -> Option<CheckVerdict> {
        let (wanted, needed) = match (succeeded, self.verdict) {
            (true, CheckVerdict::Unknown) => (CheckVerdict::Healthy, 1),
            (true, _) => (CheckVerdict::Healthy, check.healthy),
            (false, _) => (CheckVerdict::Unhealthy, check.unhealthy),
        };
        if wanted == self.verdict {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        *self = Self::new(wanted);
        Some(wanted)
    }
}

/// The verdict of several ways of checking the same endpoint: the worst.
pub(super) fn worst(verdicts: impl Iterator<Item = CheckVerdict>) -> CheckVerdict {
    let rank = |verdict: &CheckVerdict| match verdict {
        CheckVerdict::Healthy => 0,
        CheckVerdict::Unknown => 1,
        CheckVerdict::Unhealthy => 2,
    };
    verdicts.max_by_key(rank).unwrap_or(CheckVerdict::Unknown)
}

#[cfg(test)]
mod tests {
    use propylon_model::Probe;

    use super::*;

    /// The verdict after each result, `+` or `-`.
    fn course(first: CheckVerdict, results: &str) -> Vec<CheckVerdict> {
        let check = HealthCheck::new(Probe::Tcp);
        let mut tally = Tally::new(first);
        let mut verdicts = Vec::new();
        for result in results.chars() {
            tally.count(result == '+', &check);
            verdicts.push(tally.verdict());
        }
        verdicts
    }

    use CheckVerdict::{Healthy, Unhealthy, Unknown};

    #[test]
    fn verdicts_change_after_enough_in_a_row() {
        assert_eq!(course(Unknown, "+"), [Healthy]);
        assert_eq!(course(Unknown, "--+"), [Unknown, Unknown, Healthy]);
        assert_eq!(course(Unknown, "---"), [Unknown, Unknown, Unhealthy]);
        assert_eq!(
            course(Healthy, "--+---"),
            [Healthy, Healthy, Healthy, Healthy, Healthy, Unhealthy]
        );
        assert_eq!(course(Unhealthy, "+-++"), [Unhealthy, Unhealthy, Unhealthy, Healthy]);
    }

    #[test]
    fn the_worst_of_several_counts() {
        assert_eq!(worst([Healthy, Unknown].into_iter()), Unknown);
        assert_eq!(worst([Unhealthy, Unknown, Healthy].into_iter()), Unhealthy);
        assert_eq!(worst([Healthy, Healthy].into_iter()), Healthy);
        assert_eq!(worst([].into_iter()), Unknown);
    }
}
