//! What a Secret holds: a certificate with its key, or certificate authorities.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use propylon_model::{HostPattern, PrivateKeyDer};
use rustls::{crypto::aws_lc_rs, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer as KeyDer, pem::PemObject};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

/// A certificate chain and the key of its leaf, known to parse and to match. The key is never printed.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) chain_der: Arc<[Vec<u8>]>,
    pub(crate) key: PrivateKeyDer,
    /// DNS names of the leaf's subjectAltName; the subject's CN does not count (RFC 9525 2).
    pub(crate) names: Vec<HostPattern>,
    pub(crate) not_before_unix_s: i64,
    pub(crate) not_after_unix_s: i64,
}

impl Pair {
    /// Whether the leaf may be used for a host.
    pub(crate) fn covers(&self, host: &HostPattern) -> bool {
        self.names.iter().any(|name| match host {
            HostPattern::Any => false,
            HostPattern::Exact(host) => name.covers(host.as_str()),
            HostPattern::Wildcard(_) => name == host,
        })
    }
}

/// Reads `tls.crt` and `tls.key`; on failure the field and what is wrong with it.
pub(crate) fn read(secret: &Secret) -> Result<Pair, String> {
    let chain = certificates(secret, "tls.crt")?;
    let key = KeyDer::from_pem_slice(bytes(secret, "tls.key")?)
        .map_err(|error| format!("data[tls.key]: holds no private key in PEM form ({error})"))?;
    let key_der = PrivateKeyDer::new(key.secret_der().to_vec());
    let leaf = chain.first().ok_or("data[tls.crt]: holds no certificate")?;
    let (_, parsed) = X509Certificate::from_der(leaf)
        .map_err(|error| format!("data[tls.crt]: the first certificate does not parse ({error})"))?;
    let names = names(&parsed)?;
    let (not_before_unix_s, not_after_unix_s) = (
        parsed.validity().not_before.timestamp(),
        parsed.validity().not_after.timestamp(),
    );
    let chain_der: Arc<[Vec<u8>]> = chain.iter().map(|certificate| certificate.to_vec()).collect();
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "data[tls.key]: the key does not belong to the first certificate of data[tls.crt]".to_owned()
        }
        error => format!("data[tls.crt], data[tls.key]: cannot be used ({error})"),
    })?;
    Ok(Pair {
        chain_der,
        key: key_der,
        names,
        not_before_unix_s,
        not_after_unix_s,
    })
}

/// Reads the certificates (DER) of `ca.crt`; on failure the field and what is wrong with it.
pub(crate) fn read_authorities(secret: &Secret) -> Result<Vec<Vec<u8>>, String> {
    let certificates = certificates(secret, "ca.crt")?;
    for certificate in &certificates {
        X509Certificate::from_der(certificate)
            .map_err(|error| format!("data[ca.crt]: a certificate does not parse ({error})"))?;
    }
    Ok(certificates.iter().map(|certificate| certificate.to_vec()).collect())
}

fn certificates(secret: &Secret, field: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(bytes(secret, field)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("data[{field}]: is not in PEM form ({error})"))?;
    if certificates.is_empty() {
        return Err(format!("data[{field}]: holds no certificate in PEM form"));
    }
    Ok(certificates)
}

fn bytes<'a>(secret: &'a Secret, field: &str) -> Result<&'a [u8], String> {
    let value = secret.data.as_ref().and_then(|data| data.get(field));
    value
        .map(|value| value.0.as_slice())
        .ok_or_else(|| format!("data[{field}]: is missing"))
}

fn names(leaf: &X509Certificate<'_>) -> Result<Vec<HostPattern>, String> {
    let extension = leaf
        .subject_alternative_name()
        .map_err(|error| format!("data[tls.crt]: the subjectAltName does not parse ({error})"))?;
    let general = extension
        .map(|extension| extension.value.general_names.as_slice())
        .unwrap_or_default();
    let mut names: Vec<HostPattern> = general
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => HostPattern::parse(name).ok(),
            _ => None,
        })
        .filter(|name| *name != HostPattern::Any)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}
