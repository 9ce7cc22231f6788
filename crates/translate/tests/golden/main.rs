//! Golden tests: manifests in, resources and reports out.
//!
//! Each `NAME.in.yaml` beside this file is compiled and compared with `NAME.out.txt`. Lines that open with `#:` say what
//! else goes in (`fixture.rs`). `UPDATE_GOLDEN=1 cargo test -p propylon-translate --test golden` writes the outputs anew;
//! review every changed line.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of a test fail by panicking"
)]

use std::{fs, path::Path};

use propylon_translate::Memory;

mod fixture;
mod render;

#[test]
fn every_golden_file_compiles_to_its_output() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".in.yaml"))
        .collect();
    inputs.sort();
    assert!(inputs.len() >= 25, "only {} golden inputs were found", inputs.len());
    #[expect(clippy::disallowed_methods, reason = "the switch of a test, not configuration")]
    let update = std::env::var("UPDATE_GOLDEN").is_ok();
    let wrong: Vec<String> = inputs.iter().filter_map(|input| difference(input, update)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is wrong with a golden file; none where it holds, or was updated.
fn difference(input: &Path, update: bool) -> Option<String> {
    let output = input.to_string_lossy().replace(".in.yaml", ".out.txt");
    let found = compile(&fs::read_to_string(input).unwrap());
    if update {
        fs::write(&output, found).unwrap();
        return None;
    }
    let wanted = fs::read_to_string(&output).unwrap_or_default();
    if wanted == found {
        return None;
    }
    let mut lines = vec![format!("--- {output}")];
    let (wanted, found): (Vec<_>, Vec<_>) = (wanted.lines().collect(), found.lines().collect());
    lines.extend(
        wanted
            .iter()
            .filter(|line| !found.contains(line))
            .map(|line| format!("- {line}")),
    );
    lines.extend(
        found
            .iter()
            .filter(|line| !wanted.contains(line))
            .map(|line| format!("+ {line}")),
    );
    Some(lines.join("\n"))
}

fn compile(text: &str) -> String {
    let fixture = fixture::Fixture::read(text);
    let mut memory = Memory::default();
    let mut output = String::new();
    for step in &fixture.steps {
        if fixture.steps.len() > 1 {
            output.extend(["=== ", &step.title, "\n"]);
        }
        let (mut world, refused) = step.world();
        fixture.cluster.iter().cloned().for_each(|object| world.insert(object));
        for line in refused {
            output.extend(["refused ", &line, "\n"]);
        }
        let compiled = propylon_translate::compile(&world, &fixture.options, &mut memory);
        output.push_str(&render::render(&compiled, &fixture.pairs));
    }
    output
}
