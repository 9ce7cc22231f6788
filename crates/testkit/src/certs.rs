//! Certificates made on the spot: an authority, leaves of either key type, expired and mismatched ones.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The type of a leaf's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on P-256.
    Ecdsa,
    /// RSA, 2048 bits.
    Rsa,
}

/// When a leaf is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// It ended long ago.
    Expired,
    /// It begins so many seconds after 1970, and ends with 2099.
    From(u64),
    /// From 2020 to the end of 2099.
    Valid,
    /// It ends so many seconds after 1970.
    Until(u64),
}

/// A certificate authority for tests.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes an authority with a fresh ECDSA key.
    ///
    /// # Panics
    /// When the cryptography library fails, which only a broken machine makes happen.
    #[expect(clippy::expect_used, reason = "test support: there is nothing to do without a key")]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2099, 12, 31);
        let key = KeyPair::generate().expect("a P-256 key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the parameters are complete");
        Self { issuer }
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The authority's certificate, DER.
    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A valid ECDSA leaf for `hosts` (names, `*.` wildcards or addresses).
    ///
    /// # Panics
    /// As [`Authority::leaf_with`].
    pub fn leaf(&self, hosts: &[&str]) -> Leaf {
        self.leaf_with(hosts, KeyType::Ecdsa, Validity::Valid)
    }

    /// A leaf for `hosts` (names, `*.` wildcards or addresses) of the given key type and validity.
    ///
    /// # Panics
    /// When a host is not ASCII, or the cryptography library fails.
    #[expect(
        clippy::expect_used,
        reason = "test support: there is nothing to do without a certificate"
    )]
    pub fn leaf_with(&self, hosts: &[&str], key_type: KeyType, validity: Validity) -> Leaf {
        let algorithm = match key_type {
            KeyType::Ecdsa => &rcgen::PKCS_ECDSA_P256_SHA256,
            KeyType::Rsa => &rcgen::PKCS_RSA_SHA256,
        };
        let key = KeyPair::generate_for(algorithm).expect("a key can be made");
        let names: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("hosts are ASCII");
        params.distinguished_name = common_name(hosts.first().copied().unwrap_or("no host"));
        let unix = |seconds| rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds);
        params.not_before = match validity {
            Validity::From(seconds) => unix(seconds),
            Validity::Expired | Validity::Until(_) | Validity::Valid => rcgen::date_time_ymd(2000, 1, 1),
        };
        params.not_after = match validity {
            Validity::Expired => rcgen::date_time_ymd(2001, 1, 1),
            Validity::From(_) | Validity::Valid => rcgen::date_time_ymd(2099, 12, 31),
            Validity::Until(seconds) => unix(seconds),
        };
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).expect("the issuer can sign");
        Leaf {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            cert_der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }
}

/// A leaf certificate and its key.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The key, PKCS#8 PEM.
    pub key_pem: String,
    /// The certificate, DER.
    pub cert_der: CertificateDer<'static>,
    /// The key, PKCS#8 DER.
    pub key_der: Vec<u8>,
}

impl Leaf {
    /// The certificate of `self` with the key of `other`: a pair that does not belong together.
    #[must_use]
    pub fn with_key_of(&self, other: &Self) -> Self {
        Self {
            key_pem: other.key_pem.clone(),
            key_der: other.key_der.clone(),
            ..self.clone()
        }
    }

    /// A server configuration with this certificate, TLS 1.2 and 1.3, and the given ALPN protocols.
    ///
    /// # Panics
    /// When the pair does not belong together.
    #[expect(
        clippy::expect_used,
        reason = "test support: a mismatched pair is a mistake of the test"
    )]
    pub fn server_config(&self, alpn: &[&str]) -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key_der.clone()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![self.cert_der.clone()], key)
            .expect("certificate and key belong together");
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_key_types_make_a_server_configuration() {
        let authority = Authority::new("test authority");
        for key_type in [KeyType::Ecdsa, KeyType::Rsa] {
            let leaf = authority.leaf_with(&["a.example", "*.b.example", "127.0.0.1"], key_type, Validity::Valid);
            assert_eq!(leaf.server_config(&["h2"]).alpn_protocols, [b"h2".to_vec()]);
        }
    }

    #[test]
    #[should_panic(expected = "belong together")]
    fn a_mismatched_pair_is_refused() {
        let authority = Authority::new("test authority");
        let (first, second) = (authority.leaf(&["a.example"]), authority.leaf(&["a.example"]));
        first.with_key_of(&second).server_config(&[]);
    }
}
