//! The tools of other languages that the end-to-end tests need: h2spec and grpcurl, built from `e2e/go/tools`.

use std::{fs, time::Duration};

use super::{
    Workspace,
    command::{Outcome, Run},
};

/// Programs that must be on the machine already, with the Debian package that has each.
const PROGRAMS: &[(&str, &str)] = &[
    ("chromium", "chromium"),
    ("curl", "curl"),
    ("h2load", "nghttp2-client"),
    ("openssl", "openssl"),
    ("go", "golang, 1.26 or later"),
];

/// The packages that are built here; `lab deps` builds the others of the module.
const PACKAGES: &[&str] = &[
    "github.com/fullstorydev/grpcurl/cmd/grpcurl",
    "github.com/summerwind/h2spec/cmd/h2spec",
];

/// Looks for the programs and builds the Go tools.
pub(super) fn build(workspace: &Workspace, budget: Duration) -> Outcome {
    let mut total = Outcome::default();
    for (program, package) in PROGRAMS {
        let found = Run::new("sh", &["-c", &format!("command -v {program}")]).output(budget);
        if !found.succeeded {
            total.add(Outcome::failure(format!("{program} is missing (package {package})")));
        }
    }
    if let Err(error) = fs::create_dir_all(&workspace.tools) {
        total.add(Outcome::failure(format!(
            "cannot make the folder of the tools: {error}"
        )));
    }
    let folder = workspace.root.join("e2e/go/tools");
    let output = format!("{}/", workspace.tools.display());
    total.add(
        Run::new("go", &[&["build", "-o", &output], PACKAGES].concat())
            .in_folder(&folder)
            .check(budget),
    );
    total
}
