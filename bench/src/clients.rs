//! The load generators: `wrk` and `h2load` from outside, and own ones for what those cannot do.
//!
//! The own ones run as a process of their own (`propylon-bench load`), so that they can be placed on a CPU, and
//! print one line of JSON.

pub(crate) mod external;
mod fixed;
mod handshake;
mod idle;
mod open;
mod udp;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::args::{Client, LoadArgs};

/// What a load generator saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    /// Requests answered with status 200; datagrams that came back.
    pub(crate) requests: u64,
    /// Requests that failed or got another status.
    pub(crate) errors: u64,
    /// Handshakes that resumed an earlier session.
    pub(crate) resumed: u64,
    /// Version, cipher suite and key exchange of the last handshake.
    pub(crate) tls: String,
    /// Median latency from the intended send time, microseconds (open loop only).
    pub(crate) p50_us: f64,
    /// 99th percentile.
    pub(crate) p99_us: f64,
    /// 99.9th percentile.
    pub(crate) p999_us: f64,
}

impl Outcome {
    /// Adds what another thread saw.
    fn merge(&mut self, other: Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.resumed += other.resumed;
        if !other.tls.is_empty() {
            self.tls = other.tls;
        }
    }
}

/// Runs the client that `args` names and prints its [`Outcome`].
///
/// # Errors
///
/// When the load could not be made at all (single failed requests are counted instead).
pub(crate) fn run(args: &LoadArgs) -> Result<()> {
    let outcome = match args.client {
        Client::HandshakeFull => handshake::run(args, false)?,
        Client::HandshakeResumed => handshake::run(args, true)?,
        Client::Fixed => fixed::run(args)?,
        Client::Open => open::run(args)?,
        Client::Idle => idle::run(args)?,
        Client::Udp => udp::run(args)?,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
