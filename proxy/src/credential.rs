//! The proxy's client certificate: bought with a token, renewed, kept over a restart.
//!
//! What it is: [`Keeper`] has the present certificate, buys one where there is none ([`Keeper::present`]), and renews it at
//! two thirds of its life ([`Keeper::renew`]). What it is not: it does not follow the stream; `link` makes the connections.
//!
//! The key is made here and never leaves the process, but for the file of `--credential` (mode 0600, on a tmpfs), with which
//! a restarted container needs neither a token nor the API server.

mod store;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use propylon_kit::{backoff::Backoff, clock};
use propylon_wire::{IssueError, IssueRequest, IssueResponse, identity};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;
use tokio::sync::watch;

use crate::link::{Link, LinkError};

/// A client certificate with its key. Times are those of this machine's clock, whatever the controller's says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    /// PKCS#8.
    pub(crate) key_der: Vec<u8>,
    /// Leaf first.
    pub(crate) chain_der: Vec<Vec<u8>>,
    pub(crate) renew_unix_s: i64,
    pub(crate) end_unix_s: i64,
}

/// Without the key.
impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credential")
            .field("renew_unix_s", &self.renew_unix_s)
            .field("end_unix_s", &self.end_unix_s)
            .finish_non_exhaustive()
    }
}

impl Credential {
    /// The chain, for rustls.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain_der.iter().cloned().map(CertificateDer::from).collect()
    }

    /// The key, for rustls.
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }

    /// What a controller answered at `now_unix_s`.
    fn issued(key: &KeyPair, response: &IssueResponse, now_unix_s: i64) -> Self {
        // By the controller's clock: how long it lasts from its now, and how long it lasts in all.
        let left = response.not_after_unix_s.saturating_sub(response.now_unix_s).max(0);
        Self {
            key_der: key.serialize_der(),
            chain_der: response.chain_der.iter().map(|der| der.to_vec()).collect(),
            renew_unix_s: now_unix_s.saturating_add(left / 3 * 2),
            end_unix_s: now_unix_s.saturating_add(left),
        }
    }
}

/// Why there is no certificate. All are tried again.
#[derive(Debug, Error)]
pub(crate) enum CredentialError {
    /// The controller does not give one.
    #[error("the controller issues no certificate: {0}")]
    Issue(#[from] IssueError),
    /// No key can be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] rcgen::Error),
    /// No controller can be reached.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The token cannot be read.
    #[error(
        "cannot read the token {path}: {source}; mount a projected ServiceAccount token with audience 'propylon-controller' \
         there, or name another file with --token-file"
    )]
    Token {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Where things are kept.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) token: PathBuf,
    /// None: memory only.
    pub(crate) store: Option<PathBuf>,
}

/// The present certificate, and how to have another.
#[derive(Debug)]
pub(crate) struct Keeper {
    files: Files,
    node: String,
    link: Link,
    present: watch::Sender<Option<Arc<Credential>>>,
}

impl Keeper {
    /// Takes up what the process before left, where it still holds.
    pub(crate) fn new(link: Link, files: Files, node: String) -> Self {
        let found = files.store.as_deref().and_then(store::read);
        let found = found.filter(|credential| credential.end_unix_s > now_unix_s());
        if let Some(credential) = &found {
            let end = clock::utc_text(credential.end_unix_s);
            tracing::info!(%end, "using the client certificate of the process before");
        }
        Self {
            files,
            node,
            link,
            present: watch::Sender::new(found.map(Arc::new)),
        }
    }

    /// Makes connections.
    pub(crate) const fn link(&self) -> &Link {
        &self.link
    }

    /// Tells of every new certificate.
    pub(crate) fn changes(&self) -> watch::Receiver<Option<Arc<Credential>>> {
        self.present.subscribe()
    }

    /// The present certificate; where there is none that holds, one is bought.
    ///
    /// # Errors
    /// [`CredentialError`]; retryable.
    pub(crate) async fn present(&self) -> Result<Arc<Credential>, CredentialError> {
        let present = self.present.borrow().clone();
        if let Some(credential) = present.filter(|credential| credential.end_unix_s > now_unix_s()) {
            return Ok(credential);
        }
        Box::pin(self.obtain(None)).await
    }

    /// The controller does not believe this certificate: the next connection buys another.
    pub(crate) fn refused(&self, credential: &Arc<Credential>) {
        let dropped = self.present.send_if_modified(|present| {
            let is_it = present.as_ref().is_some_and(|present| Arc::ptr_eq(present, credential));
            if is_it {
                *present = None;
            }
            is_it
        });
        if dropped {
            tracing::warn!("the controller does not believe our client certificate; buying another with the token");
        }
    }

    /// Renews the certificate when it is due, for ever.
    ///
    /// # Cancel safety
    /// Can be cancelled at any time.
    pub(crate) async fn renew(&self) {
        let mut changes = self.changes();
        let mut rng = fastrand::Rng::new();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let present = changes.borrow_and_update().clone();
            let wait = match &present {
                Some(credential) => u64::try_from(credential.renew_unix_s.saturating_sub(now_unix_s())),
                None => Ok(u64::MAX),
            };
            // Both are cancel safe.
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => continue,
                    Err(_closed) => return,
                },
                // In pieces, so that a clock that jumps is noticed.
                () = tokio::time::sleep(Duration::from_secs(wait.unwrap_or(0)).min(LOOK)) => {}
            }
            let Some(credential) = present.filter(|credential| credential.renew_unix_s <= now_unix_s()) else {
                continue;
            };
            let still_holds = credential.end_unix_s > now_unix_s();
            match Box::pin(self.obtain(still_holds.then_some(&credential))).await {
                Ok(_) => backoff.reset(),
                Err(error) => {
                    let end = clock::utc_text(credential.end_unix_s);
                    tracing::warn!(%error, %end, "the client certificate is not renewed; the present one is used to its end");
                    tokio::time::sleep(backoff.pause(&mut rng) + FIRST_PAUSE).await;
                }
            }
        }
    }

    /// Buys a certificate, with the token and, where there is one, with the present certificate.
    async fn obtain(&self, present: Option<&Arc<Credential>>) -> Result<Arc<Credential>, CredentialError> {
        let token = match std::fs::read_to_string(&self.files.token) {
            Ok(token) => token.trim().to_owned(),
            // The present certificate is enough while the API server is away.
            Err(_) if present.is_some() => String::new(),
            Err(source) => {
                let path = self.files.token.clone();
                return Err(CredentialError::Token { path, source });
            }
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let request = CertificateParams::default().serialize_request(&key)?;
        let request = IssueRequest {
            token,
            csr_der: request.der().to_vec().into(),
            node: self.node.clone(),
        };
        let io = self.link.connect(present.map(AsRef::as_ref)).await?;
        let response = Box::pin(identity::issue(io, request)).await?;
        let now_unix_s = now_unix_s();
        warn_of_skew(now_unix_s, response.now_unix_s);
        let credential = Arc::new(Credential::issued(&key, &response, now_unix_s));
        if let Some(path) = &self.files.store
            && let Err(error) = store::write(path, &credential)
        {
            tracing::warn!(%error, path = %path.display(), "the client certificate is not kept over a restart");
        }
        tracing::info!(end = %clock::utc_text(credential.end_unix_s), "client certificate issued");
        self.present.send_replace(Some(Arc::clone(&credential)));
        Ok(credential)
    }
}

fn warn_of_skew(ours: i64, theirs: i64) {
    let skew = ours.saturating_sub(theirs);
    // A controller of a release that does not say.
    if theirs != 0 && skew.abs() > SKEW_S {
        tracing::warn!(
            seconds = skew,
            "this machine's clock differs from the controller's; beyond 5 minutes certificates are refused. Keep the clocks \
             of all nodes by NTP"
        );
    }
}

fn now_unix_s() -> i64 {
    i64::try_from(clock::unix_now().as_secs()).unwrap_or(i64::MAX)
}

/// Between two attempts at a renewal.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// After many.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The clock is looked at so often.
const LOOK: Duration = Duration::from_mins(10);
/// A difference of clocks that is told, in seconds.
const SKEW_S: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_on_our_own_clock() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let response = IssueResponse {
            chain_der: vec![b"leaf".to_vec().into()],
            not_before_unix_s: 999_700,
            not_after_unix_s: 1_086_400,
            now_unix_s: 1_000_000,
        };
        // Our clock is a year off.
        let credential = Credential::issued(&key, &response, 32_000_000);
        assert_eq!(credential.end_unix_s, 32_086_400);
        assert_eq!(credential.renew_unix_s, 32_057_600);
    }
}
