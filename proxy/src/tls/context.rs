//! What every TLS connection shares: the provider, the ticket keys, the certificate of last resort.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use thiserror::Error;

/// Made once per process and shared by all tables and threads, so that a ticket of one is good at every other.
pub struct TlsContext {
    provider: Arc<CryptoProvider>,
    template: ServerConfig,
    self_signed: Arc<CertifiedKey>,
    self_signed_not_after_unix_s: i64,
}

impl TlsContext {
    /// Makes ticket keys and a self-signed certificate (ECDSA P-256) that is valid from one day before `now_unix_s`
    /// for 397 days.
    ///
    /// Ticket keys are replaced every 6 hours and open tickets for 12 (rustls); sessions are kept nowhere else. All
    /// tickets belong to one policy: as soon as hosts differ in what they demand of a client, each policy needs a context
    /// of its own. rustls itself binds a ticket to the server name it was given under.
    ///
    /// # Errors
    /// When the system gives no randomness or refuses the certificate. Not retryable.
    pub fn new(now_unix_s: i64) -> Result<Arc<Self>, ContextError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let not_before_unix_s = now_unix_s.saturating_sub(DAY_S);
        let not_after_unix_s = not_before_unix_s.saturating_add(SELF_SIGNED_DAYS * DAY_S);
        let self_signed = Arc::new(self_signed(&provider, not_before_unix_s, not_after_unix_s)?);
        Ok(Arc::new(Self {
            template: template(&provider, &self_signed)?,
            provider,
            self_signed,
            self_signed_not_after_unix_s: not_after_unix_s,
        }))
    }

    /// The certificate where nothing matches.
    pub fn self_signed(&self) -> &Arc<CertifiedKey> {
        &self.self_signed
    }

    /// End of its validity, Unix time in seconds.
    pub fn self_signed_not_after_unix_s(&self) -> i64 {
        self.self_signed_not_after_unix_s
    }

    pub(super) fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// The settings of connections that use `key`; made once per certificate, then shared by its connections.
    pub(super) fn config(&self, key: Arc<CertifiedKey>) -> ServerConfig {
        let mut config = self.template.clone();
        config.cert_resolver = Arc::new(SingleCertAndKey::from(key));
        config
    }
}

impl fmt::Debug for TlsContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsContext").finish_non_exhaustive()
    }
}

/// Why the shared parts of TLS could not be made.
#[derive(Debug, Error)]
pub enum ContextError {
    /// The self-signed certificate could not be made.
    #[error("could not make the self-signed certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// Ticket keys could not be made, or the new certificate could not be used.
    #[error("could not set up TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

fn template(provider: &Arc<CryptoProvider>, key: &Arc<CertifiedKey>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(key))));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // The default keeps 256 sessions behind a lock, for TLS 1.2 clients without tickets.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Browsers open a second connection before the first has answered; each ticket is used once (RFC 8446 C.4).
    config.send_tls13_tickets = 2;
    config.max_early_data_size = 0;
    Ok(config)
}

fn self_signed(
    provider: &CryptoProvider,
    not_before_unix_s: i64,
    not_after_unix_s: i64,
) -> Result<CertifiedKey, ContextError> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = rcgen::CertificateParams::new(vec!["propylon.invalid".to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "Propylon self-signed certificate");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(not_before_unix_s.max(0).unsigned_abs());
    params.not_after = epoch + Duration::from_secs(not_after_unix_s.max(0).unsigned_abs());
    let certificate = params.self_signed(&key)?;
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::from_der(vec![certificate.der().clone()], der, provider)?)
}

const DAY_S: i64 = 86_400;
/// The longest validity that browsers accept of any certificate is 398 days.
const SELF_SIGNED_DAYS: i64 = 397;
