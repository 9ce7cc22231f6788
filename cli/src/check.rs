//! `propylon check`: whether Propylon works in a cluster, and what to do where it does not.
//!
//! What is there is read into [`facts::Facts`]; what it means is decided by [`findings::findings`], from the facts alone.

mod cluster;
mod facts;
mod findings;
mod permissions;
mod print;
mod status;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use propylon_kit::clock;
use propylon_model::duration::parse_duration;
use thiserror::Error;

use crate::failure::Failure;
use findings::Level;

pub(crate) use status::{StatusArgs, status};

/// Flags of `propylon check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckArgs {
    /// Namespace that Propylon is installed in
    #[arg(
        short,
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "propylon-system"
    )]
    namespace: String,
    /// File that says how to reach the cluster (default: as kubectl)
    #[arg(long, value_name = "FILE", conflicts_with = "in_cluster")]
    kubeconfig: Option<PathBuf>,
    /// Its context (default: the current one)
    #[arg(long, value_name = "NAME", conflicts_with = "in_cluster")]
    context: Option<String>,
    /// Use the account of the pod that this runs in
    #[arg(long)]
    in_cluster: bool,
    /// Look again until nothing is wrong, at most so long (5m without a value)
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "5m", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// JSON, for scripts (docs/check.md).
    Json,
    /// One line each, with a hint below where there is something to do.
    #[default]
    Text,
}

/// Why nothing could be checked. Retryable once the cluster can be reached.
#[derive(Debug, Error)]
pub(crate) enum CheckError {
    /// No way to the cluster is known.
    #[error("no way to a cluster is known: {0}; give --kubeconfig FILE, or --in-cluster inside of a pod")]
    Config(String),
    /// The API server does not answer, or not to us.
    #[error("the API server cannot be asked: {0}")]
    Api(#[from] kube::Error),
}

/// Looks, and again with `--wait`; prints what was found last. Exit code 1 where something is wrong.
pub(crate) fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Failure::System {
        attempt: "start the runtime",
        source,
    })?;
    runtime.block_on(look(args))
}

async fn look(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let client = cluster::connect(args).await?;
    let deadline = args.wait.map(|wait| clock::now() + wait);
    loop {
        let is_last = deadline.is_none_or(|deadline| clock::now() >= deadline);
        let found = match cluster::read(&client, &args.namespace).await {
            Ok(facts) => findings::findings(&facts),
            // With --wait the API server may be on its way.
            Err(error) if is_last => return Err(CheckError::Api(error).into()),
            Err(_) => Vec::new(),
        };
        let is_wrong = found.is_empty() || found.iter().any(|finding| finding.level == Level::Error);
        if !is_wrong || is_last {
            print::print(&args.namespace, &found, args.output);
            return Ok(if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Time between two looks.
const AGAIN: Duration = Duration::from_secs(2);
