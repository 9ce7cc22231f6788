//! How values are written as text for the wire: binary as base64, defaults left out.
//!
//! A default of the IR never changes its value, since the two ends of a stream may be of different versions: what is to
//! behave differently gets a field of its own.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::de::Error;
use zeroize::Zeroizing;

/// Whether a value is the default, which is not written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Base64 (RFC 4648 section 4) that is wiped when dropped, since it may be a key.
pub(crate) fn to_base64(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

/// Reads base64; the message never quotes the text.
pub(crate) fn from_base64<E: Error>(text: &str) -> Result<Vec<u8>, E> {
    STANDARD
        .decode(text)
        .map_err(|_| E::custom("not base64 with padding (RFC 4648 section 4)"))
}

/// A list of DER values.
pub(crate) mod base64_list {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(list: &Arc<[Vec<u8>]>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(list.iter().map(|der| super::to_base64(der).as_str().to_owned()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[Vec<u8>]>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| super::from_base64(text)).collect()
    }
}

/// A list of DER values that may be missing.
pub(crate) mod optional_base64_list {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize, Serialize)]
    #[serde(transparent)]
    struct List(#[serde(with = "super::base64_list")] Arc<[Vec<u8>]>);

    #[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(list: &Option<Arc<[Vec<u8>]>>, serializer: S) -> Result<S::Ok, S::Error> {
        list.clone().map(List).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
    where
        D: Deserializer<'de>,
        T: From<Arc<[Vec<u8>]>>,
    {
        Ok(Option::<List>::deserialize(deserializer)?.map(|list| T::from(list.0)))
    }
}
