//! The echo server of the lab's pods, and the program of their sandboxes. See `propylon_e2e::echo`.

use clap::{Parser, Subcommand};
use propylon_e2e::echo;

/// Says who it is and what it received.
#[derive(Parser)]
#[command(name = "echo", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT.
    Serve(Box<echo::Options>),
    /// Do nothing until SIGTERM or SIGINT.
    Pause,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Arguments::parse().command {
        Command::Pause => runtime.block_on(echo::pause()),
        Command::Serve(options) => runtime.block_on(echo::serve(*options)),
    }
}
