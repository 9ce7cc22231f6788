//! Certificates and the hosts that they may be used for.

use std::{fmt, hash, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::{
    host::{HostName, HostPattern},
    text,
};

/// A private key in DER form (PKCS#8, PKCS#1 or SEC1); never printed, wiped from memory when dropped.
#[derive(Clone)]
pub struct PrivateKeyDer(Arc<Zeroizing<Vec<u8>>>);

impl PrivateKeyDer {
    /// Takes the key.
    pub fn new(der: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(der)))
    }

    /// The DER bytes.
    pub fn secret_der(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyDer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PrivateKeyDer(redacted)")
    }
}

impl PartialEq for PrivateKeyDer {
    fn eq(&self, other: &Self) -> bool {
        self.secret_der() == other.secret_der()
    }
}

impl Eq for PrivateKeyDer {}

impl hash::Hash for PrivateKeyDer {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.secret_der().hash(state);
    }
}

/// Base64; the text in between is wiped as well.
impl Serialize for PrivateKeyDer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text::to_base64(self.secret_der()))
    }
}

impl<'de> Deserialize<'de> for PrivateKeyDer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        text::from_base64(&text).map(Self::new)
    }
}

/// One `kubernetes.io/tls` Secret and the hosts that it serves; the chain and the key are known to parse and to match.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
pub struct Certificate {
    /// Host patterns (exact or wildcard) that this certificate serves, already limited to its SANs and to the owning
    /// namespace of each host, in order; [`HostPattern::Any`] marks the default certificate.
    pub hosts: Vec<HostPattern>,
    /// Exact hosts one label below a wildcard of `hosts` that belong to another namespace, in order: the wildcard does not
    /// serve them. It limits wildcards only, not the default certificate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_for: Vec<HostName>,
    /// The chain, leaf first, each DER.
    #[serde(with = "text::base64_list")]
    pub chain_der: Arc<[Vec<u8>]>,
    /// The key of the leaf.
    pub key: PrivateKeyDer,
    /// End of the leaf's validity, Unix time in seconds.
    pub not_after_unix_s: i64,
    /// Order between certificates of one host and key type: the lowest wins (age of the Secret, then its name).
    #[serde(default)]
    pub rank: u32,
}
