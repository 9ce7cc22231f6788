//! `propylon-proxy serve`: listen, the last good state, the stream, and the end.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use propylon_kit::telemetry::{self, Form, TelemetryError};
use propylon_model::{Delta, Resources};
use propylon_wire::{
    Mirror,
    snapshot::{self, SnapshotError},
};
use rustls_pki_types::ServerName;
use thiserror::Error;

use super::flags::{LogForm, ServeArgs};
use crate::{
    ProxyHandle, StartError,
    config::{Config, ConfigError, Opening},
    credential::{Files, Keeper},
    link::Link,
    process::{Signals, Spans, raise_file_limit},
    stream,
};

/// Why the process did not start; the message says what to change.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// The flags are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A controller's address has no host or no port.
    #[error("--controller '{0}' is no address; write HOST:PORT, such as propylon-controller.propylon.svc:7443")]
    Controller(String),
    /// The name of the controllers is none.
    #[error("--controller-name '{0}' is no DNS name")]
    ControllerName(String),
    /// The log cannot be set up.
    #[error("--log: {0}")]
    Log(#[source] TelemetryError),
    /// Nobody says where the controllers are.
    #[error(
        "there is no namespace; give --pod-namespace (POD_NAMESPACE by the downward API), or --controller-name and --controller"
    )]
    NoNamespace,
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
pub(super) fn serve(args: &ServeArgs) -> Result<ExitCode, Failure> {
    let form = args.log_format.map_or_else(Form::of_stderr, |form| match form {
        LogForm::Json => Form::Json,
        LogForm::Text => Form::Text,
    });
    telemetry::init_as(&args.log, form).map_err(Failure::Log)?;
    let keeper = keeper(args)?;
    let config = configure(args)?;
    let spans = Spans {
        grace: config.drain_accept_grace,
        linger: config.takeover_linger,
    };
    // Before the first thread, so that a signal during the start is not lost.
    let mut signals = Signals::listen().map_err(system("catch signals"))?;
    let proxy = Arc::new(crate::start(config)?);
    proxy.set_started();
    log_addresses(&proxy);
    let snapshot = args.snapshot.as_deref().and_then(|path| restore(path, &proxy));
    let is_restored = snapshot.is_some();
    let parts = stream::Parts {
        proxy: Arc::clone(&proxy),
        keeper,
        mirror: snapshot.unwrap_or_default(),
        snapshot: args.snapshot.clone(),
    };
    let (running, first) = stream::spawn(parts).map_err(system("start a thread"))?;
    if !is_restored {
        tracing::info!("waiting for the first state of a controller");
        // Where its thread is gone, only a signal ends the wait: the kubelet looks after it by the probes.
        let first = async {
            if first.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        if let Err(ending) = signals.until(&proxy, first) {
            // Nothing was accepted, so nothing is waited for.
            let spans = Spans {
                grace: Duration::ZERO,
                ..spans
            };
            return Ok(signals.finish(&proxy, Some(ending), spans, || running.stop()));
        }
    }
    proxy.take_over()?;
    tracing::info!("serving");
    Ok(signals.serve(&proxy, spans, || running.stop()))
}

/// Brings the last good state of the process before to life; none where there is none, or none that can be read.
fn restore(path: &Path, proxy: &ProxyHandle) -> Option<Mirror> {
    let mirror = match snapshot::read(path) {
        Ok(mirror) => mirror,
        Err(SnapshotError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "no last good state; waiting for a controller");
            return None;
        }
    };
    proxy.apply(&Delta::between(&Resources::default(), mirror.resources()));
    tracing::info!(path = %path.display(), "serving the last good state of the process before");
    Some(mirror)
}

/// Who this proxy is to the controllers, and where they are.
fn keeper(args: &ServeArgs) -> Result<Keeper, Failure> {
    let namespace = args.pod_namespace.as_deref();
    let name = match (&args.controller_name, namespace) {
        (Some(name), _) => name.clone(),
        (None, Some(namespace)) => format!("propylon-controller.{namespace}.svc"),
        (None, None) => return Err(Failure::NoNamespace),
    };
    let server_name = ServerName::try_from(name.clone()).map_err(|_| Failure::ControllerName(name.clone()))?;
    let mut controllers = args.controller.clone();
    if controllers.is_empty() {
        controllers.push(format!("{name}:{STREAM_PORT}"));
    }
    if let Some(bad) = controllers.iter().find(|place| !is_place(place)) {
        return Err(Failure::Controller(bad.clone()));
    }
    let store = args.credential.clone();
    let beside = || args.snapshot.as_ref().map(|path| path.with_file_name("credential"));
    let files = Files {
        token: args.token_file.clone(),
        store: store.or_else(beside),
    };
    let link = Link {
        controllers,
        server_name,
        trust_file: args.trust_file.clone(),
    };
    Ok(Keeper::new(
        link,
        files,
        args.data_plane.node.clone().unwrap_or_default(),
    ))
}

/// Whether it has a host and a port.
fn is_place(place: &str) -> bool {
    let parts = place.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
}

/// The configuration of the data plane, with what only a cluster knows.
fn configure(args: &ServeArgs) -> Result<Config, Failure> {
    let mut flags = args.data_plane.clone();
    if !has_ipv6() {
        for list in [&mut flags.http, &mut flags.https] {
            list.retain(|address| {
                let keeps = !address.starts_with("[::]:");
                if !keeps {
                    tracing::info!(%address, "this machine has no IPv6; not listening there");
                }
                keeps
            });
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

/// Whether the machine speaks IPv6 at all.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

fn system(attempt: &'static str) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::System { attempt, source }
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
const STREAM_PORT: u16 = 7443;
