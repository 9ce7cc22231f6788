//! `propylon-proxy prepare`: makes a folder of the host the proxy's own, before the proxy runs (a root init container).
//!
//! The kubelet makes a `hostPath` folder as root with mode 0755; whoever could write there could put a socket in the place of
//! the proxy's.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use super::flags::PrepareArgs;

/// Makes the folder where there is none, and gives it to the user, for nobody else. A second call changes nothing.
///
/// # Errors
/// When the path is no folder, or the rights are missing. Not retryable.
pub(super) fn prepare(args: &PrepareArgs) -> io::Result<()> {
    let folder = &args.directory;
    fs::create_dir_all(folder)?;
    // A link could lead anywhere.
    if !fs::symlink_metadata(folder)?.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "it is a link, not a folder",
        ));
    }
    close(folder)?;
    chown(folder, Some(args.uid), Some(args.gid))
}

/// Closes it before it is given away, so that at no time somebody else can write there.
fn close(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn args(directory: &Path) -> PrepareArgs {
        PrepareArgs {
            directory: directory.to_owned(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    #[test]
    fn the_folder_is_for_the_proxy_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        for _ in 0..2 {
            prepare(&args(&path)).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
            assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
        }
    }

    #[test]
    fn a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::create_dir(&target).unwrap();
        symlink(&target, &link).unwrap();
        assert!(prepare(&args(&link)).is_err());
    }
}
