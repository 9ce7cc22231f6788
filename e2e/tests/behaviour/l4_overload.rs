//! Layer 4 where the process runs out of something: new connections are reset, open ones go on, no endpoint is blamed.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use propylon_e2e::{Gate, ports};
use propylon_testkit::{manifest, wait::PATIENCE};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// Gives back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                drop(std::io::copy(&mut reader, &mut stream));
            });
        }
    });
    address
}

fn start(flags: &[&str]) -> (Gate, SocketAddr) {
    let (address, endpoint) = (ports::free(), echo());
    let port = address.port();
    let service = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: db, namespace: default}}
spec:
  type: LoadBalancer
  ports: [{{name: http, port: {port}, targetPort: http}}]
"
    );
    let gate = Gate::start_with(
        &(service + &manifest::endpoint_slice("default", "db", "1", &[endpoint])),
        flags,
    );
    gate.line(&["listening tcp", &address.to_string()]);
    (gate, address)
}

/// Whether a connection is served: what it sends comes back.
fn serves(stream: &mut TcpStream) -> bool {
    let mut answer = [0; 2];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(b"hi")
        .and_then(|()| stream.read_exact(&mut answer))
        .is_ok()
        && &answer == b"hi"
}

fn is_served(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok_and(|mut stream| serves(&mut stream))
}

fn ended(gate: &Gate, end: &str) -> f64 {
    let label = format!("end=\"{end}\"");
    gate.metric("propylon_l4_connections_total", &[&label]).unwrap_or(0.0)
}

#[test]
fn without_file_descriptors_new_connections_are_reset_and_no_endpoint_is_blamed() {
    let (gate, address) = start(&["--max-connections", "5000"]);
    let mut open = TcpStream::connect(address).unwrap();
    assert!(serves(&mut open));
    let pid = Pid::from_raw(i32::try_from(gate.process.id()).unwrap()).unwrap();
    let used = fs::read_dir(format!("/proc/{}/fd", gate.process.id())).unwrap().count();
    let limit = u64::try_from(used + 20).ok();
    let limit = Rlimit {
        current: limit,
        maximum: limit,
    };
    prlimit(Some(pid), Resource::Nofile, limit).unwrap();
    let mut others: Vec<TcpStream> = Vec::new();
    let mut reset = false;
    gate.until("a connection is reset", || {
        others.extend((0..20).filter_map(|_| TcpStream::connect(address).ok()));
        reset |= !is_served(address);
        reset
    });
    assert!(serves(&mut open));
    drop(others);
    gate.until("it serves again", || is_served(address));
    assert!(serves(&mut open));
    assert!(ended(&gate, "overload_descriptors") >= 1.0);
    assert!(ended(&gate, "connect_failed") < 1.0);
    assert!(ended(&gate, "no_ready_endpoints") < 1.0, "the endpoint was ejected");
}

#[test]
fn with_all_places_taken_the_next_connection_is_reset() {
    let (gate, address) = start(&["--max-connections", "4"]);
    let mut open: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(open.iter_mut().all(serves));
    assert!(!is_served(address));
    assert!(open.iter_mut().all(serves));
    drop(open);
    gate.until("it serves again", || is_served(address));
    assert!(ended(&gate, "too_many_connections") >= 1.0);
}

#[test]
fn without_memory_new_connections_are_reset() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let beside = path.with_extension("new");
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .unwrap();
    };
    write("proc/self/cgroup", "0::/\n");
    write("sys/fs/cgroup/memory.max", "1000");
    write("sys/fs/cgroup/memory.current", "100");
    let (gate, address) = start(&["--memory-root", root.path().to_str().unwrap()]);
    let mut open = TcpStream::connect(address).unwrap();
    assert!(serves(&mut open));
    write("sys/fs/cgroup/memory.current", "930");
    gate.until("connections are reset", || !is_served(address));
    assert!(serves(&mut open));
    write("sys/fs/cgroup/memory.current", "100");
    gate.until("it serves again", || is_served(address));
    assert!(ended(&gate, "overload_memory") >= 1.0);
}
