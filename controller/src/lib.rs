//! The controller: Kubernetes objects in; what the proxies are to do, status and Events out.
//!
//! What it is: the shell around `translate` in a cluster. The watches ([`watch`]) bring objects, the compile loop
//! ([`compile`]) makes of them what the proxies get over the stream (`propylon_wire`). All replicas do that; one is elected
//! ([`leader`]) to write what is one for the whole cluster.
//!
//! What it is not: it decides nothing about traffic, and no request passes through it; the proxies go on without it.
//!
//! Start from [`run`]; every duty works with a [`context::Context`].

pub mod addresses;
pub mod compile;
pub mod config;
pub mod context;
pub mod events;
pub mod identity;
pub mod leader;
pub mod live;
mod metrics;
pub mod replica;
pub mod run;
mod seen;
pub mod status;
mod stream;
pub mod uninstall;
pub mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::ControllerArgs;
use uninstall::UninstallArgs;

/// Propylon's controller: watches Kubernetes, tells the proxies what to do, writes status.
#[derive(Parser)]
#[command(name = "propylon-controller", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    args: ControllerArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Stop the controller and take back what it wrote into other objects; the chart's pre-delete hook
    Uninstall(UninstallArgs),
}

/// The command and its flags, for the generated reference.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Reads the flags of the process and does what they say. Exit code 0 when all went well, 1 when something failed, 2 when the
/// flags are wrong.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Uninstall(args)) => uninstall::main(&args),
        None => run::main(cli.args.into_config(&run::host_name())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
