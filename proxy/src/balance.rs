//! The choice of an endpoint: power of two choices by least requests (pure).
//!
//! Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001).

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
    let first = scale(random >> 32, count);
    let second = (first + 1 + scale(random & 0xffff_ffff, count - 1)) % count;
    match (usable(first), usable(second)) {
        (true, true) => Some(if load(second) < load(first) { second } else { first }),
        (true, false) => Some(first),
        (false, true) => Some(second),
        (false, false) => (0..count)
            .map(|offset| (first + offset) % count)
            .find(|index| usable(*index)),
    }
}

/// Maps 32 random bits to `0..count` (Lemire's multiplication).
fn scale(random: u64, count: usize) -> usize {
    usize::try_from((random.wrapping_mul(count as u64)) >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_loads_are_spread_evenly() {
        let mut counts = [0_u32; 10];
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            counts[power_of_two(10, random.u64(..), |_| 0, |_| true).unwrap()] += 1;
        }
        // Chi-square with 9 degrees of freedom: 27.9 is the 0.1 % point.
        let chi: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - 10_000.0).powi(2) / 10_000.0)
            .sum();
        assert!(chi < 27.9, "{chi} {counts:?}");
    }

    #[test]
    fn the_less_loaded_of_two_is_taken() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1_000 {
            assert_ne!(
                power_of_two(2, random.u64(..), |index| [5, 1][index], |_| true),
                Some(0)
            );
        }
    }

    #[test]
    fn what_is_not_usable_is_never_taken() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..1_000 {
            assert_eq!(power_of_two(5, random.u64(..), |_| 0, |index| index == 3), Some(3));
        }
        assert_eq!(power_of_two(5, 1, |_| 0, |_| false), None);
        assert_eq!(power_of_two(0, 1, |_| 0, |_| true), None);
    }
}
