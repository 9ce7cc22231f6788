//! `propylon-proxy serve`: listen, the last good state, the stream, and the end.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    process::ExitCode,
    sync::Arc,
};

use propylon_kit::telemetry::{self, Form, TelemetryError};
use thiserror::Error;

use super::flags::{Given, LogForm, ServeArgs};
use crate::{
    ProxyHandle, StartError,
    config::{Config, ConfigError, Opening},
    process::{Signals, Spans, raise_file_limit},
};

/// Why the process did not start; the message says what to change.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The flags are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log cannot be set up.
    #[error("--log: {0}")]
    Log(#[source] TelemetryError),
    /// The data plane does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system refuses something.
    #[error("cannot {attempt}: {source}")]
    System {
        /// What was tried.
        attempt: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Serves until a signal ends it.
pub(super) fn serve(args: ServeArgs, given: &Given) -> Result<ExitCode, Failure> {
    let form = args.log_format.map_or_else(Form::of_stderr, |form| match form {
        LogForm::Json => Form::Json,
        LogForm::Text => Form::Text,
    });
    telemetry::init_as(&args.log, form).map_err(Failure::Log)?;
    let config = configure(&args, given)?;
    let spans = Spans {
        grace: config.drain_accept_grace,
        linger: config.takeover_linger,
    };
    // Before the first thread, so that a signal during the start is not lost.
    let signals = Signals::listen().map_err(|source| Failure::System {
        attempt: "catch signals",
        source,
    })?;
    let proxy = Arc::new(crate::start(config)?);
    proxy.set_started();
    log_addresses(&proxy);
    Ok(signals.serve(&proxy, spans, || {}))
}

/// The configuration of the data plane, with what only a cluster knows.
fn configure(args: &ServeArgs, given: &Given) -> Result<Config, Failure> {
    let mut flags = args.data_plane.clone();
    if !has_ipv6() {
        for (list, given) in [(&mut flags.http, given.http), (&mut flags.https, given.https)] {
            if !given {
                list.retain(|address| !address.starts_with('['));
            }
        }
    }
    if flags.status.is_none() {
        let address = args.host_ip.or(args.pod_ip);
        flags.status = address.map(|address| SocketAddr::new(address, STATUS_PORT).to_string());
    }
    let mut config = flags.into_config(raise_file_limit())?;
    config.opening = Opening::WhenTold;
    Ok(config)
}

/// Whether the machine speaks IPv6 at all; the default listeners keep to IPv4 where it does not.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

fn log_addresses(proxy: &ProxyHandle) {
    let addresses = proxy.addresses();
    for address in &addresses.http {
        tracing::info!(%address, "listening for HTTP");
    }
    for address in &addresses.https {
        tracing::info!(%address, "listening for HTTPS");
    }
    if let Some(address) = addresses.admin {
        tracing::info!(%address, "admin listener");
    }
}

const STATUS_PORT: u16 = 8081;
