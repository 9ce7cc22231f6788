//! Black-box tests of the built binaries: what they need to start the proxy and to speak to it.
//!
//! What it is: a running `propylon` with a folder of manifests ([`Gate`]), and clients that show what real ones hide.
//! What it is not: a way into the process; nothing here links any of the product's crates.
//!
//! Start from [`Gate::start`]. Everything in here panics where a test could only fail, with the output of the process.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "test support: a failure here is a failed test"
)]

pub mod browser;
pub mod echo;
pub mod faults;
pub mod frames;
pub mod gate;
pub mod http2;
pub mod image;
pub mod lab;
pub mod load;
pub mod manifests;
pub mod ports;
pub mod programs;
pub mod report;
pub mod stage;
pub mod terminal;
pub mod websocket;

pub use gate::Gate;
pub use http2::Http2;
