//! `table`: figures of the routing table, from the example of `propylon-routing` and from a proxy in this process.

mod live;

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools;

/// Runs `crates/routing/examples/table.rs` in the release profile, whose output is part of the report, and then
/// changes the tables of a running proxy.
///
/// # Errors
///
/// When the example cannot be built or fails, or the proxy does not start.
pub(crate) fn run() -> Result<()> {
    println!("machine: {}\n", tools::machine());
    let status = Command::new("cargo")
        .args([
            "run",
            "--quiet",
            "--release",
            "-p",
            "propylon-routing",
            "--example",
            "table",
        ])
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("the example ended with {status}");
    }
    live::run()
}
