//! Repository chores: purity check, generated reference pages.

mod test;

use std::process::ExitCode;

use anyhow::Result;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "test" => test::run(rest),
        _ => anyhow::bail!("test"),
    }
}
