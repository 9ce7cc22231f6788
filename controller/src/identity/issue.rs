//! Certificates for proxies: bought with a token, renewed with a token or, while the API server is away, with the present
//! certificate.

use std::sync::Arc;

use kube::Client;
use propylon_kit::clock;
use propylon_wire::{IssueError, IssueRequest, IssueResponse, Issuer, Peer, ProxyIdentity, identity::IssueFuture};

use super::{
    Shared,
    authority::ProxyKey,
    review::{Refused, review},
};

/// Answers `propylon.v1.Identity/Issue`.
pub(super) struct ProxyIssuer {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Client,
}

impl Issuer for ProxyIssuer {
    fn issue<'a>(&'a self, peer: &'a Peer, request: IssueRequest) -> IssueFuture<'a> {
        Box::pin(async move {
            let outcome = self.answer(peer, &request).await;
            match &outcome {
                Ok((proxy, way, _)) => tracing::info!(%proxy, node = %proxy.node, way, "certificate issued"),
                Err(error) => tracing::warn!(%error, ?peer, "no certificate issued"),
            }
            outcome.map(|(_, _, response)| response)
        })
    }
}

impl ProxyIssuer {
    async fn answer(
        &self,
        peer: &Peer,
        request: &IssueRequest,
    ) -> Result<(ProxyIdentity, &'static str, IssueResponse), IssueError> {
        let key = ProxyKey::of_request(&request.csr_der).map_err(IssueError::Invalid)?;
        let asked = match request.token.as_str() {
            "" => Err(Refused::Token("there is none in the request".to_owned())),
            token => review(&self.client, token, &self.shared.settings.expected()).await,
        };
        let (proxy, way) = judge(peer, asked)?;
        let response = self.sign(&proxy, &key)?;
        Ok((proxy, way, response))
    }

    fn sign(&self, proxy: &ProxyIdentity, key: &ProxyKey) -> Result<IssueResponse, IssueError> {
        let material = self.shared.material.borrow().clone();
        let material = material.ok_or_else(|| IssueError::Unavailable("there is no authority yet".to_owned()))?;
        let now_unix_s = now_unix_s();
        let lifetime = self.shared.settings.times.leaf;
        let signing = &material.authorities.signing;
        let leaf = signing
            .sign_proxy(proxy, key, now_unix_s, lifetime)
            .map_err(|error| IssueError::Unavailable(error.to_string()))?;
        Ok(IssueResponse {
            chain_der: vec![leaf.der.to_vec().into()],
            not_after_unix_s: leaf.not_after_unix_s,
            not_before_unix_s: leaf.not_before_unix_s,
            now_unix_s,
        })
    }
}

/// Who gets a certificate: whom the API server says that the token is of, or, where it cannot be asked, whoever has a
/// certificate already.
fn judge(peer: &Peer, asked: Result<ProxyIdentity, Refused>) -> Result<(ProxyIdentity, &'static str), IssueError> {
    match (asked, peer) {
        (Ok(proxy), Peer::Proxy(present)) if proxy != *present => Err(IssueError::Denied(format!(
            "the token is of {proxy}, the certificate of {present}"
        ))),
        (Ok(proxy), Peer::Anonymous | Peer::Proxy(_)) => Ok((proxy, "token")),
        (Err(Refused::Unavailable(_)), Peer::Proxy(present)) => Ok((present.clone(), "certificate")),
        (Err(refused @ Refused::Unavailable(_)), Peer::Anonymous) => Err(IssueError::Unavailable(refused.to_string())),
        (Err(refused), _) => Err(IssueError::Denied(refused.to_string())),
    }
}

/// The time on the machine's clock.
pub(super) fn now_unix_s() -> i64 {
    i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(pod: &str) -> ProxyIdentity {
        ProxyIdentity::from_uri(&format!("propylon://propylon/{pod}/node-1/0b8f")).unwrap()
    }

    #[test]
    fn the_api_server_decides_while_it_can_be_asked() {
        let (a, b) = (proxy("a"), proxy("b"));
        assert_eq!(judge(&Peer::Anonymous, Ok(a.clone())).unwrap(), (a.clone(), "token"));
        assert_eq!(
            judge(&Peer::Proxy(a.clone()), Ok(a.clone())).unwrap(),
            (a.clone(), "token")
        );
        let denied = judge(&Peer::Proxy(a.clone()), Ok(b)).unwrap_err();
        assert!(matches!(denied, IssueError::Denied(_)), "{denied}");
        let denied = judge(&Peer::Proxy(a), Err(Refused::Token("expired".to_owned()))).unwrap_err();
        assert!(
            matches!(denied, IssueError::Denied(_)),
            "a certificate does not outlive its pod: {denied}"
        );
    }

    #[test]
    fn a_certificate_renews_itself_while_the_api_server_is_away() {
        let away = || Err(Refused::Unavailable("refused".to_owned()));
        let a = proxy("a");
        assert_eq!(judge(&Peer::Proxy(a.clone()), away()).unwrap(), (a, "certificate"));
        let error = judge(&Peer::Anonymous, away()).unwrap_err();
        assert!(matches!(error, IssueError::Unavailable(_)), "{error}");
    }
}
