//! The pages of the codes (`docs/reference/problems`): the example of each brings its report about, and what stands under
//! "How to fix it" does not.
//!
//! Flags stand behind the language of an example (three backticks, `yaml --external-name off`). `PEM # certificate for
//! NAME...` stands for a certificate that is made here, and may end in `, expired`, `, with N days left` or
//! `, from tomorrow on`; `PEM # its key` for its key.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use propylon_kit::clock;
use propylon_testkit::certs::{Authority, KeyType, Leaf, Validity};
use serde_json::Value;

/// An example of a page.
struct Example {
    flags: Vec<String>,
    text: String,
}

#[test]
fn the_example_of_each_page_has_its_problem_and_the_mended_one_has_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/problems");
    let mut pages: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.sort();
    assert!(pages.len() >= 30, "only {} pages were found", pages.len());
    let authority = Authority::new("authority of the pages");
    let faults: Vec<String> = pages.iter().flat_map(|page| check(page, &authority)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn check(page: &Path, authority: &Authority) -> Vec<String> {
    let text = fs::read_to_string(page).unwrap();
    if text
        .lines()
        .any(|line| line.starts_with("# ") && line.ends_with("(retired)"))
    {
        return Vec::new();
    }
    let code = page.file_stem().unwrap().to_str().unwrap();
    let mut faults = Vec::new();
    let mut lint_section = |section: &str| {
        let examples = examples(&text, section);
        let [example] = examples.as_slice() else {
            faults.push(format!(
                "{code}: {section}: has {} examples, and must have one",
                examples.len()
            ));
            return Vec::new();
        };
        lint(example, authority)
    };
    let (bad, mended) = (lint_section("Example"), lint_section("How to fix it"));
    // What only a running proxy can know has an example to look at.
    let is_of_a_run = code >= "PRP0200";
    if !is_of_a_run && !bad.iter().any(|(found, _)| found == code) {
        faults.push(format!("{code}: the example has {bad:?}"));
    }
    if mended
        .iter()
        .any(|(found, severity)| found == code || severity == "error")
    {
        faults.push(format!("{code}: the mended example still has {mended:?}"));
    }
    faults
}

/// The YAML blocks of a section.
fn examples(page: &str, section: &str) -> Vec<Example> {
    let part = page.split("\n## ").find(|part| part.lines().next() == Some(section));
    let blocks = part.unwrap_or_default().split("\n```yaml").skip(1);
    let example = |block: &str| {
        let (flags, rest) = block.split_once('\n').unwrap();
        let (text, _) = rest.split_once("\n```").unwrap();
        Example {
            flags: flags.split_whitespace().map(str::to_owned).collect(),
            text: format!("{text}\n"),
        }
    };
    blocks.map(example).collect()
}

/// Code and severity of each finding.
fn lint(example: &Example, authority: &Authority) -> Vec<(String, String)> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_propylon"))
        .args(["lint", "-", "-o", "json"])
        .args(&example.flags)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let manifests = with_certificates(&example.text, authority);
    child.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let findings = json.get("findings").unwrap().as_array().unwrap();
    let text = |finding: &Value, field: &str| finding.get(field).unwrap().as_str().unwrap().to_owned();
    findings
        .iter()
        .map(|finding| (text(finding, "code"), text(finding, "severity")))
        .collect()
}

/// Puts certificates where the pages say what they are for.
fn with_certificates(text: &str, authority: &Authority) -> String {
    let mut leaf: Option<Leaf> = None;
    let mut filled = String::new();
    for line in text.lines() {
        let Some((field, what)) = line.split_once("PEM # ") else {
            filled.extend([line, "\n"]);
            continue;
        };
        let pem = match what.strip_prefix("certificate for ") {
            Some(wanted) => leaf.insert(certificate(wanted, authority)).cert_pem.clone(),
            None => leaf.as_ref().unwrap().key_pem.clone(),
        };
        filled.extend([field, "|\n"]);
        pem.lines().for_each(|line| filled.extend(["    ", line, "\n"]));
    }
    filled
}

fn certificate(wanted: &str, authority: &Authority) -> Leaf {
    const DAY_S: u64 = 24 * 3600;
    let now_s = clock::unix_now().as_secs();
    let (names, state) = wanted.split_once(", ").unwrap_or((wanted, ""));
    let validity = match state {
        "" => Validity::Valid,
        "expired" => Validity::Expired,
        "from tomorrow on" => Validity::From(now_s + DAY_S),
        other => {
            let days = other
                .strip_prefix("with ")
                .and_then(|rest| rest.strip_suffix(" days left"));
            Validity::Until(now_s + days.unwrap().parse::<u64>().unwrap() * DAY_S)
        }
    };
    let names: Vec<&str> = names.split(' ').collect();
    authority.leaf_with(&names, KeyType::Ecdsa, validity)
}
