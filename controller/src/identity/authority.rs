//! A certificate authority: making one, reading one back, and what it signs.
//!
//! ECDSA P-256 throughout: small, in every TLS library, fast to sign.

use std::{fmt, net::IpAddr, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use propylon_wire::ProxyIdentity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::plan::{Fingerprint, Root, seconds};

/// Why an authority could not be made, read or used. Not retryable, except for signing.
#[derive(Debug, Error)]
pub enum AuthorityError {
    /// The certificate is none, or not one that Propylon made.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The key is none, or not that of the certificate.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// It cannot sign.
    #[error("cannot sign a certificate: {0}")]
    Sign(#[source] rcgen::Error),
    /// It has expired.
    #[error("the authority has expired")]
    Expired,
}

/// An authority that can sign. The key is zeroed by nobody: it lives as long as the process.
pub struct Authority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
    key_pem: String,
    name: String,
    root: Root,
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A certificate that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// DER.
    pub der: CertificateDer<'static>,
    /// PEM.
    pub pem: String,
    /// The first second of its validity.
    pub not_before_unix_s: i64,
    /// The last second of its validity.
    pub not_after_unix_s: i64,
}

/// A certificate with its key, for a server.
#[derive(Debug)]
pub struct ServerLeaf {
    /// The certificate.
    pub leaf: Leaf,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Makes a new one, valid from a little before `now_unix_s`.
    ///
    /// # Errors
    /// When there is no randomness. Retryable.
    pub fn create(now_unix_s: i64, lifetime: Duration) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Sign)?;
        let fingerprint = digest(&SHA256, key.public_key_raw());
        let name = format!(
            "Propylon authority {}",
            hex(fingerprint.as_ref().get(..6).unwrap_or_default())
        );
        let mut params = issuer_params(&name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(now_unix_s.saturating_sub(LEEWAY_S));
        params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(now_unix_s.saturating_add(seconds(lifetime)));
        params.serial_number = Some(serial());
        let certificate = params.self_signed(&key).map_err(AuthorityError::Sign)?;
        Self::read(&certificate.pem(), &key.serialize_pem())
    }

    /// Reads one back from PEM.
    ///
    /// # Errors
    /// When either part is not PEM of the kind, or they do not belong together.
    pub fn read(certificate_pem: &str, key_pem: &str) -> Result<Self, AuthorityError> {
        let (certificate, root, name) = read_root(certificate_pem)?;
        let key = KeyPair::from_pem(key_pem).map_err(|error| AuthorityError::Key(error.to_string()))?;
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(unreadable)?;
        if parsed.public_key().subject_public_key.as_ref() != key.public_key_raw() {
            return Err(AuthorityError::Key("it is not the key of the certificate".to_owned()));
        }
        Ok(Self {
            certificate,
            certificate_pem: certificate_pem.trim().to_owned(),
            key,
            key_pem: key_pem.trim().to_owned(),
            name,
            root,
        })
    }

    /// Its certificate.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate as PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key as PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Which one it is.
    pub const fn root(&self) -> Root {
        self.root
    }

    /// Signs a client certificate for a proxy.
    ///
    /// # Errors
    /// When the authority has expired, or signing fails.
    pub fn sign_proxy(
        &self,
        proxy: &ProxyIdentity,
        key: &ProxyKey,
        now_unix_s: i64,
        lifetime: Duration,
    ) -> Result<Leaf, AuthorityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("propylon-proxy");
        let uri = proxy.to_uri();
        let uri = uri.as_str().try_into().map_err(AuthorityError::Sign)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, key, now_unix_s, lifetime)
    }

    /// Makes a key, and signs a server certificate for it.
    ///
    /// # Errors
    /// When the authority has expired, or signing fails.
    pub fn sign_server(
        &self,
        names: &[String],
        addresses: &[IpAddr],
        now_unix_s: i64,
        lifetime: Duration,
    ) -> Result<ServerLeaf, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(AuthorityError::Sign)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("propylon-controller");
        for name in names {
            let name = name.as_str().try_into().map_err(AuthorityError::Sign)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        let addresses = addresses.iter().map(|address| SanType::IpAddress(*address));
        params.subject_alt_names.extend(addresses);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = self.sign(params, &key, now_unix_s, lifetime)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        Ok(ServerLeaf { leaf, key })
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        now_unix_s: i64,
        lifetime: Duration,
    ) -> Result<Leaf, AuthorityError> {
        let not_before_unix_s = now_unix_s.saturating_sub(LEEWAY_S);
        let end = now_unix_s.saturating_add(seconds(lifetime));
        let not_after_unix_s = end.min(self.root.not_after_unix_s);
        if not_after_unix_s <= now_unix_s {
            return Err(AuthorityError::Expired);
        }
        params.not_before = date_time_ymd(1970, 1, 1) + since_epoch(not_before_unix_s);
        params.not_after = date_time_ymd(1970, 1, 1) + since_epoch(not_after_unix_s);
        params.serial_number = Some(serial());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = false;
        let issuer = Issuer::new(issuer_params(&self.name), &self.key);
        let certificate = params.signed_by(key, &issuer).map_err(AuthorityError::Sign)?;
        Ok(Leaf {
            pem: certificate.pem(),
            der: certificate.der().clone(),
            not_before_unix_s,
            not_after_unix_s,
        })
    }
}

/// The public key of a proxy, from a request whose signature proves that the proxy has the other half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyKey(Vec<u8>);

impl ProxyKey {
    /// Reads a certificate signing request (RFC 2986), DER; everything but the key is ignored.
    ///
    /// # Errors
    /// In words for the proxy's log, when it is none, not of ECDSA P-256, or not signed by its key. Not retryable.
    pub fn of_request(der: &[u8]) -> Result<Self, String> {
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
        use x509_parser::prelude::X509CertificationRequest;

        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|error| format!("the certificate signing request cannot be read: {error}"))?;
        if !rest.is_empty() {
            return Err("the certificate signing request has bytes behind its end".to_owned());
        }
        let info = &request.certification_request_info;
        let key: &[u8] = info.subject_pki.subject_public_key.as_ref();
        // A P-256 point, uncompressed (RFC 5480 2.2).
        if key.len() != 65 {
            return Err("the key is not one of ECDSA P-256".to_owned());
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify(info.raw, request.signature_value.as_ref())
            .map_err(|_| "the certificate signing request is not signed by its own key".to_owned())?;
        Ok(Self(key.to_vec()))
    }
}

impl PublicKeyData for ProxyKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Reads the certificate of an authority: DER, what the plan needs of it, and its name.
pub(super) fn read_root(pem: &str) -> Result<(CertificateDer<'static>, Root, String), AuthorityError> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| AuthorityError::Certificate(error.to_string()))?;
    let (_, parsed) = X509Certificate::from_der(&certificate).map_err(unreadable)?;
    let name = parsed
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok());
    let name = name.ok_or_else(|| AuthorityError::Certificate("it has no common name".to_owned()))?;
    let (name, not_after_unix_s) = (name.to_owned(), parsed.validity().not_after.timestamp());
    let root = Root {
        fingerprint: fingerprint(&certificate),
        not_after_unix_s,
    };
    Ok((certificate, root, name))
}

/// SHA-256 of a certificate.
pub(super) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint.copy_from_slice(digest(&SHA256, certificate).as_ref());
    fingerprint
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: x509_parser::nom::Err<x509_parser::error::X509Error>) -> AuthorityError {
    AuthorityError::Certificate(error.to_string())
}

/// The parameters of an authority as an issuer; they must write its name as its certificate does.
fn issuer_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

/// 64 random bits, positive (RFC 5280 4.1.2.2).
fn serial() -> SerialNumber {
    SerialNumber::from(fastrand::u64(1..=u64::MAX >> 1))
}

/// A second since the Unix epoch, as what is added to it; a date before it is the epoch.
fn since_epoch(unix_s: i64) -> Duration {
    Duration::from_secs(u64::try_from(unix_s).unwrap_or_default())
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;

    bytes.iter().fold(String::new(), |mut text, byte| {
        if write!(text, "{byte:02x}").is_err() {
            debug_assert!(false, "writing to a String cannot fail");
        }
        text
    })
}

/// Certificates are valid from a little before, for machines whose clocks lag.
const LEEWAY_S: i64 = 300;

#[cfg(test)]
mod tests;
