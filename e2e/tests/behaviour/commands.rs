//! `propylon run --once`, `propylon demo`, and what the command line refuses.

use std::{fs, path::Path, process::Command};

use propylon_e2e::{
    gate::{propylon, run_to_end},
    manifests::{backend, ingress, site},
    programs,
};
use propylon_testkit::{
    process::{Output, Process},
    wait::PATIENCE,
};
use rustix::process::Signal;

fn once(manifests: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("manifests.yaml"), manifests).unwrap();
    let output = run_to_end(&["run", "--once", "--manifests", &folder.path().display().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn once_says_0_without_an_error_and_1_with_one() {
    let endpoint = "127.0.0.1:1".parse().unwrap();
    let (code, text) = once(&site("web.example", "web", &[endpoint]));
    assert_eq!(code, Some(0), "{text}");
    // A warning is no error.
    let warned = ingress("web")
        .prefix("web.example", "/", "web", 80)
        .annotation("propylon.dev/unheard-of", "1");
    let (code, text) = once(&(warned.yaml() + &backend("web", &[endpoint])));
    assert!(text.contains("AnnotationUnknown"), "{text}");
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = once(&ingress("web").prefix("web.example", "/", "absent", 80).yaml());
    assert!(
        text.contains("warning default/web Ingress: BackendServiceNotFound: "),
        "{text}"
    );
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = once("kind: [");
    assert!(text.contains("InvalidManifest"), "{text}");
    assert_eq!(code, Some(1), "{text}");
}

#[test]
fn a_wrong_command_line_says_what_is_wrong() {
    for (arguments, word) in [
        (&["run", "--manifests", "/propylon/absent"][..], "/propylon/absent"),
        (&["run", "--manifests", ".", "--workers", "many"], "--workers"),
        (&["run", "--manifests", ".", "--http", "nonsense"], "nonsense"),
        (&["run", "--manifests", ".", "--map", "nonsense"], "nonsense"),
        (
            &["run", "--manifests", ".", "--trusted-proxies", "10.0.0.0/99"],
            "10.0.0.0/99",
        ),
        (&["run", "--manifest", "."], "--manifests"),
    ] {
        let output = run_to_end(arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(word), "{arguments:?}\n{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
fn every_flag_is_an_environment_variable_too() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("manifests.yaml"), "kind: [").unwrap();
    let output = Command::new(propylon())
        .args(["run", "--once"])
        .env("PROPYLON_MANIFESTS", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("InvalidManifest"), "{text}");
}

#[test]
fn a_port_that_is_taken_is_said_and_ends_the_process() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().display().to_string();
    let mut process = Process::start(
        propylon(),
        &["run", "--manifests", &folder, "--http", &address, "--https", "off"],
    )
    .unwrap();
    let status = process.wait(PATIENCE).unwrap();
    assert!(
        status.is_some_and(|status| !status.success()),
        "{}",
        process.transcript()
    );
    assert!(process.transcript().contains(&address), "{}", process.transcript());
}

/// Every curl line that the demo prints is run; each must be answered.
#[test]
fn the_demo_prints_lines_that_work() {
    let ports: Vec<String> = (0..3).map(|_| propylon_e2e::ports::free().to_string()).collect();
    let [http, https, admin] = ports.as_slice() else { return };
    let mut demo = Process::start(
        propylon(),
        &["demo", "--http", http, "--https", https, "--admin", admin],
    )
    .unwrap();
    demo.line(Output::Stdout, PATIENCE, |line| line.trim_start().starts_with("curl "))
        .unwrap();
    let mut lines = Vec::new();
    let known = propylon_testkit::wait::until(PATIENCE, || {
        let now: Vec<String> = demo
            .lines(Output::Stdout)
            .iter()
            .map(|line| line.trim().to_owned())
            .collect();
        let stands_still = now.len() == lines.len() && now.len() > 2;
        lines = now;
        stands_still
    });
    assert!(known.is_some(), "{}", demo.transcript());
    let commands: Vec<&String> = lines.iter().filter(|line| line.starts_with("curl ")).collect();
    assert!(commands.len() >= 2, "{}", demo.transcript());
    for command in commands {
        let finished = programs::run(
            "sh",
            &[
                "-c",
                &format!("{command} --silent --show-error --max-time 10 --noproxy '*'"),
            ],
        );
        assert!(
            finished.succeeded(),
            "{command}\n{}\n{}",
            finished.text(),
            demo.transcript()
        );
        assert!(!finished.stdout().is_empty(), "{command}");
    }

    let serving = demo
        .line(Output::Stderr, PATIENCE, |line| line.starts_with("serving "))
        .unwrap();
    let folder = serving.trim_start_matches("serving ").to_owned();
    assert!(Path::new(&folder).is_dir(), "{folder}");
    demo.signal(Signal::INT).unwrap();
    let status = demo.wait(PATIENCE).unwrap();
    assert!(status.is_some_and(|status| status.success()), "{}", demo.transcript());
    assert!(!Path::new(&folder).exists(), "{folder} is left behind");
}

#[test]
fn findings_that_cannot_be_written_are_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(propylon())
        .args(["lint", "-o", "json"])
        .arg(folder.path())
        .stdout(full)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("standard output"), "{text}");
}
