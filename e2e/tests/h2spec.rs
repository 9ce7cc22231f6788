//! h2spec in strict mode: all 146 cases, over TLS and with prior knowledge.

use propylon_e2e::{
    Gate,
    manifests::{echo, site},
    programs,
};

/// What h2spec 2.2.1 has, with `--strict`.
const CASES: u32 = 146;

/// Runs h2spec, which sends its address as the host: the rules without a host take it.
fn h2spec(flags: &[&str], port: u16) -> programs::Finished {
    let (port, h2spec) = (port.to_string(), programs::tool("h2spec"));
    let arguments = [
        &["--strict", "--host", "127.0.0.1", "--port", &port, "--timeout", "5"],
        flags,
    ]
    .concat();
    programs::run(&h2spec, &arguments)
}

#[test]
fn every_case_passes_over_tls() {
    let echo = echo("web");
    let gate = Gate::start(&site("", "web", &[echo.address]));
    let finished = h2spec(&["--tls", "--insecure"], gate.https.port());
    let expected = format!("{CASES} tests, {CASES} passed, 0 skipped, 0 failed");
    let text = finished.text();
    assert!(text.contains(&expected) && finished.succeeded(), "{text}");
}

/// On plain HTTP the first bytes decide the protocol: an invalid preface is a bad HTTP/1.1 request and is answered as
/// one, which the case 3.5/2 counts as a failure.
#[test]
fn every_case_but_the_invalid_preface_passes_with_prior_knowledge() {
    let echo = echo("web");
    let gate = Gate::start(&site("", "web", &[echo.address]));
    let text = h2spec(&[], gate.http.port()).text();
    let expected = format!("{CASES} tests, {} passed, 0 skipped, 1 failed", CASES - 1);
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("\u{d7} 2: Sends invalid connection preface"), "{text}");
}
