//! One certificate, ready to sign.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use propylon_model::{Certificate, CertificateName, HostName};
use rustls::{CipherSuite, ServerConfig, SignatureAlgorithm, SignatureScheme, server::ClientHello, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::{CertIdentity, TlsContext};

/// A parsed certificate with its key; shared by the tables of many rotations as long as the certificate stays the same.
pub(super) struct Entry {
    identity: CertIdentity,
    source: Option<Arc<Certificate>>,
    key: Arc<CertifiedKey>,
    kind: KeyKind,
    schemes: SchemeSet,
    not_after_unix_s: i64,
    config: OnceLock<Arc<ServerConfig>>,
    plain_config: OnceLock<Arc<ServerConfig>>,
}

/// The type of a key, in the order of preference: the cheaper signature first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyKind {
    Ecdsa,
    Ed25519,
    Rsa,
}

impl Entry {
    pub(super) fn load(
        name: &CertificateName,
        source: &Arc<Certificate>,
        context: &TlsContext,
    ) -> Result<Self, rustls::Error> {
        let chain = source
            .chain_der
            .iter()
            .map(|der| CertificateDer::from(der.clone()))
            .collect();
        let key = PrivateKeyDer::try_from(source.key.secret_der().to_vec())
            .map_err(|error| rustls::Error::General(format!("private key: {error}")))?;
        let key = Arc::new(CertifiedKey::from_der(chain, key, context.provider())?);
        Ok(Self::of_key(
            CertIdentity::Named(name.clone()),
            Some(Arc::clone(source)),
            key,
            source.not_after_unix_s,
        ))
    }

    pub(super) fn self_signed(context: &TlsContext) -> Self {
        Self::of_key(
            CertIdentity::SelfSigned,
            None,
            Arc::clone(context.self_signed()),
            context.self_signed_not_after_unix_s(),
        )
    }

    fn of_key(
        identity: CertIdentity,
        source: Option<Arc<Certificate>>,
        key: Arc<CertifiedKey>,
        not_after_unix_s: i64,
    ) -> Self {
        let kind = match key.key.algorithm() {
            SignatureAlgorithm::RSA => KeyKind::Rsa,
            SignatureAlgorithm::ED25519 => KeyKind::Ed25519,
            _ => KeyKind::Ecdsa,
        };
        let signs = |scheme: &&SignatureScheme| key.key.choose_scheme(&[**scheme]).is_some();
        let schemes = SchemeSet::of(SCHEMES.iter().filter(signs));
        Self {
            identity,
            source,
            key,
            kind,
            schemes,
            not_after_unix_s,
            config: OnceLock::new(),
            plain_config: OnceLock::new(),
        }
    }

    /// The settings of this certificate's connections, made at the first of them.
    pub(super) fn config(&self, context: &TlsContext) -> Arc<ServerConfig> {
        let make = || Arc::new(context.config(Arc::clone(&self.key)));
        Arc::clone(self.config.get_or_init(make))
    }

    /// The same without ALPN, for ports that are forwarded as they are.
    pub(super) fn plain_config(&self, context: &TlsContext) -> Arc<ServerConfig> {
        let make = || {
            let mut config = context.config(Arc::clone(&self.key));
            config.alpn_protocols.clear();
            Arc::new(config)
        };
        Arc::clone(self.plain_config.get_or_init(make))
    }

    /// Whether this is what `load` would make of `source`.
    pub(super) fn is_made_of(&self, source: &Arc<Certificate>) -> bool {
        self.source
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, source) || own == source)
    }

    /// Hosts that its wildcards must not serve; in order.
    pub(super) fn not_for(&self) -> &[HostName] {
        self.source.as_ref().map_or(&[], |source| &source.not_for)
    }

    /// Whether its wildcards may serve a host below them.
    pub(super) fn serves(&self, host: &HostName) -> bool {
        self.not_for().binary_search(host).is_err()
    }

    pub(super) fn identity(&self) -> &CertIdentity {
        &self.identity
    }

    pub(super) fn not_after_unix_s(&self) -> i64 {
        self.not_after_unix_s
    }

    /// What candidates of one host are sorted by: key type, rank, name.
    pub(super) fn order(&self) -> (KeyKind, u32, Option<&CertificateName>) {
        let name = match &self.identity {
            CertIdentity::Named(name) => Some(name),
            CertIdentity::SelfSigned => None,
        };
        (
            self.kind,
            self.source.as_ref().map_or(u32::MAX, |source| source.rank),
            name,
        )
    }

    /// Whether a client with these abilities can use the certificate.
    pub(super) fn suits(&self, client: Abilities) -> bool {
        let suite = match self.kind {
            KeyKind::Rsa => client.rsa_suite,
            KeyKind::Ecdsa | KeyKind::Ed25519 => client.ecdsa_suite,
        };
        suite && self.schemes.meets(client.schemes)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Entry")
            .field("identity", &self.identity)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// What a `ClientHello` says about the certificates that the client can verify.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abilities {
    schemes: SchemeSet,
    ecdsa_suite: bool,
    rsa_suite: bool,
}

impl Abilities {
    pub(super) fn of(hello: &ClientHello<'_>) -> Self {
        let suites = hello.cipher_suites();
        // A suite of TLS 1.3 says nothing about the key; one of TLS 1.2 names its type.
        let tls13 = suites.iter().any(|suite| u16::from(*suite) >> 8 == 0x13);
        Self {
            schemes: SchemeSet::of(hello.signature_schemes()),
            ecdsa_suite: tls13 || suites.iter().any(|suite| ECDSA_SUITES.contains(suite)),
            rsa_suite: tls13 || suites.iter().any(|suite| RSA_SUITES.contains(suite)),
        }
    }
}

/// A set of signature schemes, one bit for each of [`SCHEMES`].
#[derive(Clone, Copy, Debug)]
struct SchemeSet(u16);

impl SchemeSet {
    fn of<'a>(schemes: impl IntoIterator<Item = &'a SignatureScheme>) -> Self {
        let bit = |scheme| {
            SCHEMES
                .iter()
                .position(|known| known == scheme)
                .map_or(0, |index| 1_u16 << index)
        };
        Self(schemes.into_iter().fold(0, |bits, scheme| bits | bit(scheme)))
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

const SCHEMES: [SignatureScheme; 10] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ECDSA_NISTP521_SHA512,
    SignatureScheme::ED25519,
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// The suites of TLS 1.2 that rustls serves with an ECDSA key.
const ECDSA_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The suites of TLS 1.2 that rustls serves with an RSA key.
const RSA_SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];
