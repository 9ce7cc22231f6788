//! Connections to controllers: names to addresses, TLS, and words for what goes wrong.

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use thiserror::Error;
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::credential::Credential;

/// Where controllers are, and how they are believed.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// `HOST:PORT`, each tried with all its addresses.
    pub(crate) controllers: Vec<String>,
    /// What their certificates must name.
    pub(crate) server_name: ServerName<'static>,
    /// Whom their certificates must be of; read for each connection.
    pub(crate) trust_file: PathBuf,
}

/// Why there is no connection. All are tried again.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// No controller answers.
    #[error("no controller answers at {}", Attempts(.0))]
    Connect(Vec<(String, io::Error)>),
    /// Our own certificate and key do not fit.
    #[error("the client certificate cannot be used: {0}")]
    Credential(#[source] rustls::Error),
    /// The other side is no controller of ours, or does not believe us.
    #[error("TLS with the controller {address}: {}", explain(.source, .trust_file))]
    Handshake {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
        /// Whom we believe.
        trust_file: PathBuf,
    },
    /// The file of authorities cannot be used.
    #[error(
        "cannot read the certificate authorities {path}: {reason}; the controller's leader writes them to the ConfigMap \
         propylon-trust (key ca.crt), which is to be mounted there (--trust-file)"
    )]
    Trust {
        /// Where.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

struct Attempts<'a>(&'a [(String, io::Error)]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (place, error)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(formatter, "{comma}{place} ({error})")?;
        }
        Ok(())
    }
}

impl From<LinkError> for io::Error {
    fn from(error: LinkError) -> Self {
        Self::other(error)
    }
}

impl Link {
    /// Connects to whichever controller answers first in a random order, with or without a client certificate.
    ///
    /// # Errors
    /// [`LinkError`]; retryable.
    ///
    /// # Cancel safety
    /// Cancelled, it closes the connection.
    pub(crate) async fn connect(&self, credential: Option<&Credential>) -> Result<TlsStream<TcpStream>, LinkError> {
        let config = self.config(credential)?;
        let (stream, address) = self.dial().await?;
        let connector = TlsConnector::from(Arc::new(config));
        let shaken = timeout(HANDSHAKE, connector.connect(self.server_name.clone(), stream)).await;
        let shaken = shaken.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into()));
        shaken.map_err(|source| LinkError::Handshake {
            address,
            source,
            trust_file: self.trust_file.clone(),
        })
    }

    fn config(&self, credential: Option<&Credential>) -> Result<ClientConfig, LinkError> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(LinkError::Credential)?
            .with_root_certificates(self.roots()?);
        let mut config = match credential {
            Some(credential) => builder
                .with_client_auth_cert(credential.chain(), credential.key())
                .map_err(LinkError::Credential)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Each connection proves anew who is who.
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, LinkError> {
        let failed = |reason: String| LinkError::Trust {
            path: self.trust_file.clone(),
            reason,
        };
        let pem = std::fs::read(&self.trust_file).map_err(|error| failed(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        let found = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
        let (added, _) = roots.add_parsable_certificates(found);
        if added == 0 {
            return Err(failed("there is no certificate in it".to_owned()));
        }
        Ok(roots)
    }

    async fn dial(&self) -> Result<(TcpStream, SocketAddr), LinkError> {
        let mut failed = Vec::new();
        let mut addresses = Vec::new();
        for place in &self.controllers {
            match timeout(LOOKUP, lookup_host(place.as_str())).await {
                Ok(Ok(found)) => addresses.extend(found),
                Ok(Err(error)) => failed.push((place.clone(), error)),
                Err(_elapsed) => failed.push((place.clone(), io::ErrorKind::TimedOut.into())),
            }
        }
        // Proxies spread over the replicas.
        fastrand::shuffle(&mut addresses);
        for address in addresses {
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection without TCP_NODELAY");
                    }
                    return Ok((stream, address));
                }
                Ok(Err(error)) => failed.push((address.to_string(), error)),
                Err(_elapsed) => failed.push((address.to_string(), io::ErrorKind::TimedOut.into())),
            }
        }
        Err(LinkError::Connect(failed))
    }
}

/// Whether an error says that the controller does not believe our certificate. In TLS 1.3 that comes after the handshake,
/// with the first read (RFC 8446 4.4.2.4).
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    use AlertDescription::{
        BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown, DecryptError,
        UnknownCA, UnsupportedCertificate,
    };

    matches!(
        tls_error(error),
        Some(rustls::Error::AlertReceived(
            BadCertificate
                | CertificateExpired
                | CertificateRequired
                | CertificateRevoked
                | CertificateUnknown
                | DecryptError
                | UnknownCA
                | UnsupportedCertificate
        ))
    )
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What went wrong in the handshake, and what to do.
fn explain(error: &io::Error, trust_file: &std::path::Path) -> String {
    let trust = trust_file.display();
    let Some(tls) = tls_error(error) else {
        return format!("{error}; is there a controller of Propylon at that port?");
    };
    let what_next = match tls {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "it is not of an authority in {trust}; a changed ConfigMap propylon-trust reaches a pod within two minutes, \
                 and if it does not help, compare it with tls.crt of the Secret propylon-ca"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the controller's certificate has expired by this machine's clock; compare the clocks of the nodes (NTP)"
                    .to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the controller's certificate is not valid yet: this machine's clock is behind; set it (NTP)".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "it names another host; --controller-name must be propylon-controller.NAMESPACE.svc with the controller's \
                 namespace"
                    .to_owned()
            }
            _ => "it is no certificate of a controller".to_owned(),
        },
        _ => "is there a controller of Propylon at that port?".to_owned(),
    };
    format!("{tls}; {what_next}")
}

/// How long a name may take to resolve.
const LOOKUP: Duration = Duration::from_secs(5);
/// How long an address may take to answer, before the next is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: rustls::Error) -> String {
        explain(&io::Error::new(io::ErrorKind::InvalidData, error), "/trust".as_ref())
    }

    #[test]
    fn failures_say_what_to_do() {
        let of = rustls::Error::InvalidCertificate;
        assert!(words(of(CertificateError::UnknownIssuer)).contains("propylon-trust"));
        assert!(words(of(CertificateError::Expired)).contains("clocks"));
        assert!(words(of(CertificateError::NotValidYet)).contains("clock is behind"));
        assert!(words(of(CertificateError::NotValidForName)).contains("--controller-name"));
        assert!(words(rustls::Error::HandshakeNotComplete).contains("at that port"));
    }

    #[test]
    fn only_what_concerns_our_certificate_makes_us_buy_another() {
        let alert = |alert| {
            let error = rustls::Error::AlertReceived(alert);
            is_refusal(&io::Error::new(io::ErrorKind::InvalidData, error))
        };
        assert!(alert(AlertDescription::CertificateExpired));
        assert!(alert(AlertDescription::UnknownCA));
        assert!(!alert(AlertDescription::InternalError));
        assert!(!is_refusal(&io::ErrorKind::ConnectionReset.into()));
    }
}
