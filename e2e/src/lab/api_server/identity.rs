//! Namespaces of tests, and clients that may do what a service account or a user may.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};
use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Namespace, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, api::PostParams};
use serde_json::Value;

use super::ApiServer;
use crate::lab::kubeconfig::{Credential, client_config, kubeconfig};

static NEXT: AtomicU32 = AtomicU32::new(1);

/// Somebody who speaks to the API server, in both forms in which that is needed.
#[derive(Clone, Debug)]
pub struct Identity {
    /// For clients in the test.
    pub config: kube::Config,
    /// For programs. The file goes with the server.
    pub kubeconfig: PathBuf,
}

impl Identity {
    /// A client with these rights, on the runtime that calls.
    ///
    /// # Panics
    /// Outside of a runtime.
    pub fn client(&self) -> kube::Client {
        super::client(self.config.clone())
    }
}

impl ApiServer {
    /// Makes a namespace `PREFIX-N` that no other test of this server has, and says its name.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let created = Api::<Namespace>::all(self.client())
            .create(&PostParams::default(), &namespace)
            .await;
        created.with_context(|| format!("making the namespace {name}"))?;
        Ok(name)
    }

    /// Who holds a token of a service account that exists: exactly the rights that RBAC gives it.
    ///
    /// # Errors
    /// When there is no such service account.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Identity> {
        let token = self.token(namespace, name, &[]).await?;
        self.identity(&format!("{namespace}-{name}"), &Credential::Token(token))
    }

    /// A token of a service account, good for an hour, for these audiences (none: the API server itself).
    ///
    /// # Errors
    /// When there is no such service account.
    pub async fn token(&self, namespace: &str, name: &str, audiences: &[&str]) -> Result<String> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(self.client(), namespace);
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await;
        let answer = answer.with_context(|| format!("asking for a token of {namespace}/{name}"))?;
        Ok(answer.status.context("the API server gave no token")?.token)
    }

    /// A user with a certificate, in one group (`system:authenticated` comes by itself).
    ///
    /// # Errors
    /// When the certificate cannot be made.
    pub fn user(&self, name: &str, group: Option<&str>) -> Result<Identity> {
        self.identity(
            &format!("user-{}", name.replace(['/', ':'], "-")),
            &self.pki.client(name, group)?,
        )
    }

    fn identity(&self, file: &str, credential: &Credential) -> Result<Identity> {
        let value: Value = kubeconfig(&self.url(), &self.pki.authority_pem(), credential);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self.pki.path(&format!("{file}-{number}.kubeconfig"));
        fs::write(&path, value.to_string()).with_context(|| format!("writing {}", path.display()))?;
        Ok(Identity {
            config: client_config(&value)?,
            kubeconfig: path,
        })
    }
}
