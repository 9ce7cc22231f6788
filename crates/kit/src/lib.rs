//! Clock, metrics, access log, admin server, tasks and telemetry shared by the shells.
//!
//! What it is: the parts of a process that every Propylon binary needs around its own work, and the only place that
//! reads the machine's clocks.
//!
//! What it is not: it decides nothing about traffic or Kubernetes objects, and nothing of it blocks a data-plane thread.
//!
//! Start from [`metrics::Registry`].

pub mod access_log;
pub mod admin;
pub mod backoff;
pub mod clock;
pub mod metrics;
pub mod tasks;
pub mod telemetry;
