//! Real Kubernetes for tests: an API server alone on loopback ([`ApiServer`]), or several nodes with real kubelets
//! ([`Cluster`]).
//!
//! Everything is built from Go modules by `lab deps` ([`Programs`]); nothing is downloaded as a binary. An [`ApiServer`]
//! ends with the process that started it, however that ends; a [`Cluster`] stays until it is brought down.

mod api_server;
mod cluster;
mod daemon;
mod kubeconfig;
mod pki;
mod programs;
mod release;

pub use api_server::{ApiServer, Identity, Options, Part, Store};
pub use cluster::{Cluster, DEFAULT_NAME, Dataplane, Node, Plan, Progress};
pub use kubeconfig::{Credential, kubeconfig};
pub use pki::{Files, Pki};
pub use programs::Programs;
pub use release::{Release, Running};

/// The version of the Kubernetes that is built, as `1.36.3`: what `e2e/go/kube/go.mod` requires.
///
/// # Errors
/// When that file cannot be read or names no version.
pub fn kubernetes_version() -> anyhow::Result<String> {
    programs::kubernetes_version()
}
