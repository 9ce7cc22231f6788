//! Removing all that a cluster left on the machine, whether it was brought down, crashed, or never came up.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use propylon_testkit::wait;

use super::{namespace_name, parts, run, state_folder};

/// How long the kernel may take to let go of what killed processes held.
const RELEASE: Duration = Duration::from_secs(20);

/// Processes first (mounts go with the last process of their namespace), then network namespaces, cgroups, files.
pub(super) fn sweep(cluster: &str) -> Result<()> {
    parts::kill_all(cluster, None)?;
    let prefix = namespace_name(cluster, "");
    for name in names(Path::new("/run/netns"), &prefix) {
        run(Command::new("ip").args(["netns", "del", &name]))?;
    }
    for hierarchy in cgroups() {
        for name in names(&hierarchy, &prefix) {
            remove_cgroup(&hierarchy.join(name))?;
        }
    }
    let folder = state_folder(cluster)?;
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// What there is of a cluster: processes, network namespaces, mounts, cgroups, files.
pub(super) fn traces(cluster: &str) -> Result<Vec<String>> {
    let prefix = namespace_name(cluster, "");
    let mut found: Vec<String> = parts::processes(cluster, None)
        .iter()
        .map(|id| format!("process {}", id.as_raw_nonzero()))
        .collect();
    let namespaces = names(Path::new("/run/netns"), &prefix);
    found.extend(namespaces.iter().map(|name| format!("network namespace {name}")));
    for hierarchy in cgroups() {
        let groups = names(&hierarchy, &prefix);
        found.extend(
            groups
                .iter()
                .map(|name| format!("cgroup {}", hierarchy.join(name).display())),
        );
    }
    let folder = state_folder(cluster)?;
    if folder.exists() {
        found.push(format!("folder {}", folder.display()));
    }
    let (folder, mounts) = (
        folder.display().to_string(),
        fs::read_to_string("/proc/mounts").unwrap_or_default(),
    );
    let ours = mounts
        .lines()
        .filter(|line| line.contains(&folder) || line.contains(&prefix));
    found.extend(ours.map(|line| format!("mount {line}")));
    Ok(found)
}

/// Where cgroups are made: every hierarchy of version 1, or the one of version 2 where it is the only one.
pub(super) fn hierarchies() -> Vec<PathBuf> {
    let first = mounts("cgroup");
    if first.is_empty() { mounts("cgroup2") } else { first }
}

/// All hierarchies: runc makes groups in an empty one of version 2 beside those of version 1 too.
fn cgroups() -> Vec<PathBuf> {
    [mounts("cgroup"), mounts("cgroup2")].concat()
}

/// Where file systems of a kind are mounted.
fn mounts(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines
        .filter_map(|fields| match fields.as_slice() {
            [_, at, found, ..] if *found == kind => Some(PathBuf::from(at)),
            _ => None,
        })
        .collect()
}

/// The entries of a folder whose names begin so.
fn names(folder: &Path, prefix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// A cgroup can be removed when its last process is gone and has been let go of, and those below it are removed.
fn remove_cgroup(folder: &Path) -> Result<()> {
    for name in names(folder, "") {
        let below = folder.join(name);
        if below.is_dir() {
            remove_cgroup(&below)?;
        }
    }
    let mut last = None;
    let removed = wait::until(RELEASE, || match fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            last = Some(error);
            false
        }
        _ => true,
    });
    removed
        .map(drop)
        .with_context(|| format!("removing the cgroup {}: {last:?}", folder.display()))
}
