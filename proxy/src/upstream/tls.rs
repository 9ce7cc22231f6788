//! TLS towards a backend: who may answer, and which protocols are offered.

use std::{fmt, net::IpAddr, sync::Arc};

use propylon_model::BackendTls;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// The protocols offered to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    /// `http/1.1` only: backends that must switch protocols (WebSocket).
    Http1,
    /// `h2`, then `http/1.1`.
    Http2OrHttp1,
}

/// TLS settings of a pool, made once and shared by its connections (sessions are resumed across them).
#[derive(Clone, Debug)]
pub struct TlsTransport {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

/// Why the TLS settings of a pool cannot be used. Not retryable: the objects must change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsConfigError {
    /// A certificate of the authority does not parse; the text is from the TLS library.
    #[error("a certificate of the backend's authority is not valid: {0}")]
    InvalidAuthority(String),
    /// The server name is neither a DNS name nor an address.
    #[error("the backend's server name {0:?} is not valid")]
    InvalidServerName(String),
    /// The TLS library refused the settings; the text is its own.
    #[error("the TLS settings of the backend are not usable: {0}")]
    Unusable(String),
}

impl TlsTransport {
    /// Makes the settings from the model.
    ///
    /// Without an authority every certificate is accepted (the signature of the handshake is still checked); with
    /// one the certificate must lead to it and carry the server name, or the endpoint's address if none is set.
    ///
    /// # Errors
    /// When a certificate or the server name is not valid; not retryable.
    ///
    /// # Cost
    /// Allocates a session store; make it once per pool, not per connection.
    pub fn new(tls: &BackendTls, alpn: Alpn) -> Result<Self, TlsConfigError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsConfigError::Unusable(error.to_string()))?;
        let mut config = match &tls.ca_der {
            Some(authorities) => builder
                .with_root_certificates(roots(authorities)?)
                .with_no_client_auth(),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
                .with_no_client_auth(),
        };
        config.alpn_protocols = match alpn {
            Alpn::Http1 => vec![b"http/1.1".to_vec()],
            Alpn::Http2OrHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let server_name = tls.server_name.as_deref().map(parse_server_name).transpose()?;
        Ok(Self {
            config: Arc::new(config),
            server_name,
        })
    }

    /// The library's settings.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The name to ask for; an address is verified but not sent as SNI (RFC 6066 3).
    pub(super) fn server_name(&self, address: IpAddr) -> ServerName<'static> {
        self.server_name
            .clone()
            .unwrap_or_else(|| ServerName::IpAddress(address.into()))
    }
}

fn roots(authorities: &[Vec<u8>]) -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for der in authorities {
        roots
            .add(CertificateDer::from(der.clone()))
            .map_err(|error| TlsConfigError::InvalidAuthority(error.to_string()))?;
    }
    Ok(roots)
}

fn parse_server_name(name: &str) -> Result<ServerName<'static>, TlsConfigError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsConfigError::InvalidServerName(name.to_owned()))
}

/// Accepts any certificate, but only from a peer that holds its key.
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for AnyCertificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AnyCertificate").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
