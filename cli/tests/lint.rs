//! `propylon lint` of the built binary: what it prints, in each form, and its exit status.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use propylon_testkit::manifest::{endpoint_slice, ingress, service};
use serde_json::Value;
use tempfile::TempDir;

fn lint(arguments: &[&str], within: &Path, stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_propylon"))
        .arg("lint")
        .args(arguments)
        .current_dir(within)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command line that is refused reads nothing.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A folder `k8s` with a clean file, and one with a notice, a warning and an error in it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("k8s/a b")).unwrap();
    let clean = clean();
    let troubled = ingress("default", "troubled")
        .prefix("troubled.example", "/", "web", 80)
        .annotation("propylon.dev/redirect-htps", "true")
        .annotation("kubernetes.io/ingress.class", "any")
        .yaml();
    fs::write(folder.path().join("k8s/clean.yaml"), clean).unwrap();
    fs::write(
        folder.path().join("k8s/a b/troubled.yaml"),
        troubled + "---\nkind: Ingress\n",
    )
    .unwrap();
    folder
}

fn clean() -> String {
    ingress("default", "web").prefix("web.example", "/", "web", 80).yaml()
        + &service("default", "web", 80, "")
        + &endpoint_slice("default", "web", "1", &["10.0.0.1:8080".parse().unwrap()])
}

#[test]
fn a_clean_folder_says_nothing_but_how_much_it_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("web.yaml"), clean()).unwrap();
    let output = lint(&[".", "--fail-on", "notice"], folder.path(), "");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(
        text(&output.stderr),
        "0 errors, 0 warnings, 0 notices in 3 objects of 1 file\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn each_line_names_file_line_severity_code_and_object() {
    let folder = folder();
    let output = lint(&["k8s"], folder.path(), "");
    let stdout = text(&output.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    let file = "k8s/a b/troubled.yaml";
    assert_eq!(lines.len(), 3, "{stdout}");
    for start in [
        "warning PRP0002 AnnotationUnknown default/troubled Ingress: metadata.annotations[propylon.dev/redirect-htps]: ",
        "notice PRP0107 ClassAnnotationDeprecated default/troubled Ingress: metadata.annotations[kubernetes.io/ingress.class]: ",
        "error PRP0017 InvalidManifest: line ",
    ] {
        let found = lines
            .iter()
            .filter_map(|line| line.strip_prefix(file)?.strip_prefix(':'));
        let found = found.filter_map(|line| line.split_once(": "));
        let found =
            found.filter(|(line, rest)| line.parse::<u64>().is_ok_and(|line| line > 1) && rest.starts_with(start));
        assert_eq!(found.count(), 1, "{start} is not in\n{stdout}");
    }
    let written = fs::read_to_string(folder.path().join(file)).unwrap();
    let (number, _) = lines
        .iter()
        .find_map(|line| {
            line.split_once(": warning")?
                .0
                .rsplit_once(':')?
                .1
                .parse::<usize>()
                .ok()
                .zip(Some(line))
        })
        .unwrap();
    assert!(
        written
            .lines()
            .nth(number - 1)
            .unwrap()
            .contains("propylon.dev/redirect-htps")
    );
    assert_eq!(
        text(&output.stderr),
        "1 error, 1 warning, 1 notice in 4 objects of 2 files\n"
    );
}

#[test]
fn the_exit_status_follows_fail_on() {
    let broken = folder();
    for (fail_on, code) in [("error", 1), ("warning", 1), ("notice", 1)] {
        let output = lint(&["k8s", "--fail-on", fail_on], broken.path(), "");
        assert_eq!(output.status.code(), Some(code), "{fail_on}");
    }
    let warned = ingress("default", "web")
        .prefix("web.example", "/", "absent", 80)
        .yaml();
    for (fail_on, code) in [("error", 0), ("warning", 1), ("notice", 1)] {
        let output = lint(&["-", "--fail-on", fail_on], broken.path(), &warned);
        assert_eq!(output.status.code(), Some(code), "{fail_on}");
    }
    assert_eq!(lint(&["-"], broken.path(), &warned).status.code(), Some(0));
    for arguments in [
        &["absent"][..],
        &[],
        &["k8s", "--fail-on", "never"],
        &["k8s", "-o", "xml"],
        &["k8s", "--map", "x"],
    ] {
        let output = lint(arguments, broken.path(), "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(text(&lint(&["absent"], broken.path(), "").stderr).starts_with("error: DIR absent cannot be read: "));
}

#[test]
fn standard_input_and_single_files_are_read_and_flags_of_the_compile_count() {
    let folder = tempfile::tempdir().unwrap();
    let warned = ingress("default", "web")
        .prefix("web.example", "/", "absent", 80)
        .class("blue")
        .yaml();
    let output = lint(&["-"], folder.path(), &warned);
    assert!(text(&output.stdout).starts_with("<stdin>:"), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("PRP0007"));
    let mapped = lint(&["-", "--map", "default/absent=127.0.0.1:1"], folder.path(), &warned);
    assert_eq!(text(&mapped.stdout), "");
    let other = lint(&["-", "--ingress-class", "green"], folder.path(), &warned);
    assert!(text(&other.stdout).contains("PRP0009 ClassNotOurs"));
    fs::write(folder.path().join("one.yaml"), &warned).unwrap();
    let one = lint(&["one.yaml"], folder.path(), "");
    assert!(text(&one.stdout).starts_with("one.yaml:"), "{}", text(&one.stdout));
}

#[test]
fn json_says_what_the_lines_say() {
    let folder = folder();
    let output = lint(&["k8s", "-o", "json"], folder.path(), "");
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    for (field, number) in [
        ("files", 2),
        ("objects", 4),
        ("errors", 1),
        ("warnings", 1),
        ("notices", 1),
    ] {
        assert_eq!(json[field], number, "{field}");
    }
    let findings = json["findings"].as_array().unwrap();
    let unknown = findings.iter().find(|finding| finding["code"] == "PRP0002").unwrap();
    for (field, value) in [
        ("reason", "AnnotationUnknown"),
        ("severity", "warning"),
        ("kind", "Ingress"),
        ("namespace", "default"),
        ("name", "troubled"),
        ("field", "metadata.annotations[propylon.dev/redirect-htps]"),
        ("file", "k8s/a b/troubled.yaml"),
    ] {
        assert_eq!(unknown[field], value, "{field}");
    }
    assert_eq!(unknown["document"], 1);
    assert!(unknown["line"].as_u64().unwrap() > 1);
    assert!(
        unknown["help"]
            .as_str()
            .unwrap()
            .ends_with("/docs/reference/problems/PRP0002.md")
    );
    let invalid = findings.iter().find(|finding| finding["code"] == "PRP0017").unwrap();
    assert_eq!(invalid["document"], 2);
}

/// What SARIF 2.1.0 requires of what is used; the numbers are those of its sections.
#[test]
fn sarif_is_what_the_standard_requires() {
    let folder = folder();
    let output = lint(&["k8s", "-o", "sarif"], folder.path(), "");
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0", "3.13.2");
    assert!(log["$schema"].as_str().unwrap().starts_with("https://"), "3.13.3");
    let [run] = log["runs"].as_array().unwrap().as_slice() else {
        unreachable!("there is one run");
    };
    assert_eq!(run["columnKind"], "unicodeCodePoints", "3.14.17");
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "propylon lint", "3.19.8");
    let rules = driver["rules"].as_array().unwrap();
    let ids: BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rules.len(), "3.19.23: rules are unique");
    for rule in rules {
        assert!(rule["helpUri"].as_str().unwrap().starts_with("https://"), "3.49.12");
        for message in ["shortDescription", "fullDescription", "help"] {
            assert!(!rule[message]["text"].as_str().unwrap().is_empty(), "3.12.3");
        }
        assert!(is_level(&rule["defaultConfiguration"]["level"]), "3.50.3");
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for result in results {
        check_result(result, rules);
    }
    let levels: BTreeSet<&str> = results.iter().map(|result| result["level"].as_str().unwrap()).collect();
    assert_eq!(levels, BTreeSet::from(["error", "note", "warning"]));
    let empty = lint(&["-", "-o", "sarif"], folder.path(), "");
    let log: Value = serde_json::from_slice(&empty.stdout).unwrap();
    assert_eq!(
        log["runs"][0]["results"].as_array().map(Vec::len),
        Some(0),
        "3.14.23: empty, not absent"
    );
}

fn check_result(result: &Value, rules: &[Value]) {
    let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!(rules[index]["id"], result["ruleId"], "3.27.6");
    assert!(is_level(&result["level"]), "3.27.10");
    assert!(!result["message"]["text"].as_str().unwrap().is_empty(), "3.27.11");
    let location = &result["locations"][0];
    let physical = &location["physicalLocation"];
    let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
    assert_eq!(uri, "k8s/a%20b/troubled.yaml", "3.4.3: a valid URI reference");
    assert!(physical["region"]["startLine"].as_u64().unwrap() >= 1, "3.30.5");
    assert!(
        location["logicalLocations"][0]["fullyQualifiedName"].is_string(),
        "3.33.5"
    );
    let fingerprints = result["partialFingerprints"].as_object().unwrap();
    assert!(fingerprints.values().all(Value::is_string), "3.27.18");
}

fn is_level(value: &Value) -> bool {
    matches!(value.as_str(), Some("none" | "note" | "warning" | "error"))
}
