//! Why a command ended without doing its work.

use std::{io, process::ExitCode};

use thiserror::Error;

use crate::folder::FolderError;

/// Why a command failed; the message goes to standard error behind `error: `.
#[derive(Debug, Error)]
pub(crate) enum Failure {
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
    /// The folder cannot be served.
    #[error(transparent)]
    Folder(#[from] FolderError),
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
