//! Walking the folder: which manifests are there, and which directories hold them.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

/// Directories within directories that are followed; more is a mistake.
const MAX_DEPTH: usize = 64;

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    /// The stamp of a file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Time since the last change, as the file system dates it; zero where that lies in the future.
    pub(super) fn age(&self, unix_now: Duration) -> Duration {
        let changed = self.modified_ns.max(self.changed_ns);
        let age = i128::try_from(unix_now.as_nanos())
            .unwrap_or(i128::MAX)
            .saturating_sub(changed);
        Duration::from_nanos(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
    }
}

/// A directory by what it is, whatever path leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct DirectoryId {
    device: u64,
    inode: u64,
}

impl DirectoryId {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// What one walk found; paths are relative to the folder.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Manifests by path, in order of their components.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Every directory that was entered, the folder itself first.
    pub(super) directories: Vec<(PathBuf, DirectoryId)>,
    /// What could not be looked into, and why. What was known below such a path is still taken to be there.
    pub(super) failures: BTreeMap<PathBuf, String>,
}

impl Tree {
    /// Walks the folder. Names with a leading dot are skipped, symbolic links followed.
    ///
    /// # Cost
    /// One `stat` per manifest and directory.
    pub(super) fn walk(root: &Path) -> Self {
        let mut tree = Self::default();
        let id = fs::metadata(root).map(|metadata| DirectoryId::of(&metadata));
        match id {
            Ok(id) => tree.enter(root, PathBuf::new(), &mut vec![id]),
            Err(error) => tree.fail(PathBuf::new(), &error),
        }
        tree
    }

    /// Whether a path that was not found lies below one that could not be looked into.
    pub(super) fn hides(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.failures.contains_key(above))
    }

    /// `ancestors` are the directories from the folder down to this one.
    fn enter(&mut self, root: &Path, relative: PathBuf, ancestors: &mut Vec<DirectoryId>) {
        let entries = match fs::read_dir(root.join(&relative)) {
            Ok(entries) => entries,
            // It vanished since its parent was read; nothing hides behind it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && ancestors.len() > 1 => return,
            Err(error) => return self.fail(relative, &error),
        };
        if let Some(id) = ancestors.last() {
            self.directories.push((relative.clone(), *id));
        }
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return self.fail(relative, &error),
            };
            let name = entry.file_name();
            let kind = entry.file_type();
            let is_other_file = kind.is_ok_and(|kind| kind.is_file()) && !is_manifest(Path::new(&name));
            if name.as_bytes().starts_with(b".") || is_other_file {
                continue;
            }
            self.add(root, relative.join(&name), ancestors);
        }
    }

    fn add(&mut self, root: &Path, path: PathBuf, ancestors: &mut Vec<DirectoryId>) {
        let metadata = match fs::metadata(root.join(&path)) {
            Ok(metadata) => metadata,
            // A link to nowhere is worth a word; a file that vanished meanwhile is not.
            Err(error) if fs::symlink_metadata(root.join(&path)).is_ok() && is_manifest(&path) => {
                return self.fail(path, &error);
            }
            Err(_) => return,
        };
        if metadata.is_dir() {
            let id = DirectoryId::of(&metadata);
            if ancestors.contains(&id) {
                let message = "the link leads back to a directory above it; it is not followed";
                self.failures.insert(path, message.to_owned());
            } else if ancestors.len() >= MAX_DEPTH {
                self.failures.insert(
                    path,
                    format!("more than {MAX_DEPTH} directories deep; it is not looked into"),
                );
            } else {
                ancestors.push(id);
                self.enter(root, path, ancestors);
                ancestors.pop();
            }
        } else if is_manifest(&path) {
            self.files.insert(path, Stamp::of(&metadata));
        }
    }

    fn fail(&mut self, path: PathBuf, error: &io::Error) {
        self.failures.insert(
            path,
            format!("cannot be read ({error}); what it last gave stays in force"),
        );
    }
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(tree: &Tree) -> Vec<&str> {
        tree.files.keys().filter_map(|path| path.to_str()).collect()
    }

    #[test]
    fn manifests_are_found_recursively_in_path_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("b/c")).unwrap();
        for name in [
            "z.yaml",
            "b/c/y.yml",
            "a.json",
            "b/readme.md",
            ".hidden.yaml",
            "b/.git.yaml",
            "noextension",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let tree = Tree::walk(folder.path());
        assert_eq!(names(&tree), ["a.json", "b/c/y.yml", "z.yaml"]);
        assert_eq!(tree.directories.len(), 3);
        assert!(tree.failures.is_empty());
    }

    #[test]
    fn the_links_of_a_mounted_config_map_are_followed_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("..2026")).unwrap();
        fs::write(folder.path().join("..2026/web.yaml"), "").unwrap();
        symlink("..2026", folder.path().join("..data")).unwrap();
        symlink("..data/web.yaml", folder.path().join("web.yaml")).unwrap();
        assert_eq!(names(&Tree::walk(folder.path())), ["web.yaml"]);
    }

    #[test]
    fn a_cycle_of_links_ends_and_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        fs::write(folder.path().join("sub/a.yaml"), "").unwrap();
        symlink("..", folder.path().join("sub/up")).unwrap();
        let tree = Tree::walk(folder.path());
        assert_eq!(names(&tree), ["sub/a.yaml"]);
        assert_eq!(tree.failures.keys().collect::<Vec<_>>(), [Path::new("sub/up")]);
    }

    #[test]
    fn a_link_to_nowhere_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        symlink("missing", folder.path().join("a.yaml")).unwrap();
        let tree = Tree::walk(folder.path());
        assert!(tree.files.is_empty() && tree.hides(Path::new("a.yaml")));
    }

    #[test]
    fn a_missing_folder_hides_everything() {
        assert!(Tree::walk(Path::new("/nonexistent/folder")).hides(Path::new("sub/a.yaml")));
    }
}
