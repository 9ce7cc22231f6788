//! `ConfigMap`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{field::Errors, secret::is_data_key};

const MAX_BYTES: usize = 1024 * 1024;

pub(super) fn admit(config_map: &ConfigMap, errors: &mut Errors) {
    let data = config_map.data.iter().flatten().map(|(key, text)| (key, text.len()));
    let binary = config_map.binary_data.iter().flatten();
    let binary = binary.map(|(key, bytes)| (key, bytes.0.len()));
    let mut seen = BTreeSet::new();
    let mut size = 0_usize;
    for (field, (key, bytes)) in data
        .map(|entry| ("data", entry))
        .chain(binary.map(|entry| ("binaryData", entry)))
    {
        size = size.saturating_add(bytes);
        if !is_data_key(key) {
            errors.invalid(
                format!("{field}[{key}]"),
                key,
                "a valid key must consist of alphanumeric characters, '-', '_' or '.', and have at most 253 characters",
            );
        }
        if !seen.insert(key) {
            errors.invalid(format!("{field}[{key}]"), key, "duplicate of key present in data");
        }
    }
    if size > MAX_BYTES {
        errors.invalid("", "", "Too long: may not be more than 1048576 bytes");
    }
}
