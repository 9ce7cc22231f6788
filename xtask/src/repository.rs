//! Where the repository lies and which files belong to it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

/// A source file, by its path in the repository.
pub(crate) struct SourceFile {
    /// The path, with `/`.
    pub(crate) path: String,
    /// The text.
    pub(crate) text: String,
}

/// The root of the repository.
pub(crate) fn root() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    Ok(root.context("xtask/ lies in the repository")?.to_owned())
}

/// The Rust files of the repository, those not yet added to git too, in order.
pub(crate) fn rust_files() -> Result<Vec<SourceFile>> {
    let root = root()?;
    let arguments = [
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
        "--",
        "*.rs",
    ];
    let listed = Command::new("git")
        .args(arguments)
        .current_dir(&root)
        .output()
        .context("running git")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr).trim());
    }
    let listed = String::from_utf8(listed.stdout).context("names of files")?;
    let mut files = Vec::new();
    for path in listed.split_terminator('\0') {
        // A file that was deleted and not yet removed from git is no file.
        if let Ok(text) = fs::read_to_string(root.join(path)) {
            files.push(SourceFile {
                path: path.to_owned(),
                text,
            });
        }
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

/// Prints the faults, and then what was checked or how many faults there are; exit code 1 where there is one.
#[expect(clippy::print_stdout, reason = "the findings are this program's output")]
pub(crate) fn verdict(faults: &[String], checked: &str) -> ExitCode {
    for fault in faults {
        println!("{fault}");
    }
    if faults.is_empty() {
        println!("{checked}");
        return ExitCode::SUCCESS;
    }
    println!("{} found", faults.len());
    ExitCode::FAILURE
}
