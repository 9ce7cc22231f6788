//! Side-by-side benchmarks against nginx, `HAProxy` and Envoy.
//!
//! One command starts the proxies with equivalent configurations in front of one cheap backend, measures them
//! alternately and prints CPU microseconds per request with the ratio to each peer. See `docs/benchmarks.md`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures and progress are what this program prints"
)]
#![expect(
    clippy::cast_precision_loss,
    reason = "counts, ticks and nanoseconds of one run stay far below 2^52"
)]

mod args;
mod backend;
mod certs;
mod clients;
mod clock;
mod commands;
mod http;
mod lab;
mod manifests;
mod peers;
mod procs;
mod report;
mod stats;
mod tools;
mod workloads;

use clap::Parser;

fn main() -> anyhow::Result<()> {
    let cli = args::Cli::parse();
    match cli.command {
        args::Command::Backend { listen } => backend::serve(listen),
        args::Command::Load(load) => clients::run(&load),
        args::Command::Compare(options) => commands::compare::run(&options),
        args::Command::IdleMemory(options) => commands::idle::run(&options),
        args::Command::Callgrind(options) => commands::callgrind::run(&options),
        args::Command::Propagation(options) => commands::propagation::run(&options),
        args::Command::Swap(options) => commands::swap::run(&options),
        args::Command::Table => commands::table::run(),
    }
}
