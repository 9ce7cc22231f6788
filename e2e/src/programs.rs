//! Real clients: curl, h2load, openssl, and the Go tools h2spec and grpcurl.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// Runs a program of the machine to its end.
///
/// # Panics
/// When it is missing: a test that needs it has failed then.
pub fn run(program: &str, arguments: &[&str]) -> Finished {
    let output = Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output();
    Finished(output.unwrap_or_else(|error| panic!("{program} cannot be run ({error}); .ci/run installs it")))
}

/// Runs curl with `--silent --show-error` and a time limit of 20 s.
///
/// # Panics
/// When curl is missing.
pub fn curl(arguments: &[&str]) -> Finished {
    run(
        "curl",
        &[
            &["--silent", "--show-error", "--max-time", "20", "--noproxy", "*"],
            arguments,
        ]
        .concat(),
    )
}

/// The path of a Go tool, which `cargo xtask test` builds into `TARGET/e2e-tools`.
///
/// # Panics
/// When it is not built.
pub fn tool(name: &str) -> String {
    let test = std::env::current_exe().expect("this program has a path");
    let folder = std::env::var_os("PROPYLON_E2E_TOOLS").map(PathBuf::from);
    let folder = folder.or_else(|| test.ancestors().nth(3).map(|target| target.join("e2e-tools")));
    let path = folder.expect("tests lie in TARGET/debug/deps").join(name);
    assert!(
        path.is_file(),
        "{} is missing: `cargo xtask test tools` builds it",
        path.display()
    );
    path.display().to_string()
}

/// What a program printed and how it ended.
pub struct Finished(pub Output);

impl Finished {
    /// Whether the exit code is 0.
    pub fn succeeded(&self) -> bool {
        self.0.status.success()
    }

    /// Standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    /// Both outputs.
    pub fn text(&self) -> String {
        self.stdout() + &String::from_utf8_lossy(&self.0.stderr)
    }
}
