//! Probes, metrics, logs, reasons.

use std::{fs, path::Path};

use propylon_e2e::{
    Gate,
    frames::{self, FrameClient, flag},
    manifests::{backend, echo, ingress, site},
    programs, websocket,
};
use propylon_testkit::{
    raw::{Step, scripted_server},
    wait,
};
use rustix::process::Signal;
use serde_json::Value;

#[test]
fn probes_answer() {
    let gate = Gate::start("");
    for probe in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(gate.admin(probe).status, 200, "{probe}");
    }
    assert_eq!(gate.admin("/absent").status, 404);
}

#[test]
fn the_status_listener_tells_nothing_of_the_configuration() {
    let status = propylon_e2e::ports::free();
    let gate = Gate::start_with("", &["--status", &status.to_string()]);
    let get = |path: &str| {
        propylon_testkit::raw::RawClient::connect(status)
            .and_then(|mut client| client.get("localhost", path))
            .unwrap()
            .status
    };
    assert_eq!(get("/livez"), 200);
    assert_eq!(get("/metrics"), 200);
    assert_eq!(get("/routes"), 404);
    assert_eq!(get("/endpoints"), 404);
    assert_eq!(gate.admin("/routes").status, 200);
}

#[test]
fn probes_answer_on_a_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("status.sock");
    let path = socket.display().to_string();
    let ask = |target: &str| {
        let url = format!("http://localhost{target}");
        programs::curl(&[
            "--unix-socket",
            &path,
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            &url,
        ])
        .stdout()
    };
    let gate = Gate::start_with("", &["--status-socket", &path]);
    assert_eq!(
        ["/livez", "/readyz", "/metrics", "/routes"].map(ask),
        ["200", "200", "200", "404"]
    );
    // A process that was killed leaves its socket behind, which is no obstacle to the next.
    drop(gate);
    assert!(socket.exists());
    let gate = Gate::start_with("", &["--status-socket", &path]);
    assert_eq!(ask("/readyz"), "200");
    // One that is served is not taken away.
    let manifests = gate.folder().display().to_string();
    let second = propylon_e2e::gate::run_to_end(&[
        "run",
        "--manifests",
        &manifests,
        "--http",
        "off",
        "--https",
        "off",
        "--admin",
        "off",
        "--status-socket",
        &path,
    ]);
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && text.contains("--status-socket"), "{text}");
    assert_eq!(ask("/readyz"), "200");
}

#[test]
fn requests_are_counted_by_ingress_service_and_code() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    for _ in 0..3 {
        gate.get("web.example", "/");
    }
    gate.get("web.example", "/status/418");
    gate.get("unknown.example", "/");
    let ours = [
        "namespace=\"default\"",
        "ingress=\"web\"",
        "service=\"web\"",
        "method=\"GET\"",
    ];
    let with = |label: &'static str| [&ours[..], &[label]].concat();
    gate.until("all are counted", || {
        gate.metric("propylon_requests_total", &[]) == Some(5.0)
    });
    assert_eq!(gate.metric("propylon_requests_total", &with("code=\"200\"")), Some(3.0));
    assert_eq!(gate.metric("propylon_requests_total", &with("code=\"418\"")), Some(1.0));
    assert_eq!(
        gate.metric(
            "propylon_requests_total",
            &["ingress=\"__unmatched__\"", "code=\"404\""]
        ),
        Some(1.0)
    );
    assert_eq!(
        gate.metric("propylon_request_duration_seconds_count", &ours[..2]),
        Some(4.0)
    );
}

#[test]
fn the_metrics_have_their_names_and_are_well_formed() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    gate.get_tls("web.example", "/bytes/100");
    gate.get("unknown.example", "/");
    gate.until("it is counted", || {
        gate.metric("propylon_requests_total", &[]) == Some(2.0)
    });
    let response = gate.admin("/metrics");
    assert!(
        response
            .header("content-type")
            .is_some_and(|value| value.starts_with("text/plain")),
        "{}",
        response.head
    );
    let text = response.text();
    for name in [
        "propylon_requests_total",
        "propylon_request_duration_seconds_bucket",
        "propylon_upstream_duration_seconds_bucket",
        "propylon_request_bytes_total",
        "propylon_response_bytes_total",
        "propylon_inflight_requests",
        "propylon_connections",
        "propylon_tls_handshakes_total",
        "propylon_responses_by_reason_total",
        "propylon_snapshot_generation",
        "propylon_snapshot_apply_total",
    ] {
        let is_sample = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        assert!(text.lines().any(is_sample), "{name} is missing in\n{text}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let value = line.rsplit(' ').next().unwrap_or_default();
        assert!(value.parse::<f64>().is_ok() || value == "+Inf", "{line}");
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        assert!(
            text.contains(&format!("# TYPE {family} ")) || text.contains(&format!("# TYPE {name} ")),
            "{name} has no TYPE"
        );
    }
}

#[test]
fn series_go_with_their_object() {
    let echo = echo("web");
    let gate = Gate::start_files(
        &[
            ("a.yaml", &site("a.example", "a", &[echo.address])),
            ("b.yaml", &site("b.example", "b", &[echo.address])),
        ],
        &[],
    );
    gate.get("a.example", "/");
    gate.get("b.example", "/");
    gate.until("both are counted", || {
        gate.metric("propylon_requests_total", &[]) == Some(2.0)
    });
    gate.remove("b.yaml");
    gate.until("its series are gone", || {
        gate.metric("propylon_requests_total", &["ingress=\"b\""]).is_none()
    });
    assert_eq!(gate.metric("propylon_requests_total", &["ingress=\"a\""]), Some(1.0));
}

#[test]
fn routes_and_endpoints_are_json() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let routes: Value = serde_json::from_slice(&gate.admin("/routes").body).unwrap();
    assert!(routes.to_string().contains("web.example"), "{routes}");
    let endpoints: Value = serde_json::from_slice(&gate.admin("/endpoints").body).unwrap();
    assert!(endpoints.to_string().contains(&echo.address.to_string()), "{endpoints}");
}

fn log_lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(ToOwned::to_owned)
        .collect()
}

/// Waits for a line of the log that contains `part`.
fn log_line(gate: &Gate, path: &Path, part: &str) -> String {
    let found = wait::some(wait::PATIENCE, || {
        log_lines(path).into_iter().find(|line| line.contains(part))
    });
    found.map_or_else(
        || panic!("no line with {part}\n{:?}\n{}", log_lines(path), gate.transcript()),
        |(line, _)| line,
    )
}

#[test]
fn the_json_log_has_one_object_per_request() {
    let echo = echo("web");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let path = log.display().to_string();
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &["--access-log", &path]);
    gate.get("web.example", "/found?secret=1");
    gate.get("unknown.example", "/lost");
    let found: Value = serde_json::from_str(&log_line(&gate, &log, "/found")).unwrap();
    let text = found.to_string();
    for part in ["\"GET\"", "200", "web.example", "127.0.0.1", &echo.address.to_string()] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert_eq!(
        found.get("http.request.method").and_then(Value::as_str),
        Some("GET"),
        "{text}"
    );
    assert_eq!(
        found.get("http.response.status_code").and_then(Value::as_u64),
        Some(200),
        "{text}"
    );
    let lost: Value = serde_json::from_str(&log_line(&gate, &log, "/lost")).unwrap();
    assert_eq!(
        lost.get("http.response.status_code").and_then(Value::as_u64),
        Some(404),
        "{lost}"
    );
}

#[test]
fn what_a_client_sends_cannot_forge_a_log_line() {
    let echo = echo("web");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let path = log.display().to_string();
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &["--access-log", &path]);
    gate.send("GET /q\"uote HTTP/1.1\r\nHost: web.example\r\nUser-Agent: a\"b\\c\t\x1b[31m\r\n\r\n");
    gate.get("web.example", "/last");
    log_line(&gate, &log, "/last");
    for line in log_lines(&log) {
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
        assert!(!line.contains('\x1b'), "{line}");
    }
}

#[test]
fn the_upstreaminfo_log_is_that_of_ingress_nginx() {
    let echo = echo("web");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let path = log.display().to_string();
    let flags = ["--access-log", &path, "--access-log-format", "upstreaminfo"];
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &flags);
    gate.send(
        "GET /bytes/10 HTTP/1.1\r\nHost: web.example\r\nUser-Agent: agent/1\r\nReferer: http://r.example/\r\n\r\n",
    );
    let line = log_line(&gate, &log, "/bytes/10");
    // $remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"
    // $request_length $request_time [$proxy_upstream_name] [$proxy_alternative_upstream_name] $upstream_addr
    // $upstream_response_length $upstream_response_time $upstream_status $req_id
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(
        line.contains("] \"GET /bytes/10 HTTP/1.1\" 200 10 \"http://r.example/\" \"agent/1\" "),
        "{line}"
    );
    assert!(line.contains("[default-web-80] [] "), "{line}");
    let tail: Vec<&str> = line.rsplit("[] ").next().unwrap_or_default().split(' ').collect();
    let [upstream, length, seconds, status, id] = tail.as_slice() else {
        panic!("{line}")
    };
    assert_eq!(
        (*upstream, *length, *status),
        (echo.address.to_string().as_str(), "10", "200"),
        "{line}"
    );
    assert!(seconds.parse::<f64>().is_ok() && id.len() >= 16, "{line}");
}

#[test]
fn sighup_opens_the_log_again() {
    let echo = echo("web");
    let folder = tempfile::tempdir().unwrap();
    let (log, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let path = log.display().to_string();
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &["--access-log", &path]);
    gate.get("web.example", "/before");
    log_line(&gate, &log, "/before");
    fs::rename(&log, &old).unwrap();
    gate.signal(Signal::HUP);
    gate.until("the file is there again", || log.exists());
    gate.get("web.example", "/after");
    log_line(&gate, &log, "/after");
    assert!(!log_lines(&old).iter().any(|line| line.contains("/after")));
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn a_log_that_cannot_be_written_blocks_nothing() {
    let echo = echo("web");
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(programs::run("mkfifo", &[&pipe.display().to_string()]).succeeded());
    // Someone who opened the pipe and reads nothing: it is full after 64 KiB.
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let path = pipe.display().to_string();
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &["--access-log", &path]);
    let mut client = gate.connect();
    for _ in 0..2_000 {
        assert_eq!(client.get("web.example", "/headers").unwrap().status, 200);
    }
    drop(reader);
}

/// The code in `details` of a `Proxy-Status` field.
fn details(value: &str) -> Option<&str> {
    value.split("details=\"").nth(1)?.split('"').next()
}

#[test]
fn every_error_of_ours_has_one_reason_in_field_log_and_metric() {
    let closes = scripted_server(vec![vec![Step::ReadHead]]).unwrap();
    let garbage = scripted_server(vec![vec![Step::ReadHead, Step::write("nonsense\r\n\r\n")]]).unwrap();
    let silent = scripted_server(vec![vec![Step::ReadHead, Step::Hold]]).unwrap();
    let restricted = ingress("restricted")
        .prefix("restricted.example", "/", "closes", 80)
        .annotation("nginx.ingress.kubernetes.io/auth-url", "http://auth.example")
        .yaml();
    let slow = ingress("silent")
        .prefix("silent.example", "/", "silent", 80)
        .annotation("propylon.dev/response-timeout", "100ms")
        .yaml();
    let yaml = site("closes.example", "closes", &[closes.address])
        + &site("garbage.example", "garbage", &[garbage.address])
        + &slow
        + &backend("silent", &[silent.address])
        + &site("refused.example", "refused", &[propylon_e2e::ports::free()])
        + &site("empty.example", "empty", &[])
        + &ingress("absent").prefix("absent.example", "/", "absent", 80).yaml()
        + &restricted;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let path = log.display().to_string();
    let gate = Gate::start_with(&yaml, &["--access-log", &path]);
    let mut codes = std::collections::BTreeSet::new();
    for (host, path, status, error) in [
        ("closes.example", "/", 502, "connection_terminated"),
        ("garbage.example", "/", 502, "http_protocol_error"),
        ("silent.example", "/", 504, "http_response_timeout"),
        ("refused.example", "/", 502, "connection_refused"),
        ("empty.example", "/", 503, "destination_unavailable"),
        ("absent.example", "/", 503, "destination_not_found"),
        ("restricted.example", "/", 503, "proxy_configuration_error"),
        ("unknown.example", "/", 404, "destination_not_found"),
        ("closes.example", "/a%00", 400, "http_request_error"),
    ] {
        let response = gate.get(host, path);
        assert_eq!(response.status, status, "{host}{path}: {}", response.head);
        let value = response.header("proxy-status").unwrap_or_default().to_owned();
        assert!(
            value.starts_with(&format!("propylon; error={error}")),
            "{host}{path}: {value}"
        );
        let code = details(&value)
            .unwrap_or_else(|| panic!("{host}{path}: {value}"))
            .to_owned();
        let is_code = |byte: u8| byte.is_ascii_lowercase() || b"._".contains(&byte);
        assert!(code.bytes().all(is_code), "{code}");
        let line = log_line(&gate, &log, &format!("\"{code}\""));
        assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
        gate.until("the metric counts it", || {
            gate.metric("propylon_responses_by_reason_total", &[&format!("reason=\"{code}\"")])
                .is_some_and(|count| count >= 1.0)
        });
        codes.insert(code);
    }
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/reasons.md")).unwrap();
    for code in codes {
        assert!(page.contains(&format!("`{code}`")), "{code} is not documented");
    }
}

/// Streams of HTTP/2 end a little after their connection: the gauges must not count that twice.
#[test]
fn connections_that_are_dropped_amid_requests_leave_no_trace_in_the_gauges() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    for round in 1..=3 {
        let mut client = FrameClient::connect(gate.http).unwrap();
        for stream in [1, 3] {
            client
                .request(stream, &frames::get("web.example", "/delay/60000"), flag::END_STREAM)
                .unwrap();
        }
        gate.until("the requests are under way", || echo.requests() == 2 * round);
        drop(client);
        gate.until("the backend is let go", || echo.open_connections() == 0);
    }
    for state in ["active", "idle"] {
        let labels = ["listener=\"http\"", "protocol=\"h2\"", &format!("state=\"{state}\"")];
        gate.until("the gauge is back at 0", || {
            gate.metric("propylon_connections", &labels) == Some(0.0)
        });
    }
}

#[test]
fn handshakes_and_tunnels_are_counted_while_they_last() {
    let echo = echo("web");
    let gate = Gate::start(&site("web.example", "web", &[echo.address]));
    let count = |state: &str, protocol: &str| {
        let labels = [format!("state=\"{state}\""), format!("protocol=\"{protocol}\"")];
        let labels = ["listener=\"http\"", &labels[0], &labels[1]];
        gate.metric("propylon_connections", &labels)
    };
    let mut client = gate.connect();
    gate.until("the handshake is counted", || {
        count("handshake", "unknown") == Some(1.0)
    });
    client.send(websocket::request("web.example", "/").as_bytes()).unwrap();
    client.head().unwrap();
    gate.until("the tunnel is counted", || count("tunnel", "http/1.1") == Some(1.0));
    assert_eq!(count("handshake", "unknown"), Some(0.0));
    drop(client);
    for state in ["tunnel", "active", "idle"] {
        gate.until("the gauge is back at 0", || count(state, "http/1.1") == Some(0.0));
    }
}

/// A head that is never complete has no request to speak of, but is counted and logged all the same.
#[test]
fn heads_that_are_refused_are_counted_and_logged() {
    let echo = echo("web");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.log");
    let path = log.display().to_string();
    let flags = ["--access-log", &path, "--header-timeout", "300ms"];
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), &flags);
    for (head, status, reason) in [
        ("GET / HTTP/1.1\r\nHost : web.example\r\n\r\n", 400, "request_invalid"),
        ("GET / HTTP/1.1\r\nHost:", 408, "header_timeout"),
    ] {
        let mut client = gate.connect();
        client.send(head.as_bytes()).unwrap();
        assert_eq!(client.response().unwrap().status, status);
        let line = log_line(&gate, &log, &format!("\"{reason}\""));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["http.response.status_code"], status);
        gate.until("the metric counts it", || {
            gate.metric("propylon_responses_by_reason_total", &[&format!("reason=\"{reason}\"")]) == Some(1.0)
        });
    }
}
