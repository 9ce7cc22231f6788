//! Events on the objects of users: what is wrong with them, and the few things that went well.
//!
//! [`record::Record`] is one of them, [`journal::Journal`] decides which are written when, [`Recorder`] is how the other
//! duties hand theirs in. [`run()`] writes, on the leader only.

pub mod journal;
pub mod record;
mod recorder;
mod shell;

pub use recorder::Recorder;
pub(crate) use shell::reference;
pub use shell::run;
