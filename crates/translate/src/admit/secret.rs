//! Secret.

use k8s_openapi::{ByteString, api::core::v1::Secret};

use super::field::Errors;

const MAX_SECRET_BYTES: usize = 1024 * 1024;

pub(super) fn admit(secret: &mut Secret, errors: &mut Errors) {
    let data = secret.data.get_or_insert_default();
    for (key, text) in secret.string_data.take().unwrap_or_default() {
        data.insert(key, ByteString(text.into_bytes()));
    }
    for key in data.keys().filter(|key| !is_data_key(key)) {
        errors.invalid(
            format!("data[{key}]"),
            key,
            "a valid key must consist of alphanumeric characters, '-', '_' or '.', and have at most 253 characters",
        );
    }
    if data.values().map(|value| value.0.len()).sum::<usize>() > MAX_SECRET_BYTES {
        errors.invalid("data", "", "Too long: may not be more than 1048576 bytes");
    }
    let type_ = secret.type_.get_or_insert_default();
    if type_.is_empty() {
        "Opaque".clone_into(type_);
    }
    if type_ == "kubernetes.io/tls" {
        for key in ["tls.crt", "tls.key"]
            .into_iter()
            .filter(|key| !data.contains_key(*key))
        {
            errors.required(format!("data[{key}]"), "a Secret of type kubernetes.io/tls needs it");
        }
    }
}

/// Whether a key of `data` is one that the API server accepts.
pub(super) fn is_data_key(key: &str) -> bool {
    (1..=253).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
        && key != "."
        && !key.starts_with("..")
}
