use std::fs;

use propylon_testkit::manifest::{ingress, service};
use tempfile::TempDir;

use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// `FILE:LINE REASON` of each finding, and the document where it is not the first.
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let folder = folder(files);
    let findings = Input::read(folder.path()).unwrap().check(CompileArgs::default());
    places(&findings, folder.path())
}

fn places(findings: &Findings, root: &Path) -> Vec<String> {
    let place = |finding: &Finding| {
        let reason = finding.report.reason.as_str();
        match &finding.place {
            None => reason.to_owned(),
            Some(place) => {
                let file = place.file.strip_prefix(root).unwrap_or(&place.file).display();
                let document = place
                    .document
                    .map_or_else(|| "no document".to_owned(), |number| number.to_string());
                format!("{file}:{} ({document}) {reason}", place.line)
            }
        }
    };
    findings.list.iter().map(place).collect()
}

const WEB: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  annotations:
    propylon.dev/redirect-htps: \"true\"
spec:
  rules:
  - host: web.example
    http:
      paths:
      - path: /
        pathType: Prefix
        backend:
          service:
            name: absent
            port: {number: 80}
";

#[test]
fn findings_stand_at_the_line_of_their_field() {
    assert_eq!(
        found(&[(
            "a/web.yaml",
            &format!("# comment\n---\nkind: Thing\napiVersion: example.com/v1\n---\n{WEB}")
        )]),
        [
            "a/web.yaml:11 (2) AnnotationUnknown",
            "a/web.yaml:21 (2) BackendServiceNotFound",
        ]
    );
}

#[test]
fn objects_of_a_list_have_their_own_lines() {
    let item = WEB.replace('\n', "\n    ");
    let text = format!("apiVersion: v1\nkind: List\nitems:\n  - {item}");
    assert_eq!(
        found(&[("list.yaml", &text)]),
        [
            "list.yaml:9 (1) AnnotationUnknown",
            "list.yaml:19 (1) BackendServiceNotFound"
        ]
    );
}

#[test]
fn a_bad_document_names_file_document_and_line() {
    let broken = format!(
        "{}---\nkind: Ingress\nspec: [\n---\njust a text\n",
        service("default", "web", 80, "")
    );
    let lines = broken.lines().count();
    let found = found(&[
        ("ok.yaml", &service("default", "other", 80, "")),
        ("sub/bad.yaml", &broken),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].starts_with("sub/bad.yaml:") && found[0].ends_with("(2) InvalidManifest"),
        "{found:?}"
    );
    assert_eq!(found[1], format!("sub/bad.yaml:{lines} (3) InvalidManifest"));
}

#[test]
fn a_wrong_type_is_at_its_field() {
    let text = WEB.replace("number: 80", "number: eighty");
    assert_eq!(found(&[("web.yaml", &text)]), ["web.yaml:17 (1) InvalidManifest"]);
    let old = WEB.replace("networking.k8s.io/v1", "extensions/v1beta1");
    assert_eq!(found(&[("web.yaml", &old)]), ["web.yaml:1 (1) InvalidManifest"]);
}

#[test]
fn what_the_api_server_would_refuse_is_at_its_field() {
    let text = WEB.replace("pathType: Prefix", "pathType: Perfix");
    assert_eq!(found(&[("web.yaml", &text)]), ["web.yaml:13 (1) InvalidObject"]);
}

#[test]
fn the_copy_that_does_not_count_is_named() {
    let service = service("default", "web", 80, "");
    assert!(service.starts_with("---\n"));
    let twice = service.repeat(2);
    let lines = service.lines().count();
    assert_eq!(
        found(&[("a.yaml", &twice)]),
        [format!("a.yaml:{} (2) DuplicateObject", lines + 2)]
    );
    assert_eq!(
        found(&[("a.yaml", &service), ("b/a.yaml", &service), ("c.yaml", &service)]),
        ["b/a.yaml:2 (1) DuplicateObject", "c.yaml:2 (1) DuplicateObject"]
    );
}

#[test]
fn a_file_that_is_no_text_is_named() {
    let folder = folder(&[("web.yaml", "")]);
    fs::write(folder.path().join("web.yaml"), [0xff, 0xfe]).unwrap();
    let findings = Input::read(folder.path()).unwrap().check(CompileArgs::default());
    assert_eq!(findings.list.len(), 1);
    assert_eq!(findings.list[0].report.reason, ReportReason::InvalidManifest);
    assert!(
        text::render(&findings).contains("/web.yaml:1: error PRP0017 InvalidManifest: is not UTF-8"),
        "{}",
        text::render(&findings)
    );
}

#[test]
fn findings_of_the_linter_are_among_them() {
    let text = ingress("default", "web")
        .path("web.example", ("/*", "ImplementationSpecific"), "web", 80)
        .yaml();
    let found = found(&[(
        "web.yaml",
        &(text + "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r}\n"),
    )]);
    for reason in ["BackendServiceNotFound", "PathLooksLikeRegex", "KindUnsupported"] {
        assert!(
            found.iter().any(|finding| finding.ends_with(reason)),
            "{reason} is not in {found:?}"
        );
    }
}

#[test]
fn a_text_without_a_file_has_lines_too() {
    let findings = Input::of_text(Path::new(STANDARD_INPUT), WEB.to_owned()).check(CompileArgs::default());
    assert_eq!(
        places(&findings, Path::new("")),
        [
            "<stdin>:6 (1) AnnotationUnknown",
            "<stdin>:16 (1) BackendServiceNotFound"
        ]
    );
    assert_eq!(
        text::summary(&findings),
        "0 errors, 2 warnings, 0 notices in 1 object of 1 file"
    );
}

#[test]
fn a_finding_of_no_file_names_what_was_checked() {
    let compile = CompileArgs {
        default_tls_secret: Some(propylon_translate::Key::new("default", "absent")),
        ..CompileArgs::default()
    };
    let findings = Input::of_text(Path::new("-"), String::new()).check(compile);
    assert!(findings.list[0].place.is_none());
    assert!(text::render(&findings).starts_with("-: notice PRP0025 TLSSecretNotFound default/absent Secret: "));
}
