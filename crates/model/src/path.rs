//! The one normal form in which paths are compared.

use std::{fmt, sync::Arc};

/// A path in normal form: starts with `/`, every percent-encoded octet that may stand in a segment decoded (unreserved,
/// sub-delims, `:`, `@`; RFC 3986 3.3), other escapes in upper case, dot segments removed, repeated slashes merged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NormalPath(Arc<str>);

impl NormalPath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NormalPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
