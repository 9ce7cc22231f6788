//! The messages of `propylon.v1`, as protobuf. The numbers of fields are for ever; `docs/stream.md` has the same as text.

use std::fmt;

use bytes::Bytes;

/// From the proxy to the controller.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Request {
    /// One of the kinds of requests; a kind that is not known is an error.
    #[prost(oneof = "request::Kind", tags = "1, 2, 3")]
    pub kind: Option<request::Kind>,
}

/// The kinds of [`Request`].
pub mod request {
    /// One of them.
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        /// The first of a stream.
        #[prost(message, tag = "1")]
        Hello(super::Hello),
        /// What the proxy has seen, by name; only when it was asked.
        #[prost(message, tag = "2")]
        Versions(super::Versions),
        /// A transaction was applied.
        #[prost(message, tag = "3")]
        Ack(super::Ack),
    }
}

/// The first message of a proxy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// Version of the protocol; this is 1.
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// The release of the proxy, for people.
    #[prost(string, tag = "2")]
    pub release: String,
    /// Version of the state that the proxy has seen, 16 bytes; empty where it wants to be asked for all versions.
    #[prost(bytes = "bytes", tag = "3")]
    pub state: Bytes,
    /// What it has seen and not taken.
    #[prost(message, repeated, tag = "4")]
    pub rejected: Vec<Rejected>,
}

/// Names and versions that a proxy has seen; the last part says so.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Versions {
    /// Names and versions.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Name>,
    /// Whether this is the last part.
    #[prost(bool, tag = "2")]
    pub is_last: bool,
}

/// A resource by kind and name, with or without the version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Name {
    /// [`crate::ResourceKind`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The version, 16 bytes; empty where it does not matter.
    #[prost(bytes = "bytes", tag = "3")]
    pub version: Bytes,
}

/// A transaction was applied.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ack {
    /// The number of the transaction.
    #[prost(uint64, tag = "1")]
    pub transaction: u64,
    /// Everything that the proxy has seen and not taken, at most 256, not only of this transaction.
    #[prost(message, repeated, tag = "2")]
    pub rejected: Vec<Rejected>,
}

/// A resource that was not taken, and why.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rejected {
    /// [`crate::ResourceKind`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Why, at most 512 bytes.
    #[prost(string, tag = "3")]
    pub message: String,
}

/// From the controller to the proxy: a part of a transaction, or the wish to know what the proxy has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    /// The number of the transaction that this is a part of; 0 with `ask_versions`.
    #[prost(uint64, tag = "1")]
    pub transaction: u64,
    /// Resources that are new or changed.
    #[prost(message, repeated, tag = "2")]
    pub resources: Vec<Resource>,
    /// Resources that are gone.
    #[prost(message, repeated, tag = "3")]
    pub removed: Vec<Name>,
    /// Ends the transaction: what was sent of it is applied, all at once.
    #[prost(message, optional, tag = "4")]
    pub commit: Option<Commit>,
    /// Asks for [`Versions`].
    #[prost(bool, tag = "5")]
    pub ask_versions: bool,
}

/// The end of a transaction.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Commit {
    /// The controller's count of changes, for logs and metrics.
    #[prost(uint64, tag = "1")]
    pub generation: u64,
    /// Version of the state that the proxy has seen now, 16 bytes, as a check; empty where it is not known.
    #[prost(bytes = "bytes", tag = "2")]
    pub state: Bytes,
}

/// A resource.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct Resource {
    /// [`crate::ResourceKind`].
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    /// The name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// The version of the content, 16 bytes.
    #[prost(bytes = "bytes", tag = "3")]
    pub version: Bytes,
    /// JSON of the IR type.
    #[prost(bytes = "bytes", tag = "4")]
    pub payload: Bytes,
}

/// Without the payload, which may hold a key.
impl fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name, bytes) = (self.kind, &self.name, self.payload.len());
        write!(formatter, "Resource({kind} {name}, {bytes} bytes)")
    }
}
