//! The status of Ingresses: where clients reach them.
//!
//! [`plan::decide`] decides about one Ingress, as a function of plain facts; [`nodes::Readiness`] which nodes run a ready proxy.
//! [`run()`] does what they say, on the leader only.

pub mod nodes;
pub mod plan;
pub mod published;
mod shell;

pub use shell::run;
