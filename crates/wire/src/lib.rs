//! The delta stream from the controller to the proxies: typed resources over gRPC, in the manner of delta xDS.
//!
//! What it is: a [`Publisher`] that holds the resources and their versions, [`Server`], which serves them to the proxies
//! over any authenticated byte stream, and [`Client`], which keeps a [`Mirror`] of them in a proxy and applies what
//! changed. The two ends of the protocol are without I/O, `session` and [`mirror`]; `docs/stream.md` describes it.
//!
//! What it is not: it makes no connection and knows no TLS, no Kubernetes object and no meaning of a resource.
//!
//! Start from [`Publisher`] on one side and from [`Client`] on the other.

mod client;
mod encoded;
pub mod identity;
mod key;
pub mod message;
pub mod mirror;
mod proxy;
mod publisher;
mod server;
mod session;
#[cfg(test)]
mod simulation;
pub mod snapshot;
mod value;
mod version;

pub use self::{
    client::{Client, ClientConfig, ClientError, ClientStatus, Connect},
    encoded::{DecodeError, Encoded},
    identity::{IssueError, IssueRequest, IssueResponse, Issuer},
    key::{ResourceKey, ResourceKind},
    mirror::{Apply, Mirror},
    proxy::{IdentityError, ProxyIdentity, ProxyState, Rejection},
    publisher::Publisher,
    server::{Peer, Server, serve},
    value::Value,
    version::{ContentVersion, Generation, StateVersion},
};
