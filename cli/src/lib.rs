//! `propylon`: a folder of manifests served without a cluster.
//!
//! What it is: the shell around `translate` (manifests to the IR) and the data plane of `propylon-proxy`. What it is
//! not: it decides nothing about traffic. The binary is one call of [`main`]; start from the module `run`.
//!
//! Exit codes: 0 when all went well, 1 when a report of `--once` is an error, `check` found something wrong, `lint` found something, `explain
//! --diff` found a difference or something failed while running, 2 when the flags are wrong or the start failed.

mod admin_client;
mod check;
mod cluster;
mod compiler;
mod demo;
mod explain;
mod failure;
mod folder;
mod lint;
mod local;
mod printer;
mod run;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Ingress proxy: standard Kubernetes manifests in, traffic served.
#[derive(Parser)]
#[command(name = "propylon", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check whether Propylon works in a cluster, and say what to do where it does not
    Check(check::CheckArgs),
    /// Try it: the proxy, two echo backends and a few manifests, in one process
    Demo(demo::DemoArgs),
    /// What happens to one request and why, or what a change of manifests changes
    Explain(Box<explain::ExplainArgs>),
    /// Check a folder of manifests, or those on standard input, without serving them
    Lint(lint::LintArgs),
    /// Serve a folder of manifests, and follow its changes
    Run(run::RunArgs),
    /// Show what is installed in a cluster and what it serves, or what a folder holds
    Status(check::StatusArgs),
    /// Show what the routes and endpoints of a running proxy do, live
    Top(top::TopArgs),
}

/// The commands and their flags, for the generated reference.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Reads the flags of the process and does what they say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Check(args) => check::check(&args),
        Command::Demo(args) => demo::demo(args),
        Command::Explain(args) => explain::explain(*args),
        Command::Lint(args) => lint::lint(args),
        Command::Run(args) => run::run(args),
        Command::Status(args) => check::status(&args),
        Command::Top(args) => top::top(&args),
    };
    outcome.unwrap_or_else(|failure| {
        printer::line(&format!("error: {failure}"));
        failure::Failure::exit_code()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_has_its_environment_variable() {
        let command = command();
        let run = command.find_subcommand("run").unwrap();
        for argument in run
            .get_arguments()
            .filter(|argument| !matches!(argument.get_id().as_str(), "help" | "version"))
        {
            let flag = argument.get_long().unwrap();
            let expected = format!("PROPYLON_{}", flag.to_uppercase().replace('-', "_"));
            assert_eq!(
                argument.get_env().and_then(|name| name.to_str()),
                Some(expected.as_str()),
                "--{flag}"
            );
        }
    }
}
