//! Waiting on conditions with a deadline, in place of sleeps.

use std::time::Duration;

use tokio::time::Instant;

/// How long tests wait for something that is expected to happen: far above what it takes, so that a slow machine does
/// not fail them.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two looks at the condition.
const INTERVAL: Duration = Duration::from_millis(5);

/// Blocks until `condition` holds, and says how long that took; `None` when `patience` ran out first.
///
/// The condition is looked at every 5 ms and once more at the end. Blocks the thread: not for asynchronous code.
pub fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> Option<Duration> {
    some(patience, || condition().then_some(())).map(|((), waited)| waited)
}

/// Blocks until `attempt` gives a value, and says how long that took; `None` when `patience` ran out first.
pub fn some<T>(patience: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return Some((value, start.elapsed()));
        }
        if start.elapsed() >= patience {
            return None;
        }
        std::thread::sleep(INTERVAL);
    }
}

/// As [`until`], for asynchronous code: yields between looks.
///
/// # Cancel safety
/// Cancel safe: nothing is held between looks.
pub async fn until_async(patience: Duration, mut condition: impl FnMut() -> bool) -> Option<Duration> {
    let held = some_async(patience, async || condition().then_some(())).await;
    held.map(|((), waited)| waited)
}

/// As [`some`], for attempts that are asynchronous themselves. An attempt is not cut short when `patience` runs out.
///
/// # Cancel safety
/// As that of the attempt: nothing else is held.
pub async fn some_async<T>(patience: Duration, mut attempt: impl AsyncFnMut() -> Option<T>) -> Option<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt().await {
            return Some((value, start.elapsed()));
        }
        if start.elapsed() >= patience {
            return None;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_is_seen() {
        let mut looks = 0;
        assert!(
            until(PATIENCE, || {
                looks += 1;
                looks == 3
            })
            .is_some()
        );
    }

    #[test]
    fn patience_ends() {
        assert_eq!(until(Duration::from_millis(10), || false), None);
    }
}
