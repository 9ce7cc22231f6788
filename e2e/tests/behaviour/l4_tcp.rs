//! TCP ports of `LoadBalancer` Services, from manifests to bytes.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use propylon_e2e::{Gate, ports, programs};
use propylon_testkit::{certs::Authority, manifest, wait::PATIENCE};

/// A `LoadBalancer` Service with one TCP port and one endpoint; `more` is appended to its metadata and to its spec.
fn service(name: &str, port: u16, endpoint: SocketAddr, (metadata, spec): (&str, &str)) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: default
{metadata}
spec:
  type: LoadBalancer
  ports: [{{name: http, port: {port}, targetPort: http}}]
{spec}
"
    ) + &manifest::endpoint_slice("default", name, "1", &[endpoint])
}

/// Answers each connection with its name and everything that it was sent.
fn echo(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                if stream.write_all(name.as_bytes()).is_ok() && std::io::copy(&mut reader, &mut stream).is_ok() {
                    drop(stream.shutdown(Shutdown::Write));
                }
            });
        }
    });
    address
}

/// What a [`greeter`] does with a connection that it greeted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Close,
    Keep,
}

/// Sends `db:` on each connection.
fn greeter(after: After) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            drop(stream.write_all(b"db:"));
            if after == After::Keep {
                kept.push(stream);
            }
        }
    });
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn a_port_comes_and_goes_with_its_service() {
    let address = ports::free();
    let manifests = service("db", address.port(), echo("db:"), ("", ""));
    let gate = Gate::start(&manifests);
    gate.line(&["listening tcp", &address.to_string(), "default/db"]);
    assert_eq!(ask(address, b"hello"), b"db:hello");
    let mut open = connect(address);
    open.read_exact(&mut [0; 3]).unwrap();
    gate.replace("");
    gate.line(&["listening no longer tcp", &address.to_string()]);
    gate.until("the port is closed", || TcpStream::connect(address).is_err());
    // What is open lives on.
    open.write_all(b"still").unwrap();
    open.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"still");
    gate.replace(&manifests);
    gate.until("the port is open again", || TcpStream::connect(address).is_ok());
    let labels = [format!("listener=\"{}/TCP\"", address.port())];
    assert!(
        gate.metric("propylon_l4_open_connections", &[labels[0].as_str()])
            .is_some()
    );
}

#[test]
fn a_port_in_use_is_reported_and_served_once_it_is_free() {
    let address = ports::free();
    let holder = TcpListener::bind(address).unwrap();
    let gate = Gate::start(&service("db", address.port(), echo("db:"), ("", "")));
    gate.line(&["error default/db Service: ListenerFailed", &address.to_string()]);
    drop(holder);
    gate.line(&["resolved default/db Service: ListenerFailed"]);
    assert_eq!(ask(address, b"x"), b"db:x");
}

#[test]
fn clients_outside_the_source_ranges_are_reset() {
    let address = ports::free();
    let gate = Gate::start(&service(
        "db",
        address.port(),
        echo("db:"),
        ("", "  loadBalancerSourceRanges: [\"192.0.2.0/24\"]"),
    ));
    gate.line(&["listening tcp", &address.to_string()]);
    assert!(connect(address).read(&mut [0; 1]).is_err());
    gate.replace(&service(
        "db",
        address.port(),
        echo("db:"),
        ("", "  loadBalancerSourceRanges: [\"127.0.0.0/8\"]"),
    ));
    gate.until("the range lets this client in", || {
        let mut stream = connect(address);
        stream.read_exact(&mut [0; 3]).is_ok()
    });
}

#[test]
fn openssl_sees_the_certificate_of_the_service() {
    let (authority, address) = (Authority::new("authority"), ports::free());
    let leaf = authority.leaf(&["db.example"]);
    let manifests = service(
        "db",
        address.port(),
        greeter(After::Close),
        ("  annotations: {propylon.dev/tls-secret: db-tls}", ""),
    );
    let gate = Gate::start(&(manifests + &manifest::tls_secret("default", "db-tls", &leaf)));
    gate.line(&["listening tcp", &address.to_string()]);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let finished = programs::run(
        "openssl",
        &[
            "s_client",
            "-connect",
            &address.to_string(),
            "-servername",
            "db.example",
            "-CAfile",
            ca.to_str().unwrap(),
            "-verify_return_error",
            "-quiet",
        ],
    );
    assert!(finished.stdout().contains("db:"), "{}", finished.text());
}

#[test]
fn an_idle_connection_takes_little_memory() {
    const CONNECTIONS: usize = 4_000;
    let address = ports::free();
    let gate = Gate::start(&service("db", address.port(), greeter(After::Keep), ("", "")));
    gate.line(&["listening tcp", &address.to_string()]);
    let greeted = || {
        let mut stream = connect(address);
        stream.read_exact(&mut [0; 3]).unwrap();
        stream
    };
    let mut open: Vec<TcpStream> = (0..100).map(|_| greeted()).collect();
    let before = gate.resident_bytes();
    open.extend((0..CONNECTIONS).map(|_| greeted()));
    let each = gate.resident_bytes().saturating_sub(before) / CONNECTIONS as u64;
    println!("{each} bytes for an idle connection");
    // 4.7 KiB in a debug build; a buffer of its own would be 16 KiB.
    assert!(each < 6 * 1024, "{each}");
}
