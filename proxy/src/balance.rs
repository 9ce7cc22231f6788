//! How an endpoint is chosen, judged and protected: every decision of the balancer, pure. Times, random numbers and
//! counts are arguments; the state lives in the pools of the workers and in the shared state of the endpoints.
//!
//! The default, power of two choices by least requests, is [`power_of_two`]: Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing" (2001).

pub mod affinity;
pub mod chances;
pub mod ewma;
pub mod hash;
pub mod locality;
pub mod maglev;
pub mod outlier;
pub mod retry_budget;
pub mod round_robin;
pub mod slow_start;
pub mod two_choices;

/// Chooses an index below `count` among those that `usable` accepts, the less loaded of two drawn at random; none where
/// nothing is usable. `random` must be uniform over all 64 bits.
///
/// # Cost
/// Constant, but linear where the drawn ones are not usable.
pub fn power_of_two(
    count: usize,
    random: u64,
    load: impl Fn(usize) -> u32,
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    if count < 2 {
        return (0..count).find(|index| usable(*index));
    }
    let pair = two_choices::Pair::uniform(count, random);
    two_choices::of_two(pair, count, usable, |pair| {
        if load(pair.second) < load(pair.first) {
            pair.second
        } else {
            pair.first
        }
    })
}

#[cfg(test)]
pub(crate) mod statistics;
#[cfg(test)]
mod tests;
