//! `propylon-proxy`: the data plane as a process of its own, fed by the controllers' stream.
//!
//! What it is: flags with the defaults of a cluster, the order of the start (listen, last good state, stream), and the
//! probe that a kubelet runs. What it is not: it decides nothing about traffic.
//!
//! Exit codes: 0 when all went well, 1 when something failed while running, a probe does not hold, or a second signal
//! ended the process, 2 when the flags are wrong or the start failed.

mod flags;
mod prepare;
mod probe;
mod serve;

use std::{io::Write as _, process::ExitCode};

use clap::FromArgMatches as _;

use flags::{Cli, Command};

pub use flags::command;

/// Reads the flags of the process and does what they say.
pub fn main() -> ExitCode {
    let matches = command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.format(&mut command()).exit(),
    };
    match cli.command {
        Some(Command::Prepare(args)) => match prepare::prepare(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("--directory {}: {error}", args.directory.display())),
        },
        Some(Command::Probe(args)) => probe::probe(&args),
        Some(Command::Serve(args)) => finish(serve::serve(&args)),
        None => finish(serve::serve(&cli.serve)),
    }
}

fn finish(outcome: Result<ExitCode, serve::Failure>) -> ExitCode {
    outcome.unwrap_or_else(|failure| fail(&failure.to_string()))
}

fn fail(words: &str) -> ExitCode {
    // Where standard error is gone, nobody can be told.
    drop(writeln!(std::io::stderr(), "error: {words}"));
    ExitCode::from(2)
}
