//! The way to the API server.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Longest time to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// A client with the rights of the pod's account, or of a kubeconfig.
///
/// kube's own retries are off: they may take minutes, and everything here tries again by itself, each in its time.
///
/// # Errors
/// When there is neither an account nor a kubeconfig, or it cannot be read. Not retryable.
pub(crate) async fn connect(kubeconfig: Option<&Path>) -> Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("using {}", path.display()))?
        }
        None => Config::infer()
            .await
            .context("there is no pod's account and no kubeconfig; name one with --kubeconfig")?,
    };
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    Client::try_from(config).context("making a client of the API server")
}

/// The name of the host; in a pod that is the pod's name.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
