//! The shared libraries that a program is linked with.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

/// The absolute paths of the libraries and of the loader, as `ldd` finds them. None for a static program, and for what
/// is no program at all.
///
/// # Errors
/// When `ldd` cannot be run, the file is missing, or a library is. Not retryable.
pub(super) fn of(program: &Path) -> Result<BTreeSet<PathBuf>> {
    ensure!(program.is_file(), "{} is no file of this machine", program.display());
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("running ldd, of the package libc-bin")?;
    let (text, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if output.status.success() {
        return read(&text).with_context(|| format!("the libraries of {}", program.display()));
    }
    if (text + error).contains("not a dynamic executable") {
        return Ok(BTreeSet::new());
    }
    bail!("ldd cannot read {}", program.display())
}

/// Reads lines such as `libc.so.6 => /lib/libc.so.6 (0x...)` and `/lib64/ld-linux-x86-64.so.2 (0x...)`.
fn read(text: &str) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        ensure!(!line.contains("=> not found"), "{} is not installed", line.trim());
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        found.extend(path.map(PathBuf::from));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found() {
        let text =
            "\tlinux-vdso.so.1 (0x00007ffc)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)\n\t/lib64/ld.so.2 (0x00007f)\n";
        let expected = ["/lib/x/libc.so.6", "/lib64/ld.so.2"].map(PathBuf::from);
        assert_eq!(read(text).unwrap(), BTreeSet::from(expected));
        assert_eq!(read("\tstatically linked\n").unwrap(), BTreeSet::new());
    }

    #[test]
    fn a_missing_library_is_named() {
        let error = read("\tlibodd.so.1 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libodd.so.1"), "{error}");
    }

    #[test]
    fn this_very_program_has_the_c_library() {
        let found = of(&std::env::current_exe().unwrap()).unwrap();
        assert!(found.iter().any(|path| path.ends_with("libc.so.6")), "{found:?}");
    }

    #[test]
    fn what_is_no_program_needs_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(of(file.path()).unwrap(), BTreeSet::new());
        assert!(of(Path::new("/no/such/program")).is_err());
    }
}
