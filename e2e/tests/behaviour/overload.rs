//! What runs out is refused early and with a reason; what has begun finishes; the process recovers by itself.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    thread,
    time::Duration,
};

use propylon_e2e::{
    Gate,
    load::{Load, Plan},
    manifests::{echo, site},
    websocket,
};
use propylon_testkit::{echo::EchoServer, raw::RawClient, wait::PATIENCE};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

fn web(flags: &[&str]) -> (Gate, EchoServer) {
    let echo = echo("web");
    let gate = Gate::start_with(&site("web.example", "web", &[echo.address]), flags);
    (gate, echo)
}

/// A download that takes `seconds`, and gives its length.
fn download(gate: &Gate, seconds: u32) -> thread::JoinHandle<usize> {
    let mut client = gate.connect();
    let path = format!("/slow-body/{}/100", seconds * 10);
    thread::spawn(move || client.get("web.example", &path).unwrap().body.len())
}

fn tunnel(gate: &Gate) -> RawClient {
    let mut tunnel = gate.connect();
    tunnel.send(websocket::request("web.example", "/").as_bytes()).unwrap();
    assert!(tunnel.head().unwrap().starts_with("HTTP/1.1 101"));
    tunnel
}

fn echoes(tunnel: &mut RawClient) {
    tunnel.send(&websocket::client_text("still here")).unwrap();
    assert_eq!(tunnel.exactly(12).unwrap(), websocket::server_text("still here"));
}

fn refused(gate: &Gate, code: &str) -> f64 {
    let label = format!("reason=\"{code}\"");
    gate.metric("propylon_responses_by_reason_total", &[&label])
        .unwrap_or(0.0)
}

fn is_short_of(gate: &Gate, resource: &str) -> bool {
    let label = format!("resource=\"{resource}\"");
    gate.metric("propylon_overload", &[&label]) == Some(1.0)
}

/// Sends a request on a new connection and reads whatever comes.
fn ask(gate: &Gate) -> String {
    let answer = TcpStream::connect(gate.http).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        // A reset after the answer is as good as its end.
        let ended = stream.read_to_end(&mut answer);
        if answer.is_empty() {
            ended.map(|_| answer)
        } else {
            Ok(answer)
        }
    });
    answer.map_or_else(
        |error| error.to_string(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

/// Sets the limit of open files of the running proxy to what it has open now and `more`.
fn leave_descriptors(gate: &Gate, more: usize) {
    let open = fs::read_dir(format!("/proc/{}/fd", gate.process.id())).unwrap().count();
    let limit = u64::try_from(open + more).unwrap();
    let pid = Pid::from_raw(i32::try_from(gate.process.id()).unwrap()).unwrap();
    let limit = Rlimit {
        current: Some(limit),
        maximum: Some(limit),
    };
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
}

#[test]
fn without_file_descriptors_clients_are_told_and_work_goes_on() {
    let (gate, echo) = web(&["--max-connections", "5000"]);
    let downloads: Vec<_> = (0..5).map(|_| download(&gate, 5)).collect();
    let mut tunnel = tunnel(&gate);
    gate.until("all are under way", || echo.requests() >= 6);
    leave_descriptors(&gate, 30);
    let mut told = String::new();
    let mut idle: Vec<TcpStream> = Vec::new();
    gate.until("a client is told", || {
        idle.extend((0..20).filter_map(|_| TcpStream::connect(gate.http).ok()));
        told = ask(&gate);
        told.starts_with("HTTP/1.1 503")
    });
    assert!(
        told.contains("overload.descriptors") && told.to_ascii_lowercase().contains("retry-after: 1"),
        "{told}"
    );
    echoes(&mut tunnel);
    for download in downloads {
        assert_eq!(download.join().unwrap(), 50);
    }
    drop(idle);
    let recovered = gate.until("it serves again", || ask(&gate).starts_with("HTTP/1.1 200"));
    assert!(recovered < Duration::from_secs(5), "{recovered:?}");
    echoes(&mut tunnel);
    assert!(refused(&gate, "overload.descriptors") >= 1.0);
    gate.until("the shortage is over", || !is_short_of(&gate, "descriptors"));
    gate.line(&["overload: over", "file descriptors"]);
    let lines = gate
        .transcript()
        .lines()
        .filter(|line| line.contains("overload:"))
        .count();
    assert!(lines < 20, "{lines} lines: not only the changes\n{}", gate.transcript());
}

#[test]
fn with_all_places_taken_the_next_client_is_told() {
    let (gate, echo) = web(&["--max-connections", "20"]);
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let mut client = gate.connect();
            thread::spawn(move || client.get("web.example", "/delay/5000").unwrap().status)
        })
        .collect();
    gate.until("all are under way", || echo.requests() >= 20);
    let told = ask(&gate);
    assert!(
        told.starts_with("HTTP/1.1 503") && told.contains("overload.connections"),
        "{told}"
    );
    for client in clients {
        assert_eq!(client.join().unwrap(), 200);
    }
    gate.until("it serves again", || ask(&gate).starts_with("HTTP/1.1 200"));
    assert!(refused(&gate, "overload.connections") >= 1.0);
    gate.until("the shortage is over", || !is_short_of(&gate, "connections"));
}

/// The files in which the kernel says what a cgroup may use, and how much of it this process uses.
struct Cgroup {
    root: tempfile::TempDir,
    usage: &'static str,
}

impl Cgroup {
    fn new(membership: &str, limit: &str, usage: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let cgroup = Self { root, usage };
        cgroup.write("proc/self/cgroup", membership);
        cgroup.write(limit, "1000000");
        cgroup.use_percent(10);
        cgroup
    }

    fn version_2() -> Self {
        Self::new("0::/\n", "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current")
    }

    fn version_1() -> Self {
        Self::new(
            "4:memory:/docker/1\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "sys/fs/cgroup/memory/memory.usage_in_bytes",
        )
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_extension("new");
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .unwrap();
    }

    fn use_percent(&self, percent: u32) {
        self.write(self.usage, &format!("{}\n", percent * 10_000));
    }

    fn path(&self) -> &Path {
        self.root.path()
    }
}

#[test]
fn without_memory_requests_are_refused_and_work_goes_on() {
    for cgroup in [Cgroup::version_2(), Cgroup::version_1()] {
        let (gate, echo) = web(&["--memory-root", cgroup.path().to_str().unwrap()]);
        gate.until("the limit is known", || {
            gate.metric("propylon_memory_bytes", &["limit"]) == Some(1_000_000.0)
        });
        let download = download(&gate, 6);
        let mut tunnel = tunnel(&gate);
        let mut kept = gate.connect();
        assert_eq!(kept.get("web.example", "/").unwrap().header("connection"), None);
        gate.until("it is under way", || echo.requests() >= 3);
        // 88 %: answers close their connections.
        cgroup.use_percent(89);
        gate.until("it is tight", || is_short_of(&gate, "memory"));
        assert!(ask(&gate).starts_with("HTTP/1.1 200"));
        // 92 %: requests are refused, and still are where use falls by a little.
        cgroup.use_percent(93);
        gate.until_status("web.example", "/", 503);
        cgroup.use_percent(90);
        gate.until("use is seen", || {
            gate.metric("propylon_memory_bytes", &["usage"]) == Some(900_000.0)
        });
        let told = ask(&gate).to_ascii_lowercase();
        assert!(
            told.contains("overload.memory") && told.contains("retry-after: 1"),
            "{told}"
        );
        assert!(told.contains("connection: close"), "{told}");
        // 95 %: connections are refused before anything is read.
        cgroup.use_percent(99);
        gate.until("connections are refused", || {
            let mut client = gate.connect();
            client
                .rest()
                .is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("overload.memory"))
        });
        echoes(&mut tunnel);
        assert_eq!(download.join().unwrap(), 60);
        cgroup.use_percent(50);
        gate.until("it serves again", || ask(&gate).starts_with("HTTP/1.1 200"));
        assert!(!is_short_of(&gate, "memory"));
        echoes(&mut tunnel);
        assert!(refused(&gate, "overload.memory") >= 3.0);
        gate.line(&["overload: enough memory again"]);
    }
}

/// Raises the limit of open files of this process, and of those it starts, as far as `wanted`.
fn raise_files(wanted: u64) {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    rustix::process::setrlimit(Resource::Nofile, raised)
        .unwrap_or_else(|error| panic!("this test needs {wanted} open files: {error}"));
}

/// Resident bytes that a client may cost while its head does not come, in a build without optimisation.
const BYTES_PER_CLIENT: u64 = 48 * 1024;

#[test]
fn ten_thousand_slow_clients_cost_little_and_are_ended() {
    const CLIENTS: u64 = 10_000;
    raise_files(15_000);
    let (gate, _echo) = web(&["--max-connections", "12000", "--header-timeout", "15s"]);
    assert_eq!(gate.get("web.example", "/").status, 200);
    let before = gate.resident_bytes();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = TcpStream::connect(gate.http).unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: web.example\r\nX-Slow: ")
            .unwrap();
        clients.push(client);
        if number % 1_000 == 0 {
            assert_eq!(gate.get("web.example", "/").status, 200);
        }
    }
    gate.until("most are in", || {
        gate.metric("propylon_connections", &["listener=\"http\""])
            .unwrap_or(0.0)
            > 9_000.0
    });
    let cost = gate.resident_bytes().saturating_sub(before) / CLIENTS;
    println!("{cost} bytes a client");
    assert!(cost < BYTES_PER_CLIENT, "{cost} bytes a client");
    // A byte now and then is no way around the deadline.
    for client in &mut clients {
        client.write_all(b"x").unwrap_or_default();
    }
    assert_eq!(gate.get("web.example", "/").status, 200);
    gate.until_within(Duration::from_mins(1), "all are ended", || {
        gate.metric("propylon_connections", &["listener=\"http\""])
            .unwrap_or(0.0)
            < 10.0
    });
    let mut answer = Vec::new();
    clients.last_mut().unwrap().read_to_end(&mut answer).unwrap_or_default();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert_eq!(gate.get("web.example", "/").status, 200);
}

#[test]
fn a_storm_of_connections_does_not_delay_those_who_are_served() {
    let (gate, _echo) = web(&[]);
    let load = Load::start(Plan {
        address: gate.http,
        new: 0,
        kept: 200,
    });
    gate.until("there is load", || load.answers() > 100);
    for _ in 0..3 {
        let storm: Vec<_> = (0..4)
            .map(|_| {
                let address = gate.http;
                thread::spawn(move || {
                    let streams: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(address).unwrap()).collect();
                    streams.len()
                })
            })
            .collect();
        for thread in storm {
            assert_eq!(thread.join().unwrap(), 500);
        }
        let seen = load.answers();
        gate.until("the load goes on", || load.answers() > seen + 100);
    }
    assert_eq!(gate.get("web.example", "/").status, 200);
    let outcome = load.stop();
    println!("{outcome:?}");
    assert_eq!(outcome.failures, 0, "{:#?}", outcome.described);
    assert!(outcome.slowest < Duration::from_secs(2), "{:?}", outcome.slowest);
}
