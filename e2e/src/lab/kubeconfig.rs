//! Kubeconfigs with everything inside, so that they can be handed to a program, a pod or a client of `kube`.

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

/// Who speaks to the API server.
#[derive(Clone)]
pub enum Credential {
    /// A client certificate (PEM).
    Certificate {
        /// The certificate.
        certificate_pem: String,
        /// Its key.
        key_pem: String,
    },
    /// A bearer token, such as a service account's.
    Token(String),
}

/// A kubeconfig as JSON (which every reader of kubeconfigs takes) for the server at `url`.
pub fn kubeconfig(url: &str, authority_pem: &str, credential: &Credential) -> Value {
    let user = match credential {
        Credential::Certificate {
            certificate_pem,
            key_pem,
        } => json!({
            "client-certificate-data": STANDARD.encode(certificate_pem),
            "client-key-data": STANDARD.encode(key_pem),
        }),
        Credential::Token(token) => json!({ "token": token }),
    };
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "lab",
            "cluster": {"server": url, "certificate-authority-data": STANDARD.encode(authority_pem)},
        }],
        "users": [{"name": "lab", "user": user}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "current-context": "lab",
    })
}

/// The configuration of a client of `kube` from such a kubeconfig.
pub(super) fn client_config(kubeconfig: &Value) -> Result<kube::Config> {
    let parsed: Kubeconfig = serde_json::from_value(kubeconfig.clone()).context("reading a kubeconfig of ours")?;
    // Nothing waits in there: the only exchange would be with a credential plugin, and there is none. A thread of its
    // own, since the caller may be inside of a runtime.
    let read = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .context("making a runtime")?;
        let options = KubeConfigOptions::default();
        let config = runtime.block_on(kube::Config::from_custom_kubeconfig(parsed, &options));
        config.context("reading a kubeconfig of ours")
    };
    std::thread::scope(|scope| scope.spawn(read).join())
        .map_err(|_| anyhow::anyhow!("reading a kubeconfig panicked"))?
}
