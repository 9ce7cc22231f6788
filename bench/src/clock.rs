//! Monotonic time in nanoseconds, and waiting for a condition.

use std::time::Duration;

use anyhow::{Result, bail};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the monotonic clock.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

/// Nanoseconds of `seconds`.
pub(crate) fn seconds_ns(seconds: u32) -> u64 {
    u64::from(seconds) * 1_000_000_000
}

/// Asks `ready` every 50 ms until it says yes.
///
/// # Errors
///
/// When `deadline` passes first, or `ready` fails. `what` names the condition.
pub(crate) fn wait_until(what: &str, deadline: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = now_ns() + u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX / 2);
    while now_ns() < end {
        if ready()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("{what}: not within {} s", deadline.as_secs())
}
