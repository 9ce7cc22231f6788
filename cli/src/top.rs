//! `propylon top`: what the routes and endpoints of a running proxy do, live in the terminal or once for scripts.

mod draw;
mod once;
mod screen;
mod state;

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use propylon_model::duration::{DurationError, parse_duration_within};
use propylon_proxy::stats::Stats;

use crate::{
    admin_client::{self, AdminClientError},
    failure::Failure,
};

/// Flags of `propylon top`.
#[derive(Args, Clone, Debug)]
pub(crate) struct TopArgs {
    /// Admin address of the proxy to look at
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "PROPYLON_ADMIN",
        default_value = "127.0.0.1:9902"
    )]
    admin: String,
    /// Time between two looks, 100ms to 1m
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Look twice, one interval apart, print what happened in between, and end
    #[arg(long)]
    once: bool,
    /// Form of the output of --once
    #[arg(short, long, value_enum, default_value_t, requires = "once")]
    output: Output,
}

/// The forms of the output of `--once`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// JSON (docs/top.md).
    Json,
    /// Columns.
    #[default]
    Text,
}

/// Runs until the user quits, or, with `--once`, until the figures are printed.
pub(crate) fn top(args: &TopArgs) -> Result<ExitCode, Failure> {
    // A mistake in the address is told before the terminal is taken.
    let first = fetch(&args.admin)?;
    if args.once {
        return once::once(args, &first);
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::NoTerminal);
    }
    screen::run(args, first)
}

/// Gets the document of `/stats`.
fn fetch(admin: &str) -> Result<Stats, AdminClientError> {
    let body = admin_client::get(admin, PATH)?;
    serde_json::from_slice(&body).map_err(|error| AdminClientError::Unexpected {
        address: admin.to_owned(),
        path: PATH.to_owned(),
        what: format!("something else than statistics ({error})"),
    })
}

fn parse_interval(text: &str) -> Result<Duration, DurationError> {
    parse_duration_within(text, SHORTEST, LONGEST)
}

const PATH: &str = "/stats";
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
