//! The probability of each endpoint to be picked next, for `explain`: exact, by the same rules that pick.

use propylon_model::Algorithm;

use super::{
    ewma::PeakEwma,
    two_choices::{Load, keep},
};

/// What is known of an endpoint that may be picked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Requests in flight and weight.
    pub load: Load,
    /// Moving average of its latency; used by [`Algorithm::Ewma`] only.
    pub latency: PeakEwma,
    /// How far it is through its slow start, up to 1.
    pub warmth: f32,
}

impl Candidate {
    /// An idle endpoint with a weight, past its slow start.
    pub const fn idle(weight: u16) -> Self {
        Self {
            load: Load { active: 0, weight },
            latency: PeakEwma::NEW,
            warmth: 1.0,
        }
    }
}

/// For each candidate, in their order, the probability that the next request goes there; they add up to 1.
///
/// The candidates are those that may be picked at all. Round robin is given over a whole round, Maglev for a client of
/// which nothing is known (see [`super::maglev::Maglev::find`] for one that is): by weight, both. `now_us` is of the clock
/// that the averages were taken by.
///
/// # Cost
/// Quadratic where two are drawn, else linear.
pub fn chances(algorithm: Algorithm, candidates: &[Candidate], now_us: u64) -> Vec<f64> {
    match algorithm {
        Algorithm::LeastRequest => of_two(candidates, |challenger, incumbent| {
            challenger.load.beats(incumbent.load)
        }),
        Algorithm::Ewma => {
            let heaviest = candidates.iter().map(|one| one.load.weight).max().unwrap_or(1);
            let cost = |one: &Candidate| {
                let share = f32::from(one.load.weight.max(1)) / f32::from(heaviest.max(1));
                one.latency.cost(one.load.active, share, now_us)
            };
            of_two(candidates, |challenger, incumbent| cost(challenger) < cost(incumbent))
        }
        Algorithm::RoundRobin => {
            let shares = candidates
                .iter()
                .map(|one| f64::from(one.load.weight.max(1)) * f64::from(one.warmth));
            normalised(shares)
        }
        Algorithm::Maglev => normalised(candidates.iter().map(|one| f64::from(one.load.weight.max(1)))),
    }
}

fn normalised(shares: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let total: f64 = shares.clone().sum();
    shares.map(|share| share / total).collect()
}

/// Every ordered pair with its probability, and where it leads.
fn of_two(candidates: &[Candidate], beats: impl Fn(&Candidate, &Candidate) -> bool) -> Vec<f64> {
    let weight = |one: &Candidate| f64::from(one.load.weight.max(1));
    let total: f64 = candidates.iter().map(weight).sum();
    let mut chances = vec![0.0; candidates.len()];
    if let [one] = chances.as_mut_slice() {
        *one = 1.0;
        return chances;
    }
    for (first, incumbent) in candidates.iter().enumerate() {
        let drawn = weight(incumbent) / total / (total - weight(incumbent));
        for (second, challenger) in candidates.iter().enumerate() {
            if first == second {
                continue;
            }
            let pair = drawn * weight(challenger);
            let (winner, loser, kept) = if beats(challenger, incumbent) {
                (second, first, keep(challenger.warmth, incumbent.warmth))
            } else {
                (first, second, keep(incumbent.warmth, challenger.warmth))
            };
            for (index, part) in [(winner, kept), (loser, 1.0 - kept)] {
                if let Some(chance) = chances.get_mut(index) {
                    *chance += pair * part;
                }
            }
        }
    }
    chances
}
