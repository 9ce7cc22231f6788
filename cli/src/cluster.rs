//! The way to a cluster: which one, and what its objects compile to.

mod world;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use thiserror::Error;

pub(crate) use world::read;

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest time without a byte of an answer.
const READ: Duration = Duration::from_secs(30);
/// Where the chart is installed by the book.
const NAMESPACE: &str = "propylon-system";

/// Which cluster, and where in it Propylon is installed.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ClusterArgs {
    /// Kubeconfig (default: that of kubectl, `KUBECONFIG` or ~/.kube/config)
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig (default: the current one)
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Namespace that Propylon is installed in (default: propylon-system)
    #[arg(short = 'n', long = "namespace", value_name = "NAME", env = "POD_NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

/// Why a cluster cannot be looked at.
#[derive(Debug, Error)]
pub(crate) enum ClusterError {
    /// There is no way to it.
    #[error("no way to a cluster: {0}; name a kubeconfig with --kubeconfig, or a context of it with --context")]
    Access(String),
    /// The operating system gives no runtime.
    #[error("cannot start a runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

impl ClusterArgs {
    /// The namespace of the installation.
    pub(crate) fn namespace(&self) -> String {
        let given = self.namespace.clone().filter(|namespace| !namespace.is_empty());
        given.unwrap_or_else(|| NAMESPACE.to_owned())
    }

    /// A client. Opens no connection yet.
    ///
    /// # Errors
    /// When there is no kubeconfig, or it names no such context. Not retryable.
    pub(crate) async fn connect(&self) -> Result<Client, ClusterError> {
        let access = |error: &dyn std::fmt::Display| ClusterError::Access(error.to_string());
        let kubeconfig = match &self.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => Kubeconfig::read(),
        };
        let options = KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig.map_err(|error| access(&error))?, &options).await;
        let mut config = config.map_err(|error| access(&error))?;
        // Whoever calls tries again by itself, where that is wanted.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(READ);
        Client::try_from(config).map_err(|error| access(&error))
    }
}

/// Runs what waits for a cluster.
///
/// # Errors
/// When the system gives no runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> Result<T, ClusterError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}
