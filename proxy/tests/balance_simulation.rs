//! The simulation of `examples/balance_simulation`, held to bounds.

#![expect(clippy::indexing_slicing, reason = "a simulation indexes what it made itself")]

#[path = "../examples/balance_simulation/world.rs"]
mod world;

use propylon_model::Algorithm;
use world::{Plan, run};

const SEEDS: [u64; 2] = [1, 20_261_121];

#[test]
fn the_same_seed_gives_the_same_run() {
    let plan = Plan {
        endpoints: 50,
        rate_per_s: 250.0,
        faults: [3, 2, 1, 2],
        ..Plan::new(5, Algorithm::LeastRequest)
    };
    let first = run(&plan);
    assert_eq!(first, run(&plan));
    assert_ne!(first, run(&Plan { seed: 6, ..plan }));
}

/// 150 of 1,000 endpoints fail: the service must hardly notice after the first seconds, and be whole again afterwards.
#[test]
fn failures_of_some_do_not_become_failures_of_the_service() {
    for seed in SEEDS {
        let plan = Plan::new(seed, Algorithm::LeastRequest);
        let outcome = run(&plan);
        println!("seed {seed}\n{outcome}");
        let [before, onset, failing, after] = &outcome.phases;
        assert_eq!(before.errors, 0);
        assert!(failing.errors * 200 < failing.requests, "{outcome}");
        assert!(failing.p99_us < 2 * before.p99_us, "{outcome}");
        assert!(after.p99_us < before.p99_us * 3 / 2 && after.errors == 0, "{outcome}");
        assert!(onset.errors * 50 < onset.requests, "{outcome}");
        assert!((100..=500).contains(&outcome.most_ejected), "{outcome}");
        assert!(outcome.wrong_ejections * 20 <= outcome.ejections, "{outcome}");
        assert_eq!(outcome.ejected_at_end, 0, "{outcome}");
        let bare = run(&plan.without_ejection());
        assert_eq!(bare.ejections, 0);
        assert!(bare.phases[2].errors > 4 * failing.errors, "{bare}");
    }
}

#[test]
fn never_more_than_half_are_left_out_even_where_all_fail() {
    let plan = Plan {
        faults: [400, 300, 100, 100],
        times_s: (5, 15, 20),
        ..Plan::new(3, Algorithm::LeastRequest)
    };
    let outcome = run(&plan);
    println!("{outcome}");
    assert_eq!(outcome.most_ejected, 500, "{outcome}");
}

#[test]
fn two_choices_beat_turns_and_moving_averages_avoid_what_is_slow() {
    // One worker: each counts only the requests in flight of its own.
    let plan = |algorithm| Plan {
        workers: 1,
        rate_per_s: 6_000.0,
        faults: [0, 0, 0, 100],
        times_s: (5, 15, 30),
        ..Plan::new(9, algorithm)
    };
    let p99 = |algorithm| {
        run(&plan(algorithm).without_ejection())
            .phases
            .map(|phase| phase.p99_us)
    };
    let [two, ewma, turns] = [Algorithm::LeastRequest, Algorithm::Ewma, Algorithm::RoundRobin].map(p99);
    println!("p99 us by phase: two choices {two:?}, ewma {ewma:?}, round robin {turns:?}");
    assert!(two[0] < turns[0], "all are well");
    assert!(2 * two[1] < turns[1], "a tenth gets 20 times slower");
    assert!(2 * ewma[2] < two[2], "a tenth is 20 times slower");
}
