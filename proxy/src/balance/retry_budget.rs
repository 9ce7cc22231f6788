//! The retry budget: requests that are sent twice must not become the load that keeps an endpoint down.

/// A bucket of retries: requests fill it by a fifth each, time fills it by a floor, retries empty it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Thousandths of a retry.
    balance: u64,
    at_ms: u64,
}

impl RetryBudget {
    /// A bucket that holds [`FIRST`] retries.
    pub const fn new(now_ms: u64) -> Self {
        Self {
            balance: FIRST * RETRY,
            at_ms: now_ms,
        }
    }

    /// Takes a retry, if there is one; `requests` are those that began since the last call.
    pub fn withdraw(&mut self, requests: u64, now_ms: u64) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms.max(self.at_ms);
        let deposit = requests
            .saturating_mul(PER_REQUEST)
            .saturating_add(elapsed_ms.saturating_mul(FLOOR_PER_S));
        self.balance = self.balance.saturating_add(deposit).min(MOST * RETRY);
        match self.balance.checked_sub(RETRY) {
            Some(rest) => {
                self.balance = rest;
                true
            }
            None => false,
        }
    }
}

/// Retries a second that are always there.
pub const FLOOR_PER_S: u64 = 5;
/// Retries that are there at the beginning.
pub const FIRST: u64 = 10;
/// What one request adds, in thousandths of a retry: 20 %.
const PER_REQUEST: u64 = 200;
const RETRY: u64 = 1_000;
/// Retries that can be saved up: an endpoint that dies takes all its requests in flight with it at once.
pub const MOST: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_and_a_floor() {
        let mut budget = RetryBudget::new(0);
        let mut granted = 0_u32;
        for millisecond in 1..=100_000 {
            granted += u32::from(budget.withdraw(1, millisecond));
        }
        // 100,000 requests in 100 s: 20,000, 5 a second, and what it began with.
        assert!((20_490..=20_520).contains(&granted), "{granted}");
    }

    #[test]
    fn the_floor_is_there_without_traffic() {
        let mut budget = RetryBudget::new(0);
        let first = (0..20).filter(|_| budget.withdraw(0, 0)).count();
        let second = (0..20).filter(|_| budget.withdraw(0, 1_000)).count();
        assert_eq!((first, second), (10, 5));
    }

    #[test]
    fn not_more_than_a_hundred_are_saved_up() {
        let mut budget = RetryBudget::new(0);
        assert_eq!((0..1_000).filter(|_| budget.withdraw(1_000, 3_600_000)).count(), 1_000);
        let mut budget = RetryBudget::new(0);
        assert!(budget.withdraw(1_000_000, 3_600_000));
        assert_eq!((0..1_000).filter(|_| budget.withdraw(0, 3_600_000)).count(), 99);
    }
}
