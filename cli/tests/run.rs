//! The built binary: `run`, `--once`, `demo`, signals and exit codes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use propylon_testkit::{
    echo::{EchoOptions, EchoServer},
    manifest::{ingress, service},
    process::{Output, Process},
    raw::RawClient,
    wait::{PATIENCE, until},
};
use rustix::process::Signal;
use tempfile::TempDir;

/// Flags of a run that listens on ports of the kernel's choice.
const ANY_PORT: [&str; 8] = [
    "--http",
    "127.0.0.1:0",
    "--https",
    "127.0.0.1:0",
    "--admin",
    "127.0.0.1:0",
    "--workers",
    "1",
];

struct Running {
    process: Process,
    folder: TempDir,
    backend: EchoServer,
}

impl Running {
    /// Serves `web.example` from an echo backend.
    fn start(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = EchoServer::start(EchoOptions::named("web")).unwrap();
        fs::write(folder.path().join("web.yaml"), web("web.example")).unwrap();
        let map = format!("default/web={}", backend.address);
        let base = ["run", "--manifests", folder.path().to_str().unwrap(), "--map", &map];
        let arguments: Vec<&str> = base.into_iter().chain(ANY_PORT).chain(flags.iter().copied()).collect();
        let process = start(&arguments);
        process
            .line(Output::Stderr, PATIENCE, |line| line.starts_with("serving "))
            .unwrap();
        Self {
            process,
            folder,
            backend,
        }
    }

    fn address(&self, scheme: &str) -> SocketAddr {
        address(&self.process, scheme)
    }

    /// The status of a request on a new connection.
    fn status(&self, host: &str) -> u16 {
        RawClient::connect(self.address("http"))
            .unwrap()
            .get(host, "/")
            .unwrap()
            .status
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("web.yaml"), text).unwrap();
    }
}

fn web(host: &str) -> String {
    format!(
        "{}{}",
        service("default", "web", 80, ""),
        ingress("default", "web").prefix(host, "/", "web", 80).yaml()
    )
}

fn start(arguments: &[&str]) -> Process {
    Process::start(Path::new(env!("CARGO_BIN_EXE_propylon")), arguments).unwrap()
}

fn address(process: &Process, scheme: &str) -> SocketAddr {
    let start = format!("listening {scheme} ");
    let line = process
        .line(Output::Stderr, PATIENCE, |line| line.starts_with(&start))
        .unwrap();
    line.trim_start_matches(&start).parse().unwrap()
}

fn exit_code(mut process: Process) -> (Option<i32>, Process) {
    let status = process.wait(PATIENCE).unwrap();
    (status.unwrap().code(), process)
}

#[test]
fn an_edit_is_live_within_a_second() {
    let running = Running::start(&[]);
    assert_eq!(
        (running.status("web.example"), running.status("new.example")),
        (200, 404)
    );
    running.write(&web("new.example"));
    let waited = until(PATIENCE, || running.status("new.example") == 200).unwrap();
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    assert_eq!(running.status("web.example"), 404);
}

#[test]
fn a_service_gets_no_port_of_the_proxy_itself() {
    let running = Running::start(&[]);
    let taken = running.address("http").port();
    running.write(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: db}}, spec: {{type: LoadBalancer, ports: [{{port: {taken}}}]}}}}"
    ));
    let start = "warning default/db Service: PortConflict: spec.ports[0]: ";
    let line = running
        .process
        .line(Output::Stderr, PATIENCE, |line| line.starts_with(start))
        .unwrap();
    assert!(
        line.contains(&format!("127.0.0.1:{taken} TCP is a listener of the proxy itself")),
        "{line}"
    );
}

#[test]
fn a_broken_edit_is_printed_once_and_keeps_serving_until_it_is_resolved() {
    let running = Running::start(&[]);
    running.write("kind: [");
    let is_report = |line: &str| line.starts_with("error web.yaml File: InvalidManifest: ");
    running.process.line(Output::Stderr, PATIENCE, is_report).unwrap();
    assert_eq!(running.status("web.example"), 200);
    running.write(&web("web.example"));
    let is_resolved = |line: &str| line.starts_with("resolved web.yaml File: InvalidManifest: ");
    running.process.line(Output::Stderr, PATIENCE, is_resolved).unwrap();
    let reports = running
        .process
        .lines(Output::Stderr)
        .into_iter()
        .filter(|line| is_report(line))
        .count();
    assert_eq!(reports, 1, "{}", running.process.transcript());
}

#[test]
fn objects_are_counted_by_their_state() {
    let running = Running::start(&[]);
    let metrics = || {
        RawClient::connect(running.address("admin"))
            .unwrap()
            .get("admin", "/metrics")
            .unwrap()
            .text()
    };
    assert!(metrics().contains("propylon_objects{kind=\"Ingress\",state=\"accepted\"} 1\n"));
    running.write(
        &web("web.example")
            .replace("\"Prefix\"", "Prefix")
            .replace("pathType: Prefix", "pathType: Nonsense"),
    );
    assert!(
        until(PATIENCE, || metrics()
            .contains("propylon_objects{kind=\"Ingress\",state=\"rejected\"} 1\n"))
        .is_some()
    );
}

#[test]
fn once_exits_by_the_worst_report() {
    let folder = tempfile::tempdir().unwrap();
    let once = ["run", "--once", "--manifests", folder.path().to_str().unwrap()];
    fs::write(folder.path().join("web.yaml"), web("web.example")).unwrap();
    let (code, process) = exit_code(start(&once));
    assert_eq!(code, Some(0), "a warning is no error: {}", process.transcript());
    process
        .line(Output::Stderr, PATIENCE, |line| {
            line.starts_with("warning default/web Service: NoReadyEndpoints: ")
        })
        .unwrap();
    fs::write(
        folder.path().join("web.yaml"),
        web("web.example").replace("kind: \"Service\"", "kind: ["),
    )
    .unwrap();
    fs::write(folder.path().join("broken.yaml"), "kind: [").unwrap();
    assert_eq!(exit_code(start(&once)).0, Some(1));
}

#[test]
fn flags_of_the_compile_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let objects = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: tcp, namespace: infra}
data: {9000: \"default/api:https\"}
---
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {type: ExternalName, externalName: api.example.com, ports: [{name: https, port: 443}]}
";
    fs::write(folder.path().join("web.yaml"), objects).unwrap();
    let base = ["run", "--once", "--manifests", folder.path().to_str().unwrap()];
    let expect = |code: i32, report: &str, flags: &[&str]| {
        let maps = [
            "--tcp-services-configmap",
            "infra/tcp",
            "--udp-services-configmap",
            "infra/udp",
        ];
        let arguments: Vec<&str> = base.into_iter().chain(maps).chain(flags.iter().copied()).collect();
        let (found, process) = exit_code(start(&arguments));
        process
            .line(Output::Stderr, PATIENCE, |line| line.starts_with(report))
            .unwrap();
        assert_eq!(found, Some(code), "{}", process.transcript());
    };
    expect(0, "warning infra/udp ConfigMap: ConfigMapNotFound: ", &[]);
    expect(
        1,
        "error infra/tcp ConfigMap: ExternalNameUnsupported: ",
        &["--external-name", "off"],
    );
    expect(
        0,
        "warning infra/tcp ConfigMap: PortConflict: ",
        &["--https", "127.0.0.1:9000"],
    );
}

#[test]
fn a_start_that_cannot_work_says_which_flag_to_change() {
    let (code, process) = exit_code(start(&["run", "--manifests", "/nonexistent"]));
    assert_eq!(code, Some(2));
    assert!(
        process
            .transcript()
            .contains("error: --manifests /nonexistent cannot be read"),
        "{}",
        process.transcript()
    );
    assert_eq!(exit_code(start(&["run"])).0, Some(2), "--manifests is required");
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let holder = Running::start(&[]);
    for (flag, address) in [
        ("--http", &taken),
        ("--admin", &taken),
        ("--https", &holder.address("https").to_string()),
    ] {
        let base = ["run", "--manifests", folder.path().to_str().unwrap()];
        let others = ANY_PORT.chunks(2).filter(|pair| pair[0] != flag).flatten().copied();
        let arguments: Vec<&str> = base.into_iter().chain(others).chain([flag, address.as_str()]).collect();
        let (code, process) = exit_code(start(&arguments));
        assert_eq!(code, Some(2), "{}", process.transcript());
        assert!(
            process.transcript().contains(&format!("error: {flag} {address}: ")),
            "{}",
            process.transcript()
        );
    }
    assert_eq!(holder.status("web.example"), 200);
}

#[test]
fn sigterm_fails_readiness_serves_for_the_grace_and_ends() {
    let running = Running::start(&["--drain-accept-grace", "2s", "--drain-timeout", "10s"]);
    let ready = || {
        RawClient::connect(running.address("admin"))
            .unwrap()
            .get("admin", "/readyz")
            .unwrap()
            .status
    };
    assert_eq!(ready(), 200);
    running.process.signal(Signal::TERM).unwrap();
    assert!(
        until(Duration::from_secs(1), || ready() == 503).is_some(),
        "{}",
        running.process.transcript()
    );
    assert_eq!(running.status("web.example"), 200, "new connections are still served");
    assert_eq!(exit_code(running.process).0, Some(0));
}

#[test]
fn requests_in_flight_finish_and_a_second_signal_ends_at_once() {
    let running = Running::start(&["--drain-timeout", "60s"]);
    let mut client = RawClient::connect(running.address("http")).unwrap();
    client
        .send(b"GET /delay/1000 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    assert!(until(PATIENCE, || running.backend.requests() == 1).is_some());
    let mut stuck = RawClient::connect(running.address("http")).unwrap();
    stuck
        .send(b"GET /delay/100000 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    assert!(until(PATIENCE, || running.backend.requests() == 2).is_some());
    running.process.signal(Signal::INT).unwrap();
    assert_eq!(client.response().unwrap().status, 200);
    running.process.signal(Signal::INT).unwrap();
    let mut process = running.process;
    let status = process.wait(Duration::from_secs(5)).unwrap().expect("it ends at once");
    assert_eq!(status.code(), Some(1));
}

#[test]
fn sighup_opens_the_access_log_anew() {
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("access.log");
    let running = Running::start(&["--access-log", log.to_str().unwrap()]);
    let has_line = || fs::read_to_string(&log).is_ok_and(|text| text.contains("web.example"));
    assert_eq!(running.status("web.example"), 200);
    assert!(until(PATIENCE, has_line).is_some());
    fs::rename(&log, logs.path().join("access.log.1")).unwrap();
    running.process.signal(Signal::HUP).unwrap();
    assert!(until(PATIENCE, || log.exists()).is_some());
    assert_eq!(running.status("web.example"), 200);
    assert!(until(PATIENCE, has_line).is_some());
}

#[test]
fn environment_variables_stand_for_flags_and_maps_may_be_many() {
    let folder = tempfile::tempdir().unwrap();
    let backend = EchoServer::start(EchoOptions::named("mapped")).unwrap();
    fs::write(folder.path().join("web.yaml"), web("web.example")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_propylon"));
    command.arg("run").args(ANY_PORT);
    command.env("PROPYLON_MANIFESTS", folder.path());
    command.env(
        "PROPYLON_MAP",
        format!("default/other=127.0.0.1:1,default/web:http={}", backend.address),
    );
    let process = Process::spawn(command).unwrap();
    process
        .line(Output::Stderr, PATIENCE, |line| line.starts_with("serving "))
        .unwrap();
    let mut client = RawClient::connect(address(&process, "http")).unwrap();
    assert_eq!(client.get("web.example", "/").unwrap().json()["name"], "mapped");
}

#[test]
fn the_demo_serves_what_it_prints_and_leaves_nothing_behind() {
    let arguments: Vec<&str> = ["demo"].into_iter().chain(ANY_PORT).collect();
    let process = start(&arguments);
    let serving = process
        .line(Output::Stderr, PATIENCE, |line| line.starts_with("serving "))
        .unwrap();
    let folder = Path::new(serving.trim_start_matches("serving "));
    process
        .line(Output::Stdout, PATIENCE, |line| line.starts_with("Ctrl-C ends"))
        .unwrap();
    let (http, https) = (address(&process, "http"), address(&process, "https"));
    let mut client = RawClient::connect(http).unwrap();
    for (host, path, name) in [
        ("demo", "/", "web"),
        ("shop.demo", "/", "web"),
        ("shop.demo", "/cart/items", "shop"),
    ] {
        let response = client.get(&format!("{host}.localhost:{}", http.port()), path).unwrap();
        assert_eq!(response.json()["name"], name, "{host}{path}");
    }
    let mut client = RawClient::connect_tls(https, Some("demo.localhost"), &["http/1.1"]).unwrap();
    assert_eq!(
        client
            .get(&format!("demo.localhost:{}", https.port()), "/")
            .unwrap()
            .status,
        200
    );
    assert!(folder.exists());
    process.signal(Signal::INT).unwrap();
    let (code, _) = exit_code(process);
    assert_eq!(code, Some(0));
    assert!(!folder.exists());
}
