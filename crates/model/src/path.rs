//! The one normal form in which paths are compared, of rules and of requests.

mod error;
mod readings;
mod request;
mod segment;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub use self::{error::PathError, request::RequestPath};

/// A path in normal form: starts with `/`, every percent-encoded octet that may stand in a segment decoded (unreserved,
/// sub-delims, `:`, `@`; RFC 3986 3.3), every other octet escaped with upper-case digits, dot segments removed, then
/// repeated slashes merged.
///
/// `{` and `}`, `|` and octets above 0x7F may not stand in a segment, so that the normal form has them escaped, however
/// they were written: a rule `/{id}` and a request for `/%7Bid%7D` meet as `/%7Bid%7D`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct NormalPath(Arc<str>);

impl NormalPath {
    /// Reads the path of a rule; `{`, `}` and `*` are literals.
    ///
    /// # Errors
    /// What a request is refused for ([`RequestPath::parse`]), since such a rule could never match, and an encoded slash
    /// ([`PathError::EncodedSlashInRule`]). Not retryable.
    pub fn parse_rule(raw: &str) -> Result<Self, PathError> {
        let path = RequestPath::parse(raw)?;
        if path.has_encoded_slash() {
            return Err(PathError::EncodedSlashInRule);
        }
        Ok(Self(path.normal().into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text without a trailing slash: what counts of a `Prefix` rule; empty for `/`.
    pub fn without_trailing_slash(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or(&self.0)
    }
}

impl fmt::Display for NormalPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The normal form is its own: reading it again changes nothing.
impl TryFrom<String> for NormalPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse_rule(&text)
    }
}

impl From<NormalPath> for String {
    fn from(path: NormalPath) -> Self {
        path.as_str().to_owned()
    }
}
