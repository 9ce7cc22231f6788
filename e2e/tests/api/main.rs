//! Tests against a real API server without nodes: etcd and kube-apiserver on loopback. `cargo xtask test api`.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests: a failure here is a failed test"
)]
#![expect(clippy::large_futures, reason = "one test waits for one future at a time")]
#![expect(clippy::unused_self, reason = "what a scene can be asked reads as a question to it")]

mod addresses;
mod cli;
mod controller;
mod events;
mod identity;
mod leading;
mod server;
mod status;
