//! Tests against a real API server without nodes: etcd and kube-apiserver on loopback. `cargo xtask test api`.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: a failure here is a failed test"
)]

mod addresses;
mod cli;
mod controller;
mod events;
mod identity;
mod leading;
mod server;
mod status;
