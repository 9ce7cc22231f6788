//! Kubernetes objects to the intermediate representation, with a report per object.
//!
//! What it is: the one compile path. A folder of manifests, the API server and the tests fill a [`World`];
//! [`compile`] turns it into [`propylon_model::Resources`] and says in [`propylon_model::Report`]s what it could not
//! serve as written; a [`Compiler`] does the same for a world that changes, one [`Step`] at a time. [`manifest`] reads texts, [`admit`] does what the API server does to an object before it is stored.
//!
//! What it is not: it reads no clock, no file and no environment; the time is an argument ([`Options::now_unix_s`]).
//! Kubernetes input never stops a compile: it becomes a report, and the rest of the world is still served.
//!
//! Start from [`World`].

pub mod admit;
pub mod annotations;
pub mod manifest;

mod backends;
mod classes;
pub mod cluster;
mod compile;
mod compiler;
mod conflicts;
mod endpoints;
mod engine;
mod facts;
mod grants;
mod groups;
mod l4;
mod lint;
mod memory;
mod nginx;
mod passthrough;
mod reports;
mod settings;
mod spelling;
mod tls;
mod world;

pub use classes::is_ours;
pub use compile::{Compiled, compile};
pub use compiler::{Compiler, ReportChanges, ReportsByObject, Step};
pub use lint::lint;
pub use memory::Memory;
pub use world::{Key, Options, PortRef, ServiceMap, World};
