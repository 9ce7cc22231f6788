//! The programs of other projects that the benchmarks run, and the machine they run on.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The Debian packages that bring everything but Envoy.
pub(crate) const PACKAGES: &str = "apt-get install nginx-light libnginx-mod-stream haproxy nghttp2-client wrk valgrind";

/// Finds `name` in the usual folders, or takes it as a path if it contains a slash.
pub(crate) fn find(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_owned());
    }
    [
        "/usr/local/bin",
        "/usr/bin",
        "/usr/sbin",
        "/usr/local/sbin",
        "/bin",
        "/sbin",
    ]
    .iter()
    .map(|folder| Path::new(folder).join(name))
    .find(|path| path.is_file())
}

/// Fails with the command that installs what is missing.
///
/// # Errors
///
/// When one of `names` is not installed.
pub(crate) fn require(names: &[&str]) -> Result<()> {
    let missing: Vec<&str> = names
        .iter()
        .filter(|name| find(Path::new(name)).is_none())
        .copied()
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("not installed: {}; on Debian: {PACKAGES}", missing.join(", "))
}

/// The first line `program` prints about its version.
pub(crate) fn version(program: &Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return "version unknown".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines()
        .find(|line| line.contains(char::is_numeric))
        .unwrap_or("version unknown")
        .trim()
        .to_owned()
}

/// Raises the limit of open files to what the system allows and gives it; children inherit it.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        eprintln!("the limit of open files could not be raised");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// CPUs, their model and the kernel, in one line.
pub(crate) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown model", |(_, model)| model.trim());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cpus} CPUs ({model}), Linux {}", kernel.trim())
}

/// Builds the shipped profile of `propylon` and gives the path of the binary.
///
/// # Errors
///
/// When the build fails or cargo names no binary.
pub(crate) fn build_propylon() -> Result<PathBuf> {
    eprintln!("building propylon in its dist profile");
    let output = Command::new("cargo")
        .args(["build", "--profile", "dist", "-p", "propylon-cli", "--bin", "propylon"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("start cargo")?;
    if !output.status.success() {
        bail!("cargo build ended with {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .next_back()
        .context("cargo named no binary")
}
