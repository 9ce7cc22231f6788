//! Whether a token is that of a proxy: what the API server says of it, and what we make of that.

use std::collections::BTreeMap;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use propylon_wire::ProxyIdentity;
use thiserror::Error;

/// The audience of the tokens that buy certificates; the API server itself refuses them.
pub const AUDIENCE: &str = "propylon-controller";

/// Whom certificates are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The namespace of the release.
    pub namespace: String,
    /// The `ServiceAccount` of the proxies.
    pub service_account: String,
}

/// Why a token buys nothing. Not retryable with the same token, except where the API server cannot be asked.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// The API server says no.
    #[error(
        "the API server does not accept the token: {0}; it must be a projected token of the pod's own ServiceAccount with \
         audience '{AUDIENCE}' (volumes: projected: serviceAccountToken)"
    )]
    Token(String),
    /// It is meant for somebody else.
    #[error("the token is not meant for audience '{AUDIENCE}', only for {0}; set the audience of its projected volume")]
    Audience(String),
    /// It is another account's.
    #[error(
        "the token is one of {found}; certificates are for {expected} (flag --proxy-service-account of the controller)"
    )]
    Account {
        /// Whose it is.
        found: String,
        /// Whose it must be.
        expected: String,
    },
    /// It names no pod.
    #[error("the token does not say {0}; a token that a kubelet projects into a pod does, one of a Secret does not")]
    Unbound(&'static str),
    /// The API server cannot be asked.
    #[error("cannot ask the API server about the token: {0}")]
    Unavailable(String),
}

/// Asks the API server (`TokenReview`), and judges its answer.
///
/// # Errors
/// [`Refused`].
pub(super) async fn review(client: &Client, token: &str, expected: &Expected) -> Result<ProxyIdentity, Refused> {
    let question = TokenReview {
        spec: TokenReviewSpec {
            audiences: Some(vec![AUDIENCE.to_owned()]),
            token: Some(token.to_owned()),
        },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(client.clone());
    let params = PostParams::default();
    let answer = tokio::time::timeout(PATIENCE, api.create(&params, &question)).await;
    let answer = answer.map_err(|_| Refused::Unavailable("no answer in time".to_owned()))?;
    let answer = answer.map_err(|error| Refused::Unavailable(error.to_string()))?;
    judge(&answer.status.unwrap_or_default(), expected)
}

/// Who presents the token.
///
/// # Errors
/// [`Refused`].
pub fn judge(status: &TokenReviewStatus, expected: &Expected) -> Result<ProxyIdentity, Refused> {
    if status.authenticated != Some(true) {
        let error = status.error.clone().unwrap_or_else(|| "it gives no reason".to_owned());
        return Err(Refused::Token(error));
    }
    let audiences = status.audiences.as_deref().unwrap_or_default();
    // A server that knows nothing of audiences leaves them out; then the token is one for itself.
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(Refused::Audience(format!("{audiences:?}")));
    }
    let user = status.user.clone().unwrap_or_default();
    let found = user.username.unwrap_or_default();
    let account = format!(
        "system:serviceaccount:{}:{}",
        expected.namespace, expected.service_account
    );
    if found != account {
        return Err(Refused::Account {
            found,
            expected: account,
        });
    }
    let extra = user.extra.unwrap_or_default();
    let part = |name, what| claim(&extra, name).ok_or(Refused::Unbound(what));
    let pod = part("authentication.kubernetes.io/pod-name", "which pod it is of")?;
    let uid = part("authentication.kubernetes.io/pod-uid", "which pod it is of")?;
    // Kubernetes 1.30 and later say it.
    let node = part(
        "authentication.kubernetes.io/node-name",
        "which node its pod runs on (Kubernetes 1.30 and later do)",
    )?;
    let namespace = &expected.namespace;
    ProxyIdentity::from_uri(&format!("propylon://{namespace}/{pod}/{node}/{uid}"))
        .map_err(|error| Refused::Token(error.to_string()))
}

fn claim<'a>(extra: &'a BTreeMap<String, Vec<String>>, name: &str) -> Option<&'a str> {
    let values = extra.get(name)?;
    values.first().map(String::as_str).filter(|value| !value.is_empty())
}

/// How long the API server may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn expected() -> Expected {
        Expected {
            namespace: "propylon".to_owned(),
            service_account: "propylon-proxy".to_owned(),
        }
    }

    fn status() -> TokenReviewStatus {
        let extra = [("pod-name", "proxy-a"), ("pod-uid", "0b8f"), ("node-name", "node-1")];
        let extra = extra.map(|(name, value)| {
            let name = format!("authentication.kubernetes.io/{name}");
            (name, vec![value.to_owned()])
        });
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.to_owned()]),
            error: None,
            user: Some(UserInfo {
                username: Some("system:serviceaccount:propylon:propylon-proxy".to_owned()),
                extra: Some(extra.into_iter().collect()),
                ..UserInfo::default()
            }),
        }
    }

    #[test]
    fn the_token_of_a_proxy_names_its_pod() {
        let identity = judge(&status(), &expected()).unwrap();
        assert_eq!(identity.to_uri(), "propylon://propylon/proxy-a/node-1/0b8f");
    }

    #[test]
    fn everything_else_is_refused_with_what_to_do() {
        let refused = |change: fn(&mut TokenReviewStatus), words: &str| {
            let mut status = status();
            change(&mut status);
            let text = judge(&status, &expected()).unwrap_err().to_string();
            assert!(text.contains(words), "{text}");
        };
        refused(
            |status| *status = TokenReviewStatus::default(),
            "does not accept the token",
        );
        refused(
            |status| status.authenticated = Some(false),
            "audience 'propylon-controller'",
        );
        refused(|status| status.audiences = None, "not meant for audience");
        refused(
            |status| status.audiences = Some(vec!["api".to_owned()]),
            "only for [\"api\"]",
        );
        refused(
            |status| {
                status.user.as_mut().unwrap().username = Some("system:serviceaccount:shop:propylon-proxy".to_owned());
            },
            "one of system:serviceaccount:shop:propylon-proxy; certificates are for",
        );
        refused(
            |status| status.user.as_mut().unwrap().username = Some("kubernetes-admin".to_owned()),
            "--proxy-service-account",
        );
        refused(
            |status| {
                let extra = status.user.as_mut().unwrap().extra.as_mut().unwrap();
                extra.remove("authentication.kubernetes.io/pod-uid");
            },
            "which pod it is of",
        );
        refused(
            |status| {
                let extra = status.user.as_mut().unwrap().extra.as_mut().unwrap();
                extra.remove("authentication.kubernetes.io/node-name");
            },
            "which node",
        );
        refused(
            |status| {
                let extra = status.user.as_mut().unwrap().extra.as_mut().unwrap();
                let name = "authentication.kubernetes.io/pod-name".to_owned();
                extra.insert(name, vec!["a/b".to_owned()]);
            },
            "names no proxy",
        );
    }
}
