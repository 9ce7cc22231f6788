//! Versions: of the content of a resource, of a whole state, and the publisher's own count.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A count of changes of one publisher: it grows with every change and starts again with the process; 0 is the state
/// before the first publication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The version of one resource: the first 128 bits of SHA-256 of its kind, its name and its payload. Equal content has
/// equal versions on every replica of one release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentVersion(u128);

impl ContentVersion {
    /// Computes the version of a payload.
    ///
    /// # Cost
    /// Linear in the payload.
    pub fn of(kind: u32, name: &str, payload: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&kind.to_le_bytes());
        context.update(&(name.len() as u64).to_le_bytes());
        context.update(name.as_bytes());
        context.update(payload);
        let digest = context.finish();
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        Self(u128::from_le_bytes(first))
    }

    /// Reads the form of the stream: 16 bytes; none where the length is another.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u128::from_le_bytes(bytes)))
    }

    /// The form of the stream.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

/// The version of a whole state: the sum of the versions of its resources, whatever order they came in. Two replicas with
/// the same world have the same version; the empty state is zero.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct StateVersion(u128);

impl StateVersion {
    /// The version of the state without resources.
    pub const EMPTY: Self = Self(0);

    /// Adds a resource.
    pub const fn add(&mut self, version: ContentVersion) {
        self.0 = self.0.wrapping_add(version.0);
    }

    /// Takes a resource away that was added before.
    pub const fn subtract(&mut self, version: ContentVersion) {
        self.0 = self.0.wrapping_sub(version.0);
    }

    /// Reads the form of the stream: 16 bytes; none where the length is another.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u128::from_le_bytes(bytes)))
    }

    /// The form of the stream.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for StateVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for StateVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "StateVersion({self})")
    }
}

/// A text is no version of a state.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a version of the state is 32 hexadecimal digits")]
pub struct VersionError;

impl FromStr for StateVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(VersionError);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| VersionError)
    }
}

impl TryFrom<String> for StateVersion {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<StateVersion> for String {
    fn from(version: StateVersion) -> Self {
        version.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_does_not_depend_on_the_order() {
        let [a, b] = ["a", "b"].map(|name| ContentVersion::of(1, name, b"{}"));
        let (mut one, mut other) = (StateVersion::EMPTY, StateVersion::EMPTY);
        one.add(a);
        one.add(b);
        other.add(b);
        other.add(a);
        assert_eq!(one, other);
        one.subtract(a);
        one.subtract(b);
        assert_eq!(one, StateVersion::EMPTY);
    }

    #[test]
    fn kind_name_and_payload_are_told_apart() {
        let base = ContentVersion::of(1, "ab", b"c");
        assert_ne!(base, ContentVersion::of(2, "ab", b"c"));
        assert_ne!(base, ContentVersion::of(1, "a", b"bc"));
        assert_ne!(base, ContentVersion::of(1, "ab", b"d"));
    }

    #[test]
    fn the_text_of_a_state_reads_back() {
        let mut state = StateVersion::EMPTY;
        state.add(ContentVersion::of(1, "a", b"x"));
        assert_eq!(state.to_string().parse(), Ok(state));
        assert_eq!(StateVersion::from_bytes(&state.to_bytes()), Some(state));
        for text in ["", "12", "+0000000000000000000000000000001", &"g".repeat(32)] {
            assert_eq!(text.parse::<StateVersion>(), Err(VersionError), "{text}");
        }
    }
}
