//! Addresses of Services of type `LoadBalancer`: who gets which of the pools' addresses, and how that is written.
//!
//! [`plan::plan`] decides, as a function of plain facts; [`write::writes`] says what of its decisions is not written yet;
//! [`ahead::Ahead`] keeps what was written and has not come back yet. [`run()`] does what they say, on the leader only.

pub mod ahead;
pub mod configured;
pub mod facts;
pub mod plan;
pub mod pool;
mod shell;
pub mod write;

pub use shell::run;
