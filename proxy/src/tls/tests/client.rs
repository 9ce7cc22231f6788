//! A TLS client that believes every certificate and offers what it is told to.

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{ServerName, UnixTime},
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsConnector;

use super::*;

#[derive(Clone)]
pub(super) struct Client {
    config: Arc<ClientConfig>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(&TLS13, aws_lc_rs::default_provider())
    }
}

impl Client {
    pub(super) fn tls12() -> Self {
        Self::new(&TLS12, aws_lc_rs::default_provider())
    }

    fn new(version: &'static rustls::SupportedProtocolVersion, provider: CryptoProvider) -> Self {
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible { schemes }))
            .with_no_client_auth();
        Self {
            config: Arc::new(config),
        }
    }

    /// TLS 1.2 with suites for RSA keys only, but every signature scheme.
    pub(super) fn rsa_suites() -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider
            .cipher_suites
            .retain(|suite| format!("{:?}", suite.suite()).contains("_RSA_"));
        assert!(!provider.cipher_suites.is_empty());
        Self::new(&TLS12, provider)
    }

    pub(super) fn schemes(mut self, schemes: &[SignatureScheme]) -> Self {
        let verifier = Arc::new(Gullible {
            schemes: schemes.to_vec(),
        });
        Arc::make_mut(&mut self.config)
            .dangerous()
            .set_certificate_verifier(verifier);
        self
    }

    pub(super) fn alpn(mut self, protocols: &[&str]) -> Self {
        let protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::make_mut(&mut self.config).alpn_protocols = protocols;
        self
    }

    /// The bytes of a `ClientHello`.
    pub(super) fn hello(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut connection = ClientConnection::new(Arc::clone(&self.config), server_name(name)).unwrap();
        connection.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// Does a handshake; sessions are kept between calls.
    pub(super) async fn connect(&self, acceptor: &TlsAcceptor, name: &str) -> Result<Session, TlsFault> {
        let (client, server) = tokio::io::duplex(16 << 10);
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let (client, server) = tokio::join!(connector.connect(server_name(name), client), acceptor.accept(server));
        let (server, info) = server?;
        Ok(Session {
            client: client.unwrap(),
            server,
            info,
        })
    }
}

fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

#[derive(Debug)]
struct Gullible {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
