//! `cargo xtask sizes`: files of a size that a reader can hold. Clippy holds functions to theirs.

use std::process::ExitCode;

use anyhow::Result;

use crate::{repository, source::code_of};

/// From here on a file is listed: think of splitting it.
const LISTED: usize = 400;
/// Beyond this a file is refused.
const REFUSED: usize = 700;

/// Counts the lines of code (without blank lines and comments) of every Rust file.
///
/// # Errors
///
/// Where the files cannot be listed or read.
#[expect(clippy::print_stdout, reason = "the list is this command's output")]
pub(crate) fn check() -> Result<ExitCode> {
    let files = repository::rust_files()?;
    let mut faults = Vec::new();
    for file in &files {
        let lines = lines_of_code(&file.text);
        if lines > REFUSED {
            faults.push(format!(
                "{}: {lines} lines of code, at most {REFUSED} are allowed",
                file.path
            ));
        } else if lines > LISTED {
            println!("note: {}: {lines} lines of code, aim at {LISTED}", file.path);
        }
    }
    let checked = format!("sizes: {} files, none over {REFUSED} lines of code", files.len());
    Ok(repository::verdict(&faults, &checked))
}

fn lines_of_code(source: &str) -> usize {
    code_of(source).lines().filter(|line| !line.trim().is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_blank_lines_do_not_count() {
        assert_eq!(lines_of_code("//! doc\n\nfn a() {\n    // why\n    b(); // c\n}\n"), 3);
    }
}
