//! Repository chores: the checks that no compiler makes, generated reference pages, and one command for all tests.

mod charts;
mod docs;
mod purity;
mod repository;
mod sizes;
mod source;
mod test;

use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "usage: cargo xtask COMMAND

  charts [--write] check the Helm charts: lint, what they render, rights, Pod Security, flags; --write renews goldens and
                   generated files
  docs [--check]   write docs/reference/ from the tables in the code; --check says what is out of date instead
  purity           check the layers, what pure crates and the proxy link, and where `unsafe` stands
  sizes            check the sizes of source files (also: size)
  test [STAGE...]  run every check of the repository, or the named stages";

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = arguments
        .split_first()
        .map_or(("", [].as_slice()), |(command, rest)| (command.as_str(), rest));
    match (command, rest) {
        ("charts", []) => charts::check(),
        ("charts", [flag]) if flag == "--write" => charts::write(),
        ("docs", []) => docs::write(),
        ("docs", [flag]) if flag == "--check" => docs::check(),
        ("purity", []) => purity::check(),
        ("size" | "sizes", []) => sizes::check(),
        ("test", stages) => test::run(stages),
        _ => anyhow::bail!("{USAGE}"),
    }
}
