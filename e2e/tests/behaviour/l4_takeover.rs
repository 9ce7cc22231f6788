//! `--takeover` with ports of Services: no connection is refused or reset, streams live on, datagrams are answered.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use propylon_e2e::{
    load::{Load, Plan},
    ports,
};
use propylon_testkit::wait::{self, PATIENCE};

use super::takeover::{Succession, ends_well};

/// A `LoadBalancer` Service with one port and one endpoint.
fn service(name: &str, protocol: &str, port: u16, endpoint: SocketAddr) -> String {
    let (ip, target) = (endpoint.ip(), endpoint.port());
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  type: LoadBalancer
  ports: [{{name: main, port: {port}, protocol: {protocol}, targetPort: {target}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: default
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{{name: main, port: {target}, protocol: {protocol}}}]
endpoints: [{{addresses: [\"{ip}\"]}}]
"
    )
}

/// Sends back what comes.
fn tcp_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                if std::io::copy(&mut reader, &mut stream).is_ok() {
                    drop(stream.shutdown(Shutdown::Write));
                }
            });
        }
    });
    address
}

fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(buffer.get(..length).unwrap(), from));
        }
    });
    address
}

/// A client that sends a datagram, waits for its answer, and sends the next.
struct Asking {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Asking {
    fn start(address: SocketAddr) -> Self {
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (is_over, count) = (Arc::clone(&stop), Arc::clone(&answers));
        let thread = thread::spawn(move || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(address).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            while !is_over.load(Relaxed) {
                let question = count.load(Relaxed).to_be_bytes();
                socket.send(&question).unwrap();
                let mut answer = [0; 8];
                let length = socket.recv(&mut answer);
                assert!(length.is_ok(), "a datagram was lost: {length:?}");
                assert_eq!(answer, question);
                count.fetch_add(1, Relaxed);
            }
        });
        Self { stop, answers, thread }
    }

    fn answered(&self, more: u64) {
        let goal = self.answers.load(Relaxed) + more;
        let came = wait::until(PATIENCE, || self.answers.load(Relaxed) >= goal);
        assert!(came.is_some(), "no answers");
    }

    fn end(self) {
        self.stop.store(true, Relaxed);
        assert!(self.thread.join().is_ok(), "a question was not answered");
    }
}

fn stream(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends and receives on a stream that stays open.
fn talk(stream: &mut TcpStream, words: &[u8]) {
    stream.write_all(words).unwrap();
    let mut answer = vec![0; words.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, words);
}

#[test]
fn restarts_refuse_and_reset_no_connection_of_a_service_and_datagrams_are_answered() {
    let succession = Succession::new(&["--drain-accept-grace", "1s", "--drain-timeout", "10m"]);
    let [web, line, dns] = [ports::free(), ports::free(), ports::free()];
    let manifests = [
        service("web-l4", "TCP", web.port(), succession.echo.address),
        service("line", "TCP", line.port(), tcp_echo()),
        service("dns", "UDP", dns.port(), udp_echo()),
    ];
    std::fs::write(succession.folder.path().join("manifests/l4.yaml"), manifests.concat()).unwrap();
    let mut processes = vec![succession.next(&[])];
    let load = Load::start(Plan {
        address: web,
        new: 500,
        kept: 0,
    });
    let asking = Asking::start(dns);
    let answered = |count: u64| {
        let goal = load.answers() + count;
        assert!(wait::until(PATIENCE, || load.answers() >= goal).is_some(), "no answers");
    };
    let mut streams = Vec::new();
    for _ in 0..5 {
        answered(100);
        asking.answered(50);
        let mut stream = stream(line);
        talk(&mut stream, b"begun");
        streams.push(stream);
        processes.push(succession.next(&[]));
    }
    answered(100);
    asking.answered(50);
    for stream in &mut streams {
        talk(stream, b"still here");
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "it ends as its ends want");
    }
    let last = processes.pop().unwrap();
    for process in &mut processes {
        ends_well(process);
    }
    let outcome = load.stop();
    println!("{outcome:?}");
    assert_eq!(outcome.failures, 0, "{:#?}\n{}", outcome.described, last.transcript());
    asking.end();
}

#[test]
fn a_stream_of_a_service_that_does_not_end_is_cut_at_the_deadline() {
    let succession = Succession::new(&["--drain-accept-grace", "100ms", "--drain-timeout", "2s"]);
    let line = ports::free();
    let manifests = service("line", "TCP", line.port(), tcp_echo());
    std::fs::write(succession.folder.path().join("manifests/l4.yaml"), manifests).unwrap();
    let mut old = succession.next(&[]);
    let mut kept = stream(line);
    talk(&mut kept, b"begun");
    let _new = succession.next(&[]);
    talk(&mut kept, b"still here");
    assert!(!matches!(kept.read(&mut [0; 1]), Ok(1..)));
    ends_well(&mut old);
    talk(&mut stream(line), b"the next process");
}
