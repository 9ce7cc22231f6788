//! h2spec in strict mode: all 146 cases, over TLS and with prior knowledge.

use propylon_e2e::{
    Gate,
    manifests::{echo, site},
    programs,
};

/// What h2spec 2.2.1 has, with `--strict`.
const CASES: u32 = 146;

fn passes(flags: &[&str], port: u16) {
    let (port, h2spec) = (port.to_string(), programs::tool("h2spec"));
    let arguments = [
        &["--strict", "--host", "127.0.0.1", "--port", &port, "--timeout", "5"],
        flags,
    ]
    .concat();
    let finished = programs::run(&h2spec, &arguments);
    let expected = format!("{CASES} tests, {CASES} passed, 0 skipped, 0 failed");
    let text = finished.text();
    assert!(text.contains(&expected) && finished.succeeded(), "{text}");
}

/// h2spec sends its address as the host, which the rules without a host take.
#[test]
fn every_case_passes_over_tls() {
    let echo = echo("web");
    let gate = Gate::start(&site("", "web", &[echo.address]));
    passes(&["--tls", "--insecure"], gate.https.port());
}

#[test]
fn every_case_passes_with_prior_knowledge() {
    let echo = echo("web");
    let gate = Gate::start(&site("", "web", &[echo.address]));
    passes(&[], gate.http.port());
}
