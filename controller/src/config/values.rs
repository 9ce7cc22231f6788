//! Values that are more than a word.

use std::{fmt, str::FromStr, sync::Arc};

use propylon_translate::Key;
use thiserror::Error;

use super::Ranges;

/// Why a value does not parse. Not retryable.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ValueError {
    /// Not the form of a name.
    #[error("'{0}': write NAMESPACE/NAME, such as default/web")]
    Name(String),
    /// Not the form of a range of ports.
    #[error("'{0}': write a port or FIRST-LAST, each 1 to 65535, such as 1024-29999")]
    Ports(String),
}

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortRange {
    /// The first, 1 to 65535.
    pub first: u16,
    /// The last, at least the first.
    pub last: u16,
}

impl PortRange {
    /// Whether the port is one of these.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// `FIRST-LAST`, or the one port.
impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(formatter, "{}", self.first);
        }
        write!(formatter, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::Ports(text.to_owned());
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = port(first).zip(port(last)).ok_or_else(wrong)?;
        if first > last {
            return Err(wrong());
        }
        Ok(Self { first, last })
    }
}

/// Reads `NAMESPACE/NAME`.
pub(super) fn parse_key(text: &str) -> Result<Key, ValueError> {
    let wrong = || ValueError::Name(text.to_owned());
    let (namespace, name) = text.split_once('/').ok_or_else(wrong)?;
    if namespace.is_empty() || name.is_empty() || name.contains('/') {
        return Err(wrong());
    }
    Ok(Key::new(namespace, name))
}

/// Reads ranges of ports, separated by commas.
pub(super) fn parse_ranges(text: &str) -> Result<Ranges, ValueError> {
    let ranges: Result<Vec<PortRange>, ValueError> = text.split(',').map(str::parse).collect();
    ranges.map(Arc::from)
}
