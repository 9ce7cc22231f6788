//! `--takeover`: the next process gets the listening sockets, and no client notices.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    thread,
    time::Duration,
};

use propylon_e2e::{
    Gate,
    frames::{self, FrameClient, flag, kind},
    gate::{propylon, run_to_end},
    load::{Load, Plan},
    manifests::{echo, site},
    ports, websocket,
};
use propylon_testkit::{
    echo::EchoServer,
    process::{Output, Process},
    raw::RawClient,
    wait::{self, PATIENCE},
};
use rustix::process::Signal;
use tempfile::TempDir;

/// Processes that follow each other on the same addresses.
pub(crate) struct Succession {
    http: SocketAddr,
    https: SocketAddr,
    admin: SocketAddr,
    path: PathBuf,
    pub(crate) folder: TempDir,
    flags: Vec<String>,
    pub(crate) echo: EchoServer,
}

impl Succession {
    pub(crate) fn new(flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let echo = echo("web");
        std::fs::create_dir(folder.path().join("manifests")).unwrap();
        let manifests = site("web.example", "web", &[echo.address]);
        std::fs::write(folder.path().join("manifests/site.yaml"), manifests).unwrap();
        Self {
            http: ports::free(),
            https: ports::free(),
            admin: ports::free(),
            path: folder.path().join("takeover"),
            folder,
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            echo,
        }
    }

    /// Starts the next process, with more flags.
    fn begin(&self, more: &[&str]) -> Process {
        let manifests = self.folder.path().join("manifests");
        let mut arguments = vec![
            "run".to_owned(),
            "--manifests".to_owned(),
            manifests.display().to_string(),
        ];
        let own = [
            ("--http", self.http.to_string()),
            ("--https", self.https.to_string()),
            ("--admin", self.admin.to_string()),
            ("--access-log", "off".to_owned()),
            ("--workers", "2".to_owned()),
            ("--takeover", self.path.display().to_string()),
        ];
        for (flag, value) in own {
            if !more.contains(&flag) {
                arguments.extend([flag.to_owned(), value]);
            }
        }
        arguments.extend(self.flags.clone());
        arguments.extend(more.iter().map(|flag| (*flag).to_owned()));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Process::start(propylon(), &arguments).unwrap()
    }

    /// The same, and waits until it serves.
    pub(crate) fn next(&self, more: &[&str]) -> Process {
        let process = self.begin(more);
        serves(&process);
        process
    }

    fn connect(&self) -> RawClient {
        RawClient::connect(self.http).unwrap()
    }

    fn get(&self, path: &str) -> u16 {
        self.connect().get("web.example", path).unwrap().status
    }

    fn ready(&self) -> u16 {
        let mut client = RawClient::connect(self.admin).unwrap();
        client
            .send(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        client.response().unwrap().status
    }
}

fn serves(process: &Process) {
    if let Err(missing) = process.line(Output::Stderr, PATIENCE, |line| line.starts_with("serving ")) {
        panic!("{missing}");
    }
}

fn says(process: &Process, what: &str) {
    if let Err(missing) = process.line(Output::Stderr, PATIENCE, |line| line.contains(what)) {
        panic!("{what}: {missing}");
    }
}

/// Waits for the end of a process, which must be exit code 0.
pub(crate) fn ends_well(process: &mut Process) {
    let status = process.wait(PATIENCE).unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}\n{}",
        process.transcript()
    );
}

/// Ten restarts under load. 2,000 requests a second are asked for; a machine that is busy with other tests gives less, and
/// the test holds as long as there is a load at all.
#[test]
fn ten_restarts_under_load_lose_nothing() {
    let succession = Succession::new(&["--drain-accept-grace", "1s", "--drain-timeout", "30s"]);
    let mut processes = vec![succession.next(&[])];
    let load = Load::start(Plan {
        address: succession.http,
        new: 1_000,
        kept: 1_000,
    });
    let answered = |count: u64| {
        let goal = load.answers() + count;
        assert!(wait::until(PATIENCE, || load.answers() >= goal).is_some(), "no answers");
    };
    let mut downloads = Vec::new();
    let mut tunnels = Vec::new();
    for _ in 0..10 {
        answered(300);
        let mut download = succession.connect();
        downloads.push(thread::spawn(move || {
            download.get("web.example", "/slow-body/60/50").unwrap().body.len()
        }));
        let mut tunnel = succession.connect();
        tunnel.send(websocket::request("web.example", "/").as_bytes()).unwrap();
        assert!(tunnel.head().unwrap().starts_with("HTTP/1.1 101"));
        tunnels.push(tunnel);
        processes.push(succession.next(&[]));
        assert_eq!(succession.ready(), 200);
    }
    answered(300);
    for tunnel in &mut tunnels {
        tunnel.send(&websocket::client_text("still here")).unwrap();
        assert_eq!(tunnel.exactly(12).unwrap(), websocket::server_text("still here"));
    }
    drop(tunnels);
    for download in downloads {
        assert_eq!(download.join().unwrap(), 60);
    }
    let last = processes.pop().unwrap();
    for process in &mut processes {
        ends_well(process);
    }
    let outcome = load.stop();
    let rate = outcome.rate();
    println!("{outcome:?}, {rate:.0}/s");
    assert_eq!(outcome.failures, 0, "{:#?}\n{}", outcome.described, last.transcript());
    assert!(rate > 200.0, "{rate:.0}/s is no load");
}

#[test]
fn what_the_old_process_has_begun_it_finishes() {
    let succession = Succession::new(&["--drain-accept-grace", "2s", "--drain-timeout", "15s"]);
    let mut old = succession.next(&[]);
    let mut kept = succession.connect();
    assert_eq!(kept.get("web.example", "/").unwrap().header("connection"), None);
    let mut stream = FrameClient::connect(succession.http).unwrap();
    stream
        .request(1, &frames::get("web.example", "/delay/1500"), flag::END_STREAM)
        .unwrap();
    let before = succession.echo.requests();
    assert!(wait::until(PATIENCE, || succession.echo.requests() > before || before == 2).is_some());
    let new = succession.next(&[]);
    says(&old, "has the listening sockets");
    // The kept connection is asked to go elsewhere with its next response.
    let last = kept.get("web.example", "/").unwrap();
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    let is_goaway = |frame: &frames::Frame| frame.kind == kind::GOAWAY;
    let first = stream.read_until(is_goaway).unwrap();
    assert_eq!((first.number_at(0), first.number_at(4)), (Some(0x7fff_ffff), Some(0)));
    let second = stream.read_until(is_goaway).unwrap();
    assert_eq!((second.number_at(0), second.number_at(4)), (Some(1), Some(0)));
    let rest = stream.rest();
    assert!(
        rest.iter()
            .any(|frame| frame.kind == kind::HEADERS && frame.stream == 1),
        "{rest:?}"
    );
    // Nothing is left to do: it does not wait for the end of the grace, nor of the drain.
    ends_well(&mut old);
    assert_eq!(succession.get("/"), 200);
    assert_eq!(succession.ready(), 200, "{}", new.transcript());
}

#[test]
fn the_signal_of_a_supervisor_hurts_no_request_of_a_process_that_drains_already() {
    let succession = Succession::new(&["--drain-accept-grace", "1s", "--drain-timeout", "15s"]);
    let mut old = succession.next(&["--takeover-linger", "1h"]);
    let mut slow = succession.connect();
    slow.send(b"GET /delay/2000 HTTP/1.1\r\nHost: web.example\r\n\r\n")
        .unwrap();
    assert!(wait::until(PATIENCE, || succession.echo.requests() == 1).is_some());
    let mut new = succession.next(&[]);
    old.signal(Signal::TERM).unwrap();
    assert_eq!(slow.response().unwrap().status, 200);
    ends_well(&mut old);
    // Without a signal it waits, so that nothing starts it again.
    drop(slow);
    let _third = succession.next(&[]);
    ends_well(&mut new);
}

#[test]
fn a_drained_process_lingers_until_it_is_told_to_end() {
    let succession = Succession::new(&["--drain-accept-grace", "100ms", "--takeover-linger", "1h"]);
    let mut old = succession.next(&[]);
    let _new = succession.next(&[]);
    assert!(
        old.wait(Duration::from_secs(2)).unwrap().is_none(),
        "{}",
        old.transcript()
    );
    old.signal(Signal::TERM).unwrap();
    ends_well(&mut old);
}

#[test]
fn other_addresses_and_numbers_of_workers_are_taken_as_they_come() {
    let succession = Succession::new(&["--drain-accept-grace", "100ms"]);
    let mut old = succession.next(&["--workers", "3"]);
    let https = ports::free().to_string();
    let mut new = succession.next(&["--workers", "1", "--https", &https]);
    ends_well(&mut old);
    for _ in 0..50 {
        assert_eq!(succession.get("/"), 200);
    }
    assert!(
        RawClient::connect(succession.https).is_err(),
        "the address is no longer served"
    );
    assert!(RawClient::connect_tls(https.parse().unwrap(), None, &[]).is_ok());
    let _third = succession.next(&["--workers", "5"]);
    ends_well(&mut new);
    for _ in 0..50 {
        assert_eq!(succession.get("/"), 200);
    }
    assert!(RawClient::connect_tls(succession.https, None, &[]).is_ok());
}

fn hello() -> Vec<u8> {
    let text = br#"{"type":"hello","version":1}"#;
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), &text[..]].concat()
}

#[test]
fn a_next_process_that_dies_before_it_is_ready_changes_nothing() {
    let succession = Succession::new(&["--drain-accept-grace", "100ms"]);
    let mut old = succession.next(&[]);
    let mut kept = succession.connect();
    assert_eq!(kept.get("web.example", "/").unwrap().status, 200);
    let mut dying = UnixStream::connect(&succession.path).unwrap();
    dying.write_all(&hello()).unwrap();
    assert!(dying.read(&mut [0; 100]).unwrap() > 0);
    // While it is there, another one waits; what both see is served.
    let waiting = succession.begin(&[]);
    says(&waiting, "waiting for the running process");
    assert_eq!(succession.get("/"), 200);
    drop(dying);
    says(&old, "serving on");
    assert_eq!(kept.get("web.example", "/").unwrap().header("connection"), None);
    serves(&waiting);
    assert_eq!(
        kept.get("web.example", "/").unwrap().header("connection"),
        Some("close")
    );
    ends_well(&mut old);
    assert_eq!(succession.get("/"), 200);
}

#[test]
fn nonsense_at_the_desk_of_the_running_process_is_let_go() {
    let succession = Succession::new(&["--drain-accept-grace", "100ms"]);
    let mut old = succession.next(&[]);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x02{}", b"\0\0\0\0", b""] {
        let mut client = UnixStream::connect(&succession.path).unwrap();
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        client.read_to_end(&mut Vec::new()).unwrap_or_default();
    }
    assert_eq!(succession.get("/"), 200);
    let _new = succession.next(&[]);
    ends_well(&mut old);
}

#[test]
fn a_process_that_answers_nonsense_or_is_gone_is_replaced() {
    let succession = Succession::new(&[]);
    let listener = UnixListener::bind(&succession.path).unwrap();
    let nonsense = thread::spawn(move || listener.accept().unwrap().0.write_all(b"HTTP/1.1 200 OK\r\n\r\n"));
    let mut first = succession.next(&[]);
    nonsense.join().unwrap().unwrap();
    says(&first, "hands nothing over");
    assert_eq!(succession.get("/"), 200);
    first.signal(Signal::KILL).unwrap();
    first.wait(PATIENCE).unwrap().unwrap();
    assert!(succession.path.exists(), "a killed process leaves its socket behind");
    let mut second = succession.next(&[]);
    assert_eq!(succession.get("/"), 200);
    second.signal(Signal::INT).unwrap();
    ends_well(&mut second);
    assert!(!succession.path.exists(), "a process that ends takes its socket along");
}

#[test]
fn a_port_in_use_is_still_an_error() {
    let gate = Gate::start_with(&site("web.example", "web", &[]), &[]);
    let folder = tempfile::tempdir().unwrap();
    let (manifests, path) = (gate.folder().display().to_string(), folder.path().join("takeover"));
    let http = gate.http.to_string();
    let arguments = [
        "run",
        "--manifests",
        &manifests,
        "--admin",
        "off",
        "--https",
        "off",
        "--http",
        &http,
    ];
    for more in [&[][..], &["--takeover", path.to_str().unwrap()]] {
        let output = run_to_end(&[&arguments, more].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(
            error.contains(&format!("--http {http}")) && error.contains("in use"),
            "{error}"
        );
    }
    let arguments = [
        &arguments[..7],
        &["--http", "127.0.0.1:0", "--takeover", "/no/such/folder/socket"],
    ]
    .concat();
    let output = run_to_end(&arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.code() == Some(2) && error.contains("--takeover /no/such/folder/socket"),
        "{error}"
    );
}
