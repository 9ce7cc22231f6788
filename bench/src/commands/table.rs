//! `table`: figures of the routing table, printed by the example of `propylon-routing`.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools;

/// Runs `crates/routing/examples/table.rs` in the release profile; its output is the report.
///
/// # Errors
///
/// When it cannot be built or fails.
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
    Ok(())
}
