//! Host names and the patterns that a rule may have in their place.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A host name in canonical form: lower-case, no trailing dot, no port; DNS labels of 1 to 63 characters, 253 in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(Arc<str>);

impl HostName {
    /// Reads a host name as Ingress accepts it (RFC 1123 subdomain); upper case and one trailing dot are made canonical.
    ///
    /// # Errors
    /// When the text is no RFC 1123 subdomain, or is an IP address (`networking.k8s.io/v1` allows no IP). Not retryable.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(HostError::IpAddress(text));
        }
        if text.is_empty() || text.len() > 253 || !text.split('.').all(is_label) {
            return Err(HostError::Invalid(text));
        }
        Ok(Self(text.into()))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostName {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<HostName> for String {
    fn from(host: HostName) -> Self {
        host.as_str().to_owned()
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a rule, or a certificate, says about the host: exact before one-label wildcard before none (KEP-1453).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum HostPattern {
    /// No host given: every host that no other pattern names.
    Any,
    /// One host.
    Exact(HostName),
    /// `*.SUFFIX`: exactly one label before the suffix.
    Wildcard(HostName),
}

impl HostPattern {
    /// Reads the `host` of an Ingress rule: empty, a name, or `*.` and a name.
    ///
    /// # Errors
    /// When the text is neither. Not retryable.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(suffix) => HostName::parse(suffix).map(Self::Wildcard),
            None => HostName::parse(text).map(Self::Exact),
        }
    }

    /// Whether the pattern covers a canonical host.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => name.as_str() == host,
            Self::Wildcard(suffix) => host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest == suffix.as_str()),
        }
    }
}

/// The text form: empty for [`HostPattern::Any`], `*.SUFFIX` for a wildcard.
impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => Ok(()),
            Self::Exact(name) => formatter.write_str(name.as_str()),
            Self::Wildcard(suffix) => write!(formatter, "*.{suffix}"),
        }
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostError;

    fn try_from(text: String) -> Result<Self, HostError> {
        Self::parse(&text)
    }
}

impl From<HostPattern> for String {
    fn from(pattern: HostPattern) -> Self {
        pattern.to_string()
    }
}

/// Why a text is no host.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum HostError {
    /// Not an RFC 1123 subdomain.
    #[error("'{0}' is no DNS name (labels of a-z, 0-9 and '-', 1 to 63 characters each, 253 in all)")]
    Invalid(String),
    /// An IP address.
    #[error("'{0}' is an IP address; an Ingress host must be a DNS name")]
    IpAddress(String),
}

fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form_is_lower_case_without_the_trailing_dot() {
        assert_eq!(HostName::parse("App.Example.COM.").unwrap().as_str(), "app.example.com");
    }

    #[test]
    fn invalid_names_are_refused() {
        for text in ["", "a..b", "-a.com", "a_b.com", "10.0.0.1", "::1", &"a".repeat(64), "*"] {
            assert!(HostName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_covers_exactly_one_label() {
        let pattern = HostPattern::parse("*.example.com").unwrap();
        assert!(pattern.covers("a.example.com"));
        assert!(!pattern.covers("a.b.example.com"));
        assert!(!pattern.covers("example.com"));
        assert!(!pattern.covers(".example.com"));
    }
}
