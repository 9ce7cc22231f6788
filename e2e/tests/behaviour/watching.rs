//! Looking at a running proxy: `propylon top` in a terminal and for scripts, and the page in a browser.

use std::net::TcpListener;

use propylon_e2e::{
    Gate,
    browser::{Page, Scripts},
    gate::{propylon, run_to_end},
    manifests::{backend, echo, ingress, site},
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
    let mut page = Page::open(&format!("http://{}/", gate.admin), Scripts::On);
    page.until(">Live.</p>");
    let document = page.until("web.example /shop");
    assert!(
        document.contains("503") && document.contains("BackendServiceNotFound"),
        "{document}"
    );
    assert!(
        document.contains("<title>Propylon</title>") && !document.contains("<img"),
        "{document}"
    );
    // What happens later arrives without another look.
    for _ in 0..37 {
        gate.get("web.example", "/shop");
    }
    page.until("<td class=\"n \">42</td>");
    let picture = page.picture();
    assert!(
        picture.starts_with("iVBOR") && picture.len() > 20_000,
        "{} bytes",
        picture.len()
    );
    // Without scripts the same document, not live.
    let mut page = Page::open(&format!("http://{}/?q=shop", gate.admin), Scripts::Off);
    let document = page.until("web.example /shop");
    assert!(
        document.contains("loads itself again") && !document.contains(">Live.</p>"),
        "{document}"
    );
}
