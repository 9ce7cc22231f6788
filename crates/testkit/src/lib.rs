//! What tests, the demo and the benchmarks share: echo backends, raw peers, certificates, process control.
//!
//! What it is: real counterparts of the proxy, on loopback, on ports that the kernel chooses. What it is not: a fake of
//! any part of Propylon; it links none of its crates, so that what it sees is what a stranger would see.
//!
//! Start from [`echo::EchoServer`] for a backend, [`raw::RawClient`] for a client that speaks bytes, and
//! [`process::Process`] for the built binary.

pub mod certs;
pub mod dns;
pub mod echo;
pub mod manifest;
pub mod process;
pub mod raw;
pub mod wait;
