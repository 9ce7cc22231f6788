//! `propylon-proxy` with a controller that is none: a stream and certificates from this process, no Kubernetes.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: a failure here is a failed test"
)]

mod controller;
mod credential;
mod gateway;
mod serve;
mod takeover;
