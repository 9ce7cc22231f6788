//! The process's own log: `tracing` to standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, filter::ParseError, util::TryInitError};

/// Why the log could not be set up. Neither is retryable.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("the log filter is not of the form LEVEL or TARGET=LEVEL,...")]
    Filter(#[source] ParseError),
    /// The process has a log already.
    #[error("the log is set up already")]
    Installed(#[source] TryInitError),
}

/// Writes events as text to standard error, in colour on a terminal.
///
/// `filter` is a level (`info`) or a list of `TARGET=LEVEL`, as `tracing_subscriber::EnvFilter` takes it; it is an
/// argument, never read from the environment here.
///
/// # Errors
///
/// [`TelemetryError`].
pub fn init(filter: &str) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let filter = EnvFilter::builder().parse(filter).map_err(TelemetryError::Filter)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish()
        .try_init()
        .map_err(TelemetryError::Installed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_does_not_parse_is_refused_and_only_one_log_is_installed() {
        assert!(matches!(init("propylon_kit=loud"), Err(TelemetryError::Filter(_))));
        init("warn,propylon_kit=debug").expect("the first");
        assert!(matches!(init("info"), Err(TelemetryError::Installed(_))));
    }
}
