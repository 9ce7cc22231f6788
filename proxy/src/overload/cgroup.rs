//! The memory limit that the kernel holds this process to: cgroup v1 and v2.
//!
//! Sources: `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/memory.rst` of Linux, cgroups(7).

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

/// How much there is, and how much is in use: bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    /// What the kernel cannot simply drop: use without the inactive part of the page cache, as the kubelet counts it.
    pub(crate) usage: u64,
    /// The limit, which is at least 1.
    pub(crate) limit: u64,
}

impl Memory {
    /// How much of the limit is in use, 0 to about 100.
    pub(super) fn percent(self) -> u64 {
        u64::try_from(u128::from(self.usage) * 100 / u128::from(self.limit.max(1))).unwrap_or(u64::MAX)
    }
}

/// The groups of this process that may have a limit: its own and those around it.
#[derive(Debug, Default)]
pub(crate) struct Groups(Vec<Group>);

#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    version: Version,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Version {
    const fn limit(self) -> &'static str {
        match self {
            Self::V1 => "memory.limit_in_bytes",
            Self::V2 => "memory.max",
        }
    }

    const fn usage(self) -> &'static str {
        match self {
            Self::V1 => "memory.usage_in_bytes",
            Self::V2 => "memory.current",
        }
    }

    const fn inactive(self) -> &'static str {
        match self {
            Self::V1 => "total_inactive_file",
            Self::V2 => "inactive_file",
        }
    }

    /// Where groups are, below the root.
    const fn mounts(self) -> &'static [&'static str] {
        match self {
            Self::V1 => &["sys/fs/cgroup/memory"],
            // The second where both versions are in use.
            Self::V2 => &["sys/fs/cgroup", "sys/fs/cgroup/unified"],
        }
    }
}

impl Groups {
    /// Looks for the groups of this process; `root` is `/` but in tests. No file there: no groups, no limit.
    pub(crate) fn find(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let mut groups = Vec::new();
        for (version, path) in memberships(&text) {
            for mount in version.mounts() {
                // In a container the path may be one of the host, of which only the mount's root can be seen.
                for ancestor in ancestors(&path) {
                    let folder = root.join(mount).join(ancestor);
                    let group = Group { folder, version };
                    if group.folder.join(version.limit()).is_file() && !groups.contains(&group) {
                        groups.push(group);
                    }
                }
            }
        }
        Self(groups)
    }

    /// The tightest limit with its use; none where nothing is limited.
    pub(crate) fn read(&self) -> Option<Memory> {
        let limited = self.0.iter().filter_map(Group::read);
        limited.max_by_key(|memory| memory.percent())
    }
}

impl Group {
    fn read(&self) -> Option<Memory> {
        let read = |name: &str| fs::read_to_string(self.folder.join(name)).ok();
        let limit = parse_limit(&read(self.version.limit())?)?;
        let usage: u64 = read(self.version.usage())?.trim().parse().ok()?;
        let stat = read("memory.stat").unwrap_or_default();
        let inactive = parse_stat(&stat, self.version.inactive());
        Some(Memory {
            usage: usage.saturating_sub(inactive),
            limit,
        })
    }
}

/// The lines of `/proc/self/cgroup` that are about memory: `0::PATH` is version 2, `N:...,memory,...:PATH` is version 1.
fn memberships(text: &str) -> Vec<(Version, PathBuf)> {
    let parse = |line: &str| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let version = if id == "0" && controllers.is_empty() {
            Version::V2
        } else if controllers.split(',').any(|controller| controller == "memory") {
            Version::V1
        } else {
            return None;
        };
        let normal = Path::new(path)
            .components()
            .filter(|part| matches!(part, Component::Normal(_)));
        Some((version, normal.collect()))
    };
    text.lines().filter_map(parse).collect()
}

/// A path, the folders around it, and the empty path.
fn ancestors(path: &Path) -> impl Iterator<Item = &Path> {
    let outermost = path.as_os_str().is_empty().then_some(path);
    outermost
        .into_iter()
        .chain(path.ancestors().filter(|path| !path.as_os_str().is_empty()))
        .chain(std::iter::once(Path::new("")))
}

/// `max`, and the numbers that version 1 writes for it, are no limit.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| (1..UNLIMITED).contains(limit))
}

fn parse_stat(text: &str, name: &str) -> u64 {
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next().and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

const UNLIMITED: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn read(files: &[(&str, &str)]) -> Option<Memory> {
        Groups::find(tree(files).path()).read()
    }

    #[test]
    fn version_2_in_a_container() {
        let memory = read(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "900\n"),
            (
                "sys/fs/cgroup/memory.stat",
                "anon 500\ninactive_file 150\nactive_file 7\n",
            ),
        ]);
        assert_eq!(
            memory,
            Some(Memory {
                usage: 750,
                limit: 1000
            })
        );
        assert_eq!(memory.unwrap().percent(), 75);
    }

    #[test]
    fn version_2_in_a_unit_whose_slice_is_tighter() {
        let memory = read(&[
            ("proc/self/cgroup", "0::/system.slice/propylon.service\n"),
            ("sys/fs/cgroup/system.slice/propylon.service/memory.max", "max\n"),
            ("sys/fs/cgroup/system.slice/propylon.service/memory.current", "90\n"),
            ("sys/fs/cgroup/system.slice/memory.max", "200\n"),
            ("sys/fs/cgroup/system.slice/memory.current", "100\n"),
        ]);
        assert_eq!(memory, Some(Memory { usage: 100, limit: 200 }));
    }

    #[test]
    fn version_1_and_its_way_to_say_that_there_is_no_limit() {
        let files = |limit| {
            [
                (
                    "proc/self/cgroup",
                    "9:name=systemd:/\n4:cpu,memory:/docker/0123\n0::/\n",
                ),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", limit),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "400\n"),
                (
                    "sys/fs/cgroup/memory/memory.stat",
                    "inactive_file 1\ntotal_inactive_file 100\n",
                ),
            ]
        };
        assert_eq!(read(&files("500\n")), Some(Memory { usage: 300, limit: 500 }));
        assert_eq!(read(&files("9223372036854771712\n")), None);
    }

    #[test]
    fn both_versions_at_once() {
        let memory = read(&[
            ("proc/self/cgroup", "4:memory:/kubepods/pod1\n0::/kubepods/pod1\n"),
            ("sys/fs/cgroup/memory/kubepods/pod1/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/kubepods/pod1/memory.usage_in_bytes", "10\n"),
            ("sys/fs/cgroup/unified/kubepods/pod1/cgroup.procs", "1\n"),
        ]);
        assert_eq!(memory, Some(Memory { usage: 10, limit: 1000 }));
    }

    #[test]
    fn nothing_readable_is_no_limit() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("proc/self/cgroup", "garbage\n::\n0::/../..\n")]), None);
        let empty = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", ""),
            ("sys/fs/cgroup/memory.current", "x"),
        ];
        assert_eq!(read(&empty), None);
        assert_eq!(parse_limit("0\n"), None);
    }
}
