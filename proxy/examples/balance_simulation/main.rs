//! Prints what each algorithm makes of a thousand endpoints some of which fail for a while:
//! `cargo run --release -p propylon-proxy --example balance_simulation [SEED]`.

#![expect(clippy::print_stdout, reason = "that is what it is for")]
#![expect(clippy::indexing_slicing, reason = "a simulation indexes what it made itself")]

mod world;

use propylon_model::Algorithm;
use world::{Plan, run};

fn main() {
    let seed = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    println!("seed {seed}: {:?}", Plan::new(seed, Algorithm::LeastRequest));
    for algorithm in [
        Algorithm::LeastRequest,
        Algorithm::Ewma,
        Algorithm::RoundRobin,
        Algorithm::Maglev,
    ] {
        let plan = Plan::new(seed, algorithm);
        println!("{algorithm:?}, without ejection\n{}", run(&plan.without_ejection()));
        println!("{algorithm:?}, with ejection\n{}", run(&plan));
    }
}
