//! `lab`: real Kubernetes for tests, on this machine.

use anyhow::Result;
use clap::{Parser, Subcommand};
use propylon_e2e::lab::Programs;

/// Real Kubernetes for tests, on this machine.
#[derive(Debug, Parser)]
#[command(name = "lab")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds etcd, Kubernetes, kubectl, Helm, CoreDNS and agnhost from Go modules into the user's cache, and prints
    /// the folder.
    Deps,
}

#[expect(clippy::print_stdout, reason = "the output of this command")]
fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Deps => println!("{}", Programs::build()?.folder().display()),
    }
    Ok(())
}
