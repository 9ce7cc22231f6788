//! Whether this machine can run a cluster: everything that is missing, at once.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use super::sweep::hierarchies;

/// Programs, and the Debian packages that have them.
const PROGRAMS: &[(&str, &str)] = &[
    ("conntrack", "conntrack"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("setsid", "util-linux"),
    ("unshare", "util-linux"),
];

/// Where Debian's package containernetworking-plugins puts its programs.
pub(super) const CNI_PLUGINS: &str = "/usr/lib/cni";

/// What of it is used.
const PLUGINS: &[&str] = &["host-local", "loopback", "portmap", "ptp"];

/// Three nodes take 1.4 GB.
const LEAST_MEMORY_KIB: u64 = 1_500_000;

/// Checks the machine.
///
/// # Errors
/// With everything that is missing and what to do about it.
pub(super) fn check() -> Result<()> {
    let mut missing = Vec::new();
    for (program, package) in PROGRAMS {
        if !in_path(program) {
            missing.push(format!("{program} is missing (Debian package {package})"));
        }
    }
    for plugin in PLUGINS {
        if !Path::new(CNI_PLUGINS).join(plugin).is_file() {
            missing.push(format!(
                "{CNI_PLUGINS}/{plugin} is missing (package containernetworking-plugins)"
            ));
        }
    }
    missing.extend(rights());
    if hierarchies().is_empty() {
        missing.push("no cgroups are mounted under /sys/fs/cgroup".to_owned());
    }
    let memory = available_memory_kib();
    if memory < LEAST_MEMORY_KIB {
        missing.push(format!(
            "{} MB of memory are free, {} are needed",
            memory / 1000,
            LEAST_MEMORY_KIB / 1000
        ));
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot run a cluster:\n  {}", missing.join("\n  "))
}

/// Namespaces of every kind that nodes have must be allowed.
fn rights() -> Option<String> {
    let allowed = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "true"])
        .output();
    match allowed {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!(
            "namespaces cannot be made ({}): run as root with CAP_SYS_ADMIN and CAP_NET_ADMIN",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        // Named above as missing.
        Err(_) => None,
    }
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn available_memory_kib() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}
