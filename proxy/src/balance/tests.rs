//! Each algorithm against its own probabilities: chi-square at 0.1 %, with seeds.

use std::cell::Cell;

use propylon_model::Algorithm;

use super::{
    chances::{Candidate, chances},
    ewma::PeakEwma,
    power_of_two, round_robin,
    slow_start::warmth,
    statistics::{chi_square, critical},
    two_choices::{Load, Pair, Shares, of_two, warm_contest},
};

const DRAWS: u32 = 200_000;
const SEEDS: [u64; 4] = [1, 7, 42, 1_000_003];

/// Counts of draws follow the probabilities.
fn follows(counts: &[u64], chances: &[f64]) {
    let total: f64 = chances.iter().sum();
    assert!((total - 1.0).abs() < 1e-9, "chances add up to {total}");
    let impossible = counts
        .iter()
        .zip(chances)
        .any(|(count, chance)| *chance <= 0.0 && *count > 0);
    let (counts, expected): (Vec<u64>, Vec<f64>) = counts
        .iter()
        .zip(chances)
        .filter(|(_, chance)| **chance > 0.0)
        .map(|(count, chance)| (*count, chance * f64::from(DRAWS)))
        .unzip();
    let degrees = u32::try_from(expected.len() - 1).unwrap();
    let chi = chi_square(&counts, &expected);
    assert!(
        !impossible && (degrees == 0 || chi <= critical(degrees)),
        "chi-square {chi}, {degrees} degrees: {counts:?} {expected:?}"
    );
}

fn draw(count: usize, seed: u64, mut pick: impl FnMut(&mut fastrand::Rng) -> usize) -> Vec<u64> {
    let mut counts = vec![0; count];
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..DRAWS {
        counts[pick(&mut random)] += 1;
    }
    counts
}

fn loaded(loads: &[(u32, u16)]) -> Vec<Candidate> {
    loads
        .iter()
        .map(|(active, weight)| Candidate {
            load: Load {
                active: *active,
                weight: *weight,
            },
            ..Candidate::idle(1)
        })
        .collect()
}

#[test]
fn plain_two_choices_follow_their_chances() {
    for loads in [
        [0_u32; 10],
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [3, 0, 3, 0, 3, 0, 3, 0, 3, 0],
    ] {
        let candidates = loaded(&loads.map(|active| (active, 1)));
        let wanted = chances(Algorithm::LeastRequest, &candidates, 0);
        for seed in SEEDS {
            let counts = draw(10, seed, |random| {
                power_of_two(10, random.u64(..), |index| loads[index], |_| true).unwrap()
            });
            follows(&counts, &wanted);
        }
    }
}

fn weighted(candidates: &[Candidate], seed: u64, now_us: u64, algorithm: Algorithm) -> Vec<u64> {
    let shares = Shares::new(candidates.iter().map(|one| one.load.weight));
    let heaviest = f32::from(candidates.iter().map(|one| one.load.weight).max().unwrap());
    let cost = |index: usize| {
        let one = &candidates[index];
        one.latency
            .cost(one.load.active, f32::from(one.load.weight) / heaviest, now_us)
    };
    draw(candidates.len(), seed, |random| {
        let pair = shares.draw(random.u64(..)).unwrap();
        let beats = |challenger: usize, incumbent: usize| match algorithm {
            Algorithm::Ewma => cost(challenger) < cost(incumbent),
            _ => candidates[challenger].load.beats(candidates[incumbent].load),
        };
        let dice = random.u32(..);
        of_two(
            pair,
            candidates.len(),
            |_| true,
            |pair| warm_contest(pair, dice, beats, |index| candidates[index].warmth),
        )
        .unwrap()
    })
}

#[test]
fn weighted_two_choices_follow_their_chances() {
    let lists: [&[(u32, u16)]; 4] = [
        &[(0, 1), (0, 2), (0, 3), (0, 10)],
        &[(4, 1), (4, 2), (4, 3), (40, 10), (0, 1)],
        &[(0, 1), (0, 65_535)],
        &[(7, 5)],
    ];
    for candidates in lists.map(loaded) {
        let wanted = chances(Algorithm::LeastRequest, &candidates, 0);
        for seed in SEEDS {
            follows(&weighted(&candidates, seed, 0, Algorithm::LeastRequest), &wanted);
        }
    }
}

#[test]
fn idle_endpoints_are_taken_by_weight_alone() {
    let candidates = loaded(&[(0, 1), (0, 4), (0, 5)]);
    let wanted = [0.1, 0.4, 0.5];
    let exact = chances(Algorithm::LeastRequest, &candidates, 0);
    assert!(
        exact.iter().zip(wanted).all(|(one, other)| (one - other).abs() < 1e-9),
        "{exact:?}"
    );
    for seed in SEEDS {
        follows(&weighted(&candidates, seed, 0, Algorithm::LeastRequest), &wanted);
    }
}

#[test]
fn requests_in_flight_settle_by_weight() {
    let weights = [1_u16, 2, 5];
    let shares = Shares::new(weights);
    let mut random = fastrand::Rng::with_seed(11);
    let mut active = [0_u32; 3];
    for _ in 0..8_000 {
        let pair = shares.draw(random.u64(..)).unwrap();
        let load = |index: usize| Load {
            active: active[index],
            weight: weights[index],
        };
        let taken = if load(pair.second).beats(load(pair.first)) {
            pair.second
        } else {
            pair.first
        };
        active[taken] += 1;
    }
    assert!((980..=1_020).contains(&active[0]), "{active:?}");
    assert!((1_960..=2_040).contains(&active[1]), "{active:?}");
}

#[test]
fn ewma_follows_its_chances_and_prefers_the_faster() {
    let latencies_us = [1_000_u64, 2_000, 4_000, 8_000, 100_000];
    let mut candidates = loaded(&[(1, 1), (1, 1), (0, 2), (3, 1), (0, 1)]);
    for (candidate, latency_us) in candidates.iter_mut().zip(latencies_us) {
        candidate.latency.observe(latency_us, 1_000);
    }
    let wanted = chances(Algorithm::Ewma, &candidates, 2_000);
    assert!(wanted[0] > wanted[4] && wanted[4] < 1e-9, "{wanted:?}");
    for seed in SEEDS {
        follows(&weighted(&candidates, seed, 2_000, Algorithm::Ewma), &wanted);
    }
    assert_eq!(candidates[0].latency, {
        let mut fresh = PeakEwma::default();
        fresh.observe(1_000, 1_000);
        fresh
    });
}

#[test]
fn a_cold_endpoint_gets_its_part_of_a_share() {
    let mut candidates = loaded(&[(0, 1); 10]);
    candidates[3].warmth = warmth(2_500, 10_000);
    let wanted = chances(Algorithm::LeastRequest, &candidates, 0);
    // Of its fifth of all pairs it won half, and keeps a quarter of those.
    assert!((wanted[3] - 0.1 * 0.25).abs() < 1e-9, "{wanted:?}");
    for seed in SEEDS {
        follows(&weighted(&candidates, seed, 0, Algorithm::LeastRequest), &wanted);
    }
}

#[test]
fn round_robin_is_exact_over_a_round() {
    let mut candidates = loaded(&[(0, 1), (0, 2), (0, 7)]);
    candidates[2].warmth = 0.5;
    let wanted = chances(Algorithm::RoundRobin, &candidates, 0);
    let credits = [const { Cell::new(0_i64) }; 3];
    let shares = [1_000_u32, 2_000, 3_500];
    let mut counts = [0_u32; 3];
    for _ in 0..6_500 {
        counts[round_robin::smooth(3, |index| shares[index], |index| credits.get(index)).unwrap()] += 1;
    }
    assert_eq!(counts, shares);
    for (chance, count) in wanted.iter().zip(counts) {
        assert!((chance - f64::from(count) / 6_500.0).abs() < 1e-6, "{wanted:?}");
    }
}

#[test]
fn the_less_loaded_of_two_is_taken() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..1_000 {
        let taken = power_of_two(2, random.u64(..), |index| [5, 1][index], |_| true);
        assert_eq!(taken, Some(1));
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

#[test]
fn pairs_are_of_two() {
    let mut random = fastrand::Rng::with_seed(5);
    let shares = Shares::new([1, 1, 1_000]);
    for _ in 0..10_000 {
        let pair = shares.draw(random.u64(..)).unwrap();
        assert_ne!(pair.first, pair.second);
        assert_ne!(Pair::uniform(7, random.u64(..)).first, 7);
    }
    assert_eq!(Shares::default().draw(1), None);
    assert_eq!(Shares::new([3]).draw(u64::MAX), Some(Pair { first: 0, second: 0 }));
}
