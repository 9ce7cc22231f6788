//! The one certificate that all proxies present: ECDSA P-256, signed by a throw-away authority.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::http::HOST;

/// Files of the certificate, all PEM.
#[derive(Debug, Clone)]
pub(crate) struct CertFiles {
    /// The authority's certificate, for clients.
    pub(crate) ca: PathBuf,
    /// The server's certificate.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
    /// Both in one file, as `HAProxy` wants them.
    pub(crate) bundle: PathBuf,
}

impl CertFiles {
    /// Makes the certificate for [`HOST`] and `*.bench.test` under `dir`.
    ///
    /// # Errors
    ///
    /// When a file cannot be written; not retryable.
    pub(crate) fn generate(dir: &Path) -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca_params = CertificateParams::new(Vec::new())?;
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = ca_params.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca_params, ca_key);
        let key = KeyPair::generate()?;
        let cert =
            CertificateParams::new(vec![HOST.to_owned(), "*.bench.test".to_owned()])?.signed_by(&key, &issuer)?;
        let files = Self {
            ca: dir.join("ca.pem"),
            cert: dir.join("cert.pem"),
            key: dir.join("key.pem"),
            bundle: dir.join("bundle.pem"),
        };
        fs::write(&files.ca, ca.pem())?;
        fs::write(&files.cert, cert.pem())?;
        fs::write(&files.key, key.serialize_pem())?;
        fs::write(&files.bundle, format!("{}{}", cert.pem(), key.serialize_pem()))?;
        Ok(files)
    }
}

/// A TLS 1.3 client with X25519 alone that trusts the authority in `ca`; `resume` keeps up to 256 tickets.
///
/// # Errors
///
/// When the file cannot be read or is no certificate; not retryable.
pub(crate) fn client_config(ca: &Path, resume: bool) -> Result<Arc<ClientConfig>> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).with_context(|| format!("read {}", ca.display()))?)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = if resume {
        Resumption::store(Arc::new(ClientSessionMemoryCache::new(256)))
    } else {
        Resumption::disabled()
    };
    Ok(Arc::new(config))
}
