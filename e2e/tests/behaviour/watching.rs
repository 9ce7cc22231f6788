//! Looking at a running proxy: `propylon top` in a terminal and for scripts, and the page in a browser.

use std::{fs, net::TcpListener};

use propylon_e2e::{
    Gate,
    gate::{propylon, run_to_end},
    manifests::{backend, echo, ingress, site},
    programs,
    terminal::Terminal,
};
use rustix::process::Signal;

const FROM_ALTERNATE_SCREEN: &str = "\u{1b}[?1049l";

#[test]
fn top_once_is_json_with_counts_and_rates() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    for _ in 0..3 {
        assert_eq!(gate.get("web.example", "/").status, 200);
    }
    let admin = gate.admin.to_string();
    let output = run_to_end(&["top", "--admin", &admin, "--once", "-o", "json", "--interval", "150ms"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let route = &document["routes"][0];
    assert_eq!((&route["host"], &route["path"]), (&"web.example".into(), &"/".into()));
    assert_eq!(route["requests"], 3);
    assert!(route["requestsPerSecond"].is_number() && document["intervalSeconds"].as_f64() > Some(0.1));
    assert_eq!(document["endpoints"][0]["address"], echo.address.to_string());
    let output = run_to_end(&["top", "--admin", &admin, "--once", "--interval", "100ms"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("REQ/S") && text.contains("web.example/"), "{text}");
}

#[test]
fn top_says_what_is_wrong_with_its_address_and_its_terminal() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gate = Gate::start("");
    for (arguments, code, words) in [
        (vec!["top", "--once", "--admin", "nonsense"], 2, "write HOST:PORT"),
        (
            vec!["top", "--once", "--admin", &free.to_string()],
            2,
            "is the proxy running there?",
        ),
        (
            vec!["top", "--once", "--admin", &gate.http.to_string()],
            2,
            "answers status 404",
        ),
        (vec!["top", "--admin", &gate.admin.to_string()], 2, "are no terminal"),
        (vec!["top", "-o", "json"], 2, "--once"),
        (vec!["top", "--once", "--interval", "5"], 2, "no duration"),
    ] {
        let output = run_to_end(&arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
}

#[test]
fn top_shows_a_live_table_and_gives_the_terminal_back() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let admin = gate.admin.to_string();
    let mut terminal = Terminal::start(propylon(), &["top", "--admin", &admin, "--interval", "100ms"]);
    terminal.until_seen("web.example/");
    terminal.press("\t");
    terminal.until_seen(&echo.address.to_string());
    terminal.press("q");
    assert!(terminal.end().success(), "{}", terminal.shown());
    assert!(
        terminal.shown().contains(FROM_ALTERNATE_SCREEN),
        "{:?}",
        terminal.shown()
    );

    let mut terminal = Terminal::start(propylon(), &["top", "--admin", &admin]);
    terminal.until_seen("web.example/");
    terminal.signal(Signal::TERM);
    assert!(terminal.end().success(), "{}", terminal.shown());
    assert!(
        terminal.shown().contains(FROM_ALTERNATE_SCREEN),
        "{:?}",
        terminal.shown()
    );
}

#[test]
fn top_waits_for_a_proxy_that_starts_again() {
    let echo = echo("web");
    let gate = Gate::start(&site("first.example", "web", &[echo.address]));
    let admin = gate.admin.to_string();
    let mut terminal = Terminal::start(propylon(), &["top", "--admin", &admin, "--interval", "100ms"]);
    terminal.until_seen("first.example/");
    drop(gate);
    terminal.until_seen("trying again");
    let again = Gate::start_with(&site("second.example", "web", &[echo.address]), &["--admin", &admin]);
    terminal.until_seen("second.example/");
    terminal.press("q");
    assert!(terminal.end().success());
    drop(again);
}

/// What Chromium makes of the page: its document after `--timeout`, and a picture that is not empty.
fn chromium(address: &str, scripts: Scripts) -> String {
    let profile = tempfile::tempdir().expect("a folder can be made");
    if scripts == Scripts::Off {
        let folder = profile.path().join("Default");
        let settings = r#"{"profile":{"default_content_setting_values":{"javascript":2}}}"#;
        fs::create_dir(&folder)
            .and_then(|()| fs::write(folder.join("Preferences"), settings))
            .unwrap();
    }
    let profile_flag = format!("--user-data-dir={}", profile.path().display());
    let picture = profile.path().join("page.png");
    let picture_flag = format!("--screenshot={}", picture.display());
    let common = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--timeout=3000",
        &profile_flag,
    ];
    let dumped = programs::run("chromium", &[&common[..], &["--dump-dom", address]].concat());
    assert!(dumped.succeeded(), "{}", dumped.text());
    let drawn = programs::run(
        "chromium",
        &[&common[..], &[&picture_flag, "--window-size=1200,900", address]].concat(),
    );
    let bytes = fs::read(&picture).unwrap_or_default();
    assert!(
        bytes.starts_with(b"\x89PNG") && bytes.len() > 20_000,
        "no picture: {}",
        drawn.text()
    );
    dumped.stdout()
}

/// Whether pages may run scripts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scripts {
    Off,
    On,
}

#[test]
fn the_page_lives_in_a_browser_and_names_are_text_there() {
    let echo = echo("web");
    let evil = "<img src=x onerror=document.title='broken'>";
    let manifests = ingress("web")
        .prefix("web.example", "/shop", "web", 80)
        .prefix("web.example", "/gone", "absent", 80)
        .annotation("propylon.dev/connect-timeout", evil)
        .yaml()
        + &backend("web", &[echo.address]);
    let gate = Gate::start(&manifests);
    for _ in 0..5 {
        gate.get("web.example", "/shop");
    }
    let document = chromium(&format!("http://{}/", gate.admin), Scripts::On);
    assert!(
        document.contains("web.example /shop") && document.contains("503"),
        "{document}"
    );
    assert!(document.contains(">Live.</p>"), "the events arrive: {document}");
    assert!(document.contains("BackendServiceNotFound"), "{document}");
    assert!(
        document.contains("<title>Propylon</title>") && !document.contains("<img"),
        "{document}"
    );
    // Without scripts the same document, not live.
    let document = chromium(&format!("http://{}/?q=shop", gate.admin), Scripts::Off);
    assert!(
        document.contains("web.example /shop") && !document.contains(">Live.</p>"),
        "{document}"
    );
}
