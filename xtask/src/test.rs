//! `cargo xtask test`: every check of the repository, one stage after another, each within a time of its own.
//!
//! A stage that cannot run (a tool is missing, a build fails, its time is over) counts as failed, never as passed. The
//! last line of the output is `N passed, N failed`, and the exit code is 1 unless the second number is 0.

mod command;
mod kubernetes;
mod targets;
mod tools;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};

use command::{Outcome, Run};
use targets::Of;

/// One stage: its name, its time, and what it does.
struct Stage {
    name: &'static str,
    budget: Duration,
    run: fn(&Workspace, Duration) -> Outcome,
}

/// The stages in the order in which they run: what is quick to say no comes first.
const STAGES: &[Stage] = &[
    Stage {
        name: "format",
        budget: minutes(2),
        run: format,
    },
    Stage {
        name: "repository",
        budget: minutes(10),
        run: repository,
    },
    Stage {
        name: "dependencies",
        budget: minutes(5),
        run: dependencies,
    },
    Stage {
        name: "lints",
        budget: minutes(15),
        run: lints,
    },
    Stage {
        name: "tests",
        budget: minutes(25),
        run: tests,
    },
    Stage {
        name: "tools",
        budget: minutes(10),
        run: tools::build,
    },
    Stage {
        name: "end-to-end",
        budget: minutes(25),
        run: end_to_end,
    },
    Stage {
        name: "lab",
        budget: minutes(30),
        run: kubernetes::programs,
    },
    Stage {
        name: "charts",
        budget: minutes(5),
        run: charts,
    },
    Stage {
        name: "api",
        budget: minutes(10),
        run: kubernetes::api,
    },
    Stage {
        name: "cluster",
        budget: minutes(15),
        run: kubernetes::cluster,
    },
    Stage {
        name: "fuzz",
        budget: minutes(20),
        run: fuzz,
    },
];

/// Checks of this program itself that the `repository` stage runs.
const CHECKS: &[&[&str]] = &[&["purity"], &["docs", "--check"], &["sizes"]];

/// Seconds that each fuzz target runs; long runs are commands of their own (`fuzz/README.md`).
const FUZZ_SECONDS: u32 = 20;

/// Where things lie.
struct Workspace {
    /// The root of the repository.
    root: PathBuf,
    /// This program.
    program: PathBuf,
    /// Where cargo puts binaries.
    binaries: PathBuf,
    /// Where built tools of other languages go: in cargo's target folder, so outside the clone where that is.
    tools: PathBuf,
}

impl Workspace {
    fn find() -> Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask/ lies in the repository")?
            .to_owned();
        let program = std::env::current_exe().context("finding this program")?;
        let target = program
            .ancestors()
            .nth(2)
            .context("this program lies in TARGET/debug")?;
        Ok(Self {
            root,
            binaries: target.join("debug"),
            tools: target.join("e2e-tools"),
            program,
        })
    }

    /// A run of `cargo test`; always of the whole workspace, since another selection of packages has other features of
    /// the dependencies, which are compiled once more then.
    fn test(&self, selection: &[&str]) -> Run {
        self.cargo(&[&["test", "--workspace", "--no-fail-fast"], selection].concat())
    }

    /// A run of cargo in the root of the repository.
    fn cargo(&self, arguments: &[&str]) -> Run {
        Run::new("cargo", arguments).in_folder(&self.root)
    }
}

/// Runs the stages named in `only` (all when it is empty) and prints what they found; exit code 1 unless all passed.
///
/// # Errors
/// When `only` names something that is no stage.
#[expect(clippy::print_stdout, reason = "the summary is this command's output")]
pub(crate) fn run(only: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = only
        .iter()
        .find(|name| STAGES.iter().all(|stage| stage.name != name.as_str()))
    {
        let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        bail!("there is no stage '{unknown}'; the stages are {}", known.join(", "));
    }
    let workspace = Workspace::find()?;
    let mut summary = Vec::new();
    let mut total = Outcome::default();
    for stage in STAGES
        .iter()
        .filter(|stage| only.is_empty() || only.iter().any(|name| name == stage.name))
    {
        println!("\n== {} (at most {} min)", stage.name, stage.budget.as_secs() / 60);
        let (outcome, seconds) = command::timed(|| (stage.run)(&workspace, stage.budget));
        summary.push(format!("{:<14} {outcome} in {seconds} s", stage.name));
        total.add(outcome);
    }
    println!("\n{}", summary.join("\n"));
    for note in &total.notes {
        println!("note: {note}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn format(workspace: &Workspace, budget: Duration) -> Outcome {
    workspace.cargo(&["fmt", "--all", "--check"]).check(budget)
}

/// Layers, generated pages, sizes of files and functions.
fn repository(workspace: &Workspace, budget: Duration) -> Outcome {
    let mut total = Outcome::default();
    for arguments in CHECKS {
        let program = workspace.program.to_string_lossy();
        total.add(Run::new(&program, arguments).in_folder(&workspace.root).check(budget));
    }
    total
}

/// What the Helm charts render, with the Helm of the lab.
fn charts(workspace: &Workspace, budget: Duration) -> Outcome {
    let lab = ["run", "--package", "propylon-e2e", "--bin", "lab", "--", "deps"];
    let output = workspace.cargo(&lab).output(budget);
    let Some(folder) = output.text.lines().rev().find(|line| line.starts_with('/')) else {
        return Outcome::failure("the charts cannot be rendered: `lab deps` names no folder with Helm");
    };
    Run::new(&workspace.program.to_string_lossy(), &["charts"])
        .in_folder(&workspace.root)
        .with_environment("PROPYLON_E2E_TOOLS", folder)
        .check(budget)
}

/// Licences, banned and repeated crates, sources; advisories where their database can be reached.
fn dependencies(workspace: &Workspace, budget: Duration) -> Outcome {
    let mut total = workspace
        .cargo(&["deny", "check", "bans", "licenses", "sources"])
        .check(budget);
    let advisories = workspace.cargo(&["deny", "check", "advisories"]).output(budget);
    if advisories.text.contains("failed to fetch advisory database") {
        total
            .notes
            .push("the advisory database could not be reached; advisories were not checked".to_owned());
    } else {
        total.add(advisories.as_check());
    }
    total
}

fn lints(workspace: &Workspace, budget: Duration) -> Outcome {
    workspace
        .cargo(
            &[
                &[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--features",
                    kubernetes::FEATURE,
                ],
                &["--", "--deny", "warnings"][..],
            ]
            .concat(),
        )
        .check(budget)
}

/// Unit, golden, property and documentation tests, and the integration tests of every crate but `e2e`.
fn tests(workspace: &Workspace, budget: Duration) -> Outcome {
    let selection = match targets::integration_tests(&workspace.root, Of::OtherCrates) {
        Ok(names) => names,
        Err(error) => return Outcome::failure(format!("the tests cannot be listed: {error:#}")),
    };
    let mut total = workspace
        .test(&[&["--lib", "--bins"], &arguments(&selection)[..]].concat())
        .count_tests(budget);
    total.add(workspace.test(&["--doc"]).count_tests(budget));
    total
}

/// Black-box tests of the built binary with real clients, h2spec among them.
fn end_to_end(workspace: &Workspace, budget: Duration) -> Outcome {
    let selection = match targets::integration_tests(&workspace.root, Of::EndToEnd) {
        Ok(names) => names,
        Err(error) => return Outcome::failure(format!("the tests cannot be listed: {error:#}")),
    };
    // With the tests: alone the programs would have other features of the dependencies, which are compiled once more then.
    let programs = ["build", "--workspace", "--bins"];
    let built = workspace
        .cargo(&[&programs, &arguments(&selection)[..]].concat())
        .check(budget);
    if built.failed > 0 {
        return built;
    }
    let (tools, binaries) = (workspace.tools.to_string_lossy(), workspace.binaries.to_string_lossy());
    workspace
        .test(&arguments(&selection))
        .with_environment("PROPYLON_E2E_TOOLS", &tools)
        .with_environment("PROPYLON_BIN_DIR", &binaries)
        .count_tests(budget)
}

/// `--test NAME` for each.
fn arguments(names: &[String]) -> Vec<&str> {
    names.iter().flat_map(|name| ["--test", name.as_str()]).collect()
}

/// A short run of every fuzz target.
fn fuzz(workspace: &Workspace, budget: Duration) -> Outcome {
    let listed = workspace.cargo(&["+nightly", "fuzz", "list"]).output(budget);
    let targets: Vec<&str> = listed
        .text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if !listed.succeeded || targets.is_empty() {
        let reason = "cargo-fuzz, the nightly toolchain or fuzz/ is missing: no target could be listed";
        return Outcome::failure(reason);
    }
    let time = format!("-max_total_time={FUZZ_SECONDS}");
    let mut total = Outcome::default();
    for target in targets {
        total.add(
            workspace
                .cargo(&["+nightly", "fuzz", "run", "--sanitizer", "none", target, "--", &time])
                .check(budget),
        );
    }
    total
}

const fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}
