//! UDP ports of Services: sessions, their ends, and what stands before a datagram.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use propylon_model::{L4Protocol::Udp, ProxyVersion, Resources};
use propylon_testkit::wait;

use super::{
    common::start,
    l4::{PATIENCE, Served, free, service},
};

/// Sends each datagram back behind its name, and remembers what came from where.
struct UdpEcho {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<SocketAddr>>>,
}

impl UdpEcho {
    fn start(name: &'static str) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let sightings = Arc::clone(&seen);
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                sightings.lock().unwrap().push(from);
                let answer = [name.as_bytes(), &buffer[..length]].concat();
                drop(socket.send_to(&answer, from));
            }
        });
        Self { address, seen }
    }

    fn clients(&self) -> usize {
        let mut clients = self.seen.lock().unwrap().clone();
        clients.sort_unstable();
        clients.dedup();
        clients.len()
    }
}

fn client(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ask(socket: &UdpSocket, bytes: &[u8]) -> Vec<u8> {
    socket.send(bytes).unwrap();
    receive(socket)
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).expect("a reply in time");
    buffer.truncate(length);
    buffer
}

fn metric(name: &str, service: &str, address: SocketAddr, rest: &str) -> String {
    let port = address.port();
    format!("propylon_l4_{name}{{namespace=\"default\",service=\"{service}\",listener=\"{port}/UDP\"{rest}}}")
}

#[test]
fn each_client_has_a_session_of_its_own_and_datagrams_stay_whole() {
    let backend = UdpEcho::start("a:");
    let address = free(Udp);
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[backend.address]);
    served.put(service("dns", Udp, address));
    let clients: Vec<UdpSocket> = (0..20).map(|_| client(address)).collect();
    for round in 0..3_u8 {
        for (index, socket) in clients.iter().enumerate() {
            let payload = [round, u8::try_from(index).unwrap()];
            assert_eq!(ask(socket, &payload), [b"a:".as_slice(), &payload].concat());
        }
    }
    assert_eq!(backend.clients(), 20);
    // Empty, and larger than any packet.
    assert_eq!(ask(&clients[0], b""), b"a:");
    let large = vec![7; 60_000];
    assert_eq!(ask(&clients[0], &large)[2..], large);
    served.expect_metric(&format!("{} 20", metric("open_connections", "dns", address, "")));
    served.expect_metric(&format!(
        "{} {}",
        metric("received_bytes_total", "dns", address, ""),
        60 * 2 + 60_000
    ));
}

#[test]
fn a_burst_comes_back_whole_and_in_order() {
    let backend = UdpEcho::start("");
    let address = free(Udp);
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[backend.address]);
    served.put(service("dns", Udp, address));
    let socket = client(address);
    for burst in 0..20_u32 {
        for number in 0..50_u32 {
            socket
                .send(&[burst.to_be_bytes(), number.to_be_bytes()].concat())
                .unwrap();
        }
        for number in 0..50_u32 {
            assert_eq!(receive(&socket), [burst.to_be_bytes(), number.to_be_bytes()].concat());
        }
    }
}

#[test]
fn a_session_whose_endpoint_is_gone_goes_to_another_one() {
    let (one, two) = (UdpEcho::start("1:"), UdpEcho::start("2:"));
    let address = free(Udp);
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[one.address]);
    served.put(service("dns", Udp, address));
    let socket = client(address);
    assert_eq!(ask(&socket, b"x"), b"1:x");
    served.endpoints("dns", &[two.address]);
    let moved = wait::until(PATIENCE, || ask(&socket, b"x") == b"2:x");
    assert!(moved.is_some());
    served.expect_metric(&format!(
        "{} 1",
        metric("connections_total", "dns", address, ",end=\"endpoint_gone\"")
    ));
    // One more endpoint moves nobody.
    served.endpoints("dns", &[one.address, two.address]);
    assert!(wait::until(Duration::from_millis(400), || ask(&socket, b"x") != b"2:x").is_none());
}

#[test]
fn a_closed_port_is_noticed_and_another_endpoint_is_asked() {
    let backend = UdpEcho::start("a:");
    let closed = free(Udp);
    let address = free(Udp);
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[closed]);
    served.put(service("dns", Udp, address));
    let socket = client(address);
    socket.send(b"lost").unwrap();
    served.expect_metric(&format!(
        "{} 1",
        metric("connections_total", "dns", address, ",end=\"endpoint_reset\"")
    ));
    served.endpoints("dns", &[backend.address]);
    let mut answer = [0; 16];
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let answered = wait::until(PATIENCE, || {
        drop(socket.send(b"x"));
        socket.recv(&mut answer).is_ok_and(|length| answer[..length] == *b"a:x")
    });
    assert!(answered.is_some());
}

#[test]
fn silence_ends_a_session() {
    let backend = UdpEcho::start("a:");
    let address = free(Udp);
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[backend.address]);
    let mut impatient = service("dns", Udp, address);
    impatient.idle_timeout = Duration::from_millis(300);
    served.put(impatient);
    let socket = client(address);
    assert_eq!(ask(&socket, b"x"), b"a:x");
    served.expect_metric(&format!(
        "{} 1",
        metric("connections_total", "dns", address, ",end=\"idle_timeout\"")
    ));
    served.expect_metric(&format!("{} 0", metric("open_connections", "dns", address, "")));
    assert_eq!(ask(&socket, b"y"), b"a:y");
    assert_eq!(backend.clients(), 2, "the second session has a socket of its own");
}

#[test]
fn clients_outside_the_source_ranges_are_not_heard() {
    let backend = UdpEcho::start("a:");
    let address = free(Udp);
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[backend.address]);
    let mut limited = service("dns", Udp, address);
    limited.source_ranges = Some(vec!["127.9.0.0/16".parse().unwrap()]);
    served.put(limited);
    client(address).send(b"x").unwrap();
    served.expect_metric(&format!(
        "{} 1",
        metric(
            "dropped_datagrams_total",
            "dns",
            address,
            ",reason=\"source_range_denied\""
        )
    ));
    let inside = UdpSocket::bind((Ipv4Addr::new(127, 9, 0, 1), 0)).unwrap();
    inside.connect(address).unwrap();
    inside.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(ask(&inside, b"x"), b"a:x");
    assert_eq!(backend.clients(), 1);
}

#[test]
fn each_datagram_tells_the_client_by_a_proxy_header() {
    let backend = UdpEcho::start("");
    let address = free(Udp);
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[backend.address]);
    let mut told = service("dns", Udp, address);
    told.send_proxy = Some(ProxyVersion::V2);
    served.put(told);
    let socket = client(address);
    let source = socket.local_addr().unwrap();
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c".to_vec();
    for address in [source, address] {
        let std::net::IpAddr::V4(ip) = address.ip() else {
            panic!()
        };
        header.extend_from_slice(&ip.octets());
    }
    header.extend_from_slice(&source.port().to_be_bytes());
    header.extend_from_slice(&address.port().to_be_bytes());
    for payload in [b"one".as_slice(), b"two"] {
        assert_eq!(ask(&socket, payload), [header.as_slice(), payload].concat());
    }
}

#[test]
fn replies_come_from_the_address_that_was_asked() {
    let backend = UdpEcho::start("a:");
    // Bound to every address of the machine; the port is free on one of them, and so most likely on all.
    let port = free(Udp).port();
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[backend.address]);
    served.put(service("dns", Udp, (Ipv4Addr::UNSPECIFIED, port).into()));
    assert!(served.proxy.reports().is_empty(), "{:?}", served.proxy.reports());
    for last in 1..=3 {
        // A connected socket hears nobody else.
        let socket = client((Ipv4Addr::new(127, 0, 7, last), port).into());
        assert_eq!(ask(&socket, b"x"), b"a:x");
    }
}

#[test]
fn sessions_are_bounded_and_the_unanswered_ones_go_first() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let backend = UdpEcho::start("a:");
    let (address, other) = (free(Udp), free(Udp));
    // Half of the connections may be sessions.
    let mut served = Served::new(start(&["--max-connections", "200"]));
    served.endpoints("flood", &[silent.local_addr().unwrap()]);
    served.endpoints("dns", &[backend.address]);
    served.put(service("flood", Udp, address));
    served.put(service("dns", Udp, other));
    let flood: Vec<UdpSocket> = (0..300).map(|_| client(address)).collect();
    for socket in &flood {
        socket.send(b"x").unwrap();
    }
    served.expect_metric(&format!("{} 100", metric("open_connections", "flood", address, "")));
    served.expect_metric(&format!(
        "{} 200",
        metric(
            "dropped_datagrams_total",
            "flood",
            address,
            ",reason=\"too_many_connections\""
        )
    ));
    // A client with a backend that answers gets through as soon as the flood's sessions are a second old.
    let socket = client(other);
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answer = [0; 16];
    let served_all = wait::until(PATIENCE, || {
        drop(socket.send(b"x"));
        socket.recv(&mut answer).is_ok()
    });
    assert!(served_all.is_some());
}

#[test]
fn ten_thousand_sessions_come_and_go() {
    const SESSIONS: usize = 10_000;
    let backend = UdpEcho::start("a:");
    let address = free(Udp);
    let mut served = Served::new(start(&["--max-connections", "30000"]));
    served.endpoints("dns", &[backend.address]);
    let mut patient = service("dns", Udp, address);
    patient.idle_timeout = Duration::from_secs(3);
    served.put(patient);
    // A client address each; few sockets of the test's own are open at once.
    for number in 0..u16::try_from(SESSIONS).unwrap() {
        let [high, low] = number.to_be_bytes();
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 10, high, low), 0)).unwrap();
        socket.connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(ask(&socket, b"x"), b"a:x");
    }
    let ended = metric("connections_total", "dns", address, ",end=\"idle_timeout\"");
    served.expect_metric(&format!("{} 0", metric("open_connections", "dns", address, "")));
    served.expect_metric(&format!("{ended} {SESSIONS}"));
}

#[test]
fn a_listener_that_goes_serves_the_clients_that_it_has() {
    let backend = UdpEcho::start("a:");
    let address = free(Udp);
    let mut served = Served::new(start(&["--workers", "1"]));
    served.endpoints("dns", &[backend.address]);
    served.put(service("dns", Udp, address));
    let known = client(address);
    assert_eq!(ask(&known, b"x"), b"a:x");
    // Its endpoints go with it, as they do in a cluster.
    served.change(|resources| *resources = Resources::default());
    let later = wait::until(Duration::from_millis(1_500), || false);
    assert!(later.is_none());
    let stranger = client(address);
    stranger.send(b"stranger").unwrap();
    assert_eq!(ask(&known, b"y"), b"a:y");
    assert_eq!(backend.clients(), 1, "a stranger is not served any more");
    // The address is wanted again: the old sessions make room.
    served.endpoints("dns", &[backend.address]);
    served.put(service("dns", Udp, address));
    assert!(wait::until(PATIENCE, || served.proxy.l4_listeners().len() == 1).is_some());
    assert!(served.proxy.reports().is_empty());
    assert_eq!(ask(&stranger, b"z"), b"a:z");
    assert_eq!(ask(&known, b"z"), b"a:z");
}

#[test]
fn a_listener_that_goes_frees_its_port_when_its_sessions_have_ended() {
    let backend = UdpEcho::start("a:");
    let address = free(Udp);
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[backend.address]);
    let mut brief = service("dns", Udp, address);
    brief.idle_timeout = Duration::from_secs(1);
    served.put(brief);
    assert_eq!(ask(&client(address), b"x"), b"a:x");
    served.remove("dns");
    let freed = wait::until(PATIENCE, || UdpSocket::bind(address).is_ok());
    assert!(freed.is_some(), "the port is still held");
}

#[test]
fn a_drain_serves_the_clients_it_has_until_they_are_silent() {
    let backend = UdpEcho::start("a:");
    let address = free(Udp);
    let mut served = Served::new(start(&["--drain-timeout", "20s"]));
    served.endpoints("dns", &[backend.address]);
    let mut brief = service("dns", Udp, address);
    brief.idle_timeout = Duration::from_secs(1);
    served.put(brief);
    let socket = client(address);
    assert_eq!(ask(&socket, b"x"), b"a:x");
    served.proxy.drain(Duration::ZERO);
    for _ in 0..5 {
        assert!(wait::until(Duration::from_millis(100), || false).is_none());
        assert_eq!(ask(&socket, b"x"), b"a:x");
    }
    served.proxy.join();
}

#[test]
fn endpoints_that_are_full_take_no_further_session() {
    let backend = UdpEcho::start("a:");
    let address = free(Udp);
    let mut served = Served::new(start(&[]));
    served.endpoints("dns", &[backend.address]);
    let mut narrow = service("dns", Udp, address);
    narrow.policy.limits.max_connections = Some(2);
    served.put(narrow);
    let clients = [client(address), client(address)];
    for client in &clients {
        assert_eq!(ask(client, b"x"), b"a:x");
    }
    client(address).send(b"x").unwrap();
    served.expect_metric(&format!(
        "{} 1",
        metric("dropped_datagrams_total", "dns", address, ",reason=\"endpoints_full\"")
    ));
    assert_eq!(ask(&clients[0], b"y"), b"a:y");
    assert_eq!(backend.clients(), 2);
}
