//! The process's own log: `tracing` to standard error.

mod json;

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

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON object a line: `timestamp`, `level`, `target`, `message`, and the event's own fields.
    Json,
    /// Text for people, in colour on a terminal.
    Text,
}

impl Form {
    /// Text on a terminal, JSON elsewhere: for processes whose log a collector reads.
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// Writes events as text to standard error, in colour on a terminal; see [`init_as`].
///
/// # Errors
///
/// [`TelemetryError`].
pub fn init(filter: &str) -> Result<(), TelemetryError> {
    init_as(filter, Form::Text)
}

/// Writes events to standard error.
///
/// `filter` is a level (`info`) or a list of `TARGET=LEVEL`, as `tracing_subscriber::EnvFilter` takes it; it is an
/// argument, never read from the environment here.
///
/// # Errors
///
/// [`TelemetryError`].
pub fn init_as(filter: &str, form: Form) -> Result<(), TelemetryError> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let filter = EnvFilter::builder().parse(filter).map_err(TelemetryError::Filter)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match form {
        Form::Json => builder.event_format(json::JsonLines).finish().try_init(),
        Form::Text => builder.with_ansi(std::io::stderr().is_terminal()).finish().try_init(),
    };
    installed.map_err(TelemetryError::Installed)
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
