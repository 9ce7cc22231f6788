//! What names a resource on the stream.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The kinds of resources, in the order in which they are made: what a kind refers to comes before it. They are removed
/// in the reverse order. The numbers are those of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u32)]
pub enum ResourceKind {
    /// [`propylon_model::Certificate`].
    Certificate = 1,
    /// [`propylon_model::Endpoints`].
    Endpoints = 2,
    /// [`propylon_model::Pool`].
    Pool = 3,
    /// [`propylon_model::RouteGroup`].
    RouteGroup = 4,
    /// [`propylon_model::Passthrough`].
    Passthrough = 5,
    /// [`propylon_model::L4Service`].
    L4Service = 6,
}

impl ResourceKind {
    /// All kinds, in the order in which they are made.
    pub const ALL: [Self; 6] = [
        Self::Certificate,
        Self::Endpoints,
        Self::Pool,
        Self::RouteGroup,
        Self::Passthrough,
        Self::L4Service,
    ];

    /// The kind of a number of the stream; none for one that this version does not know.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The number on the stream.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Endpoints => "endpoints",
            Self::L4Service => "layer 4 service",
            Self::Passthrough => "passthrough",
            Self::Pool => "pool",
            Self::RouteGroup => "route group",
        }
    }
}

/// A resource by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceKey {
    /// The kind.
    pub kind: ResourceKind,
    /// The name, as the IR has it.
    pub name: Arc<str>,
}

impl ResourceKey {
    /// Makes a key of its parts.
    pub fn new(kind: ResourceKind, name: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }
}

/// `route group shop/web/shop.example.com`.
impl fmt::Display for ResourceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind.as_str(), self.name)
    }
}
