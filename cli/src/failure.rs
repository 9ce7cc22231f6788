//! Why a command ended without doing its work.

use std::{io, process::ExitCode};

use thiserror::Error;

use crate::{admin_client::AdminClientError, folder::FolderError};

/// Why a command failed; the message goes to standard error behind `error: `.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The admin listener of a proxy gives no answer.
    #[error(transparent)]
    Admin(#[from] AdminClientError),
    /// The cluster cannot be checked.
    #[error(transparent)]
    Check(#[from] crate::check::CheckError),
    /// There is no way to a cluster.
    #[error(transparent)]
    Cluster(#[from] crate::cluster::ClusterError),
    /// The flags make no configuration.
    #[error(transparent)]
    Config(#[from] propylon_proxy::config::ConfigError),
    /// The demo cannot prepare its files and backends.
    #[error("the demo cannot {attempt}: {source}")]
    Demo {
        /// What it tried.
        attempt: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Nothing could be explained.
    #[error(transparent)]
    Explain(#[from] crate::explain::ExplainError),
    /// The folder cannot be served.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A table that lives in a terminal has none.
    #[error(
        "standard input and output are no terminal; `propylon top --once` prints the figures once, with `-o json` for scripts"
    )]
    NoTerminal,
    /// The proxy started again between two looks; another try may do.
    #[error("the proxy at {0} started again between the two looks; try again")]
    Restarted(String),
    /// The data plane does not start.
    #[error(transparent)]
    Start(#[from] propylon_proxy::StartError),
    /// The operating system refuses something that every start needs.
    #[error("cannot {attempt}: {source}")]
    System {
        /// What was tried.
        attempt: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Failure {
    /// All of these happen before anything is served.
    pub(crate) fn exit_code() -> ExitCode {
        ExitCode::from(2)
    }
}
