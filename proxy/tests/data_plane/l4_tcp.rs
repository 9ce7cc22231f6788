//! TCP ports of Services: what goes in comes out, and what must not does not.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use propylon_model::{L4Protocol::Tcp, ProxyVersion};
use propylon_testkit::{certs::Authority, raw::RawClient, wait};

use super::{
    common::start,
    l4::{Backend, PATIENCE, Served, ask, connect, connect_from, free, refusing, service},
};

#[test]
fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    let backend = Backend::echo("a:");
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address]);
    served.put(service("web", Tcp, address));
    assert_eq!(ask(&mut connect(address), b"hello").unwrap(), b"a:hello");
    let sent = vec![7_u8; 8 << 20];
    let mut client = connect(address);
    let mut reader = client.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).map(|_| answer)
    });
    client.write_all(&sent).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let answer = reading.join().unwrap().unwrap();
    assert_eq!(answer.len(), sent.len() + 2);
    assert!(answer[2..] == sent[..]);
    let labels = format!(
        "namespace=\"default\",service=\"web\",listener=\"{}/TCP\"",
        address.port()
    );
    served.expect_metric(&format!("propylon_l4_connections_total{{{labels},end=\"complete\"}} 2"));
    served.expect_metric(&format!("propylon_l4_open_connections{{{labels}}} 0"));
    served.expect_metric(&format!(
        "propylon_l4_received_bytes_total{{{labels}}} {}",
        5 + (8 << 20)
    ));
    served.expect_metric(&format!("propylon_l4_sent_bytes_total{{{labels}}} {}", 9 + (8 << 20)));
    served.expect_metric(&format!("propylon_l4_duration_seconds_count{{{labels}}} 2"));
}

#[test]
fn a_listener_vanishes_and_its_connections_live_on() {
    let backend = Backend::echo("a:");
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address]);
    served.put(service("web", Tcp, address));
    let listeners = served.proxy.l4_listeners();
    assert_eq!((listeners.len(), listeners[0].address), (1, address));
    let mut client = connect(address);
    client.write_all(b"before").unwrap();
    let mut answer = [0; 8];
    client.read_exact(&mut answer).unwrap();
    served.remove("web");
    assert!(served.proxy.l4_listeners().is_empty());
    let refused = wait::until(PATIENCE, || std::net::TcpStream::connect(address).is_err());
    assert!(refused.is_some(), "the listener is still there");
    assert_eq!(ask(&mut client, b" and after").unwrap(), b" and after");
    // The same address again.
    served.put(service("web", Tcp, address));
    assert_eq!(ask(&mut connect(address), b"x").unwrap(), b"a:x");
}

#[test]
fn a_change_of_endpoints_leaves_open_connections_where_they_are() {
    let (one, two) = (Backend::echo("1:"), Backend::echo("2:"));
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[one.address]);
    served.put(service("web", Tcp, address));
    let mut client = connect(address);
    let mut answer = [0; 2];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"1:");
    served.endpoints("web", &[two.address]);
    assert_eq!(ask(&mut connect(address), b"x").unwrap(), b"2:x");
    assert_eq!(ask(&mut client, b"x").unwrap(), b"x");
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

#[test]
fn another_endpoint_is_tried_where_one_refuses() {
    let backend = Backend::echo("a:");
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address, refusing()]);
    served.put(service("web", Tcp, address));
    for _ in 0..20 {
        assert_eq!(ask(&mut connect(address), b"x").unwrap(), b"a:x");
    }
}

#[test]
fn without_an_endpoint_the_connection_is_reset() {
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[]);
    served.put(service("web", Tcp, address));
    let error = connect(address).read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let port = address.port();
    served.expect_metric(&format!(
        "propylon_l4_connections_total{{namespace=\"default\",service=\"web\",listener=\"{port}/TCP\",end=\"no_ready_endpoints\"}} 1"
    ));
}

#[test]
fn clients_outside_the_source_ranges_are_refused_before_a_byte_is_read() {
    let backend = Backend::echo("a:");
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address]);
    let mut limited = service("web", Tcp, address);
    limited.source_ranges = Some(vec!["127.9.0.0/16".parse().unwrap()]);
    served.put(limited.clone());
    let inside = Ipv4Addr::new(127, 9, 1, 1).into();
    let outside = Ipv4Addr::new(127, 8, 1, 1).into();
    assert_eq!(ask(&mut connect_from(inside, address).unwrap(), b"x").unwrap(), b"a:x");
    let mut refused = connect_from(outside, address).unwrap();
    // It has sent nothing, and is refused all the same.
    assert_eq!(
        refused.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    assert_eq!(backend.connections(), 1);
    // A change holds for the next connection, and the socket stays.
    limited.source_ranges = Some(Vec::new());
    served.put(limited.clone());
    assert!(connect_from(inside, address).unwrap().read(&mut [0; 1]).is_err());
    limited.source_ranges = None;
    served.put(limited);
    assert_eq!(ask(&mut connect_from(outside, address).unwrap(), b"x").unwrap(), b"a:x");
}

#[test]
fn the_endpoint_is_told_the_client_by_a_proxy_header() {
    let (sender, headers) = mpsc::channel();
    let sender = Mutex::new(sender);
    let backend = Backend::start(move |mut stream| {
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        sender.lock().unwrap().send(bytes).unwrap();
    });
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address]);
    let mut told = service("web", Tcp, address);
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        told.send_proxy = Some(version);
        served.put(told.clone());
        let mut client = connect(address);
        let source = client.local_addr().unwrap();
        assert_eq!(ask(&mut client, b"payload").unwrap(), b"");
        let received = headers.recv_timeout(PATIENCE).unwrap();
        let expected = match version {
            ProxyVersion::V1 => format!(
                "PROXY TCP4 {} {} {} {}\r\n",
                source.ip(),
                address.ip(),
                source.port(),
                address.port()
            )
            .into_bytes(),
            ProxyVersion::V2 => {
                let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
                for address in [source, address] {
                    let std::net::IpAddr::V4(ip) = address.ip() else {
                        panic!()
                    };
                    header.extend_from_slice(&ip.octets());
                }
                header.extend_from_slice(&source.port().to_be_bytes());
                header.extend_from_slice(&address.port().to_be_bytes());
                header
            }
        };
        assert_eq!(received, [expected.as_slice(), b"payload"].concat());
    }
}

#[test]
fn a_proxy_header_of_the_client_is_taken_off_and_handed_on() {
    let (sender, headers) = mpsc::channel();
    let sender = Mutex::new(sender);
    let backend = Backend::start(move |mut stream| {
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        sender.lock().unwrap().send(bytes).unwrap();
    });
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address]);
    let mut asked = service("web", Tcp, address);
    asked.accept_proxy = true;
    served.put(asked.clone());
    let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 4000 443\r\n";
    ask(&mut connect(address), &[line, b"payload".as_slice()].concat()).unwrap();
    assert_eq!(headers.recv_timeout(PATIENCE).unwrap(), b"payload");
    asked.send_proxy = Some(ProxyVersion::V1);
    served.put(asked);
    ask(&mut connect(address), &[line, b"payload".as_slice()].concat()).unwrap();
    let received = headers.recv_timeout(PATIENCE).unwrap();
    assert_eq!(received, [line, b"payload".as_slice()].concat());
    let mut wrong = connect(address);
    wrong.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    assert!(wrong.read(&mut [0; 1]).is_err(), "it is reset");
}

#[test]
fn tls_is_terminated_with_the_certificate_of_the_service() {
    let backend = Backend::echo("a:");
    let address = free(Tcp);
    let ca = Authority::new("test");
    let leaf = ca.leaf(&["db.example.com"]);
    let mut served = Served::new(start(&[]));
    served.endpoints("db", &[backend.address]);
    let name = propylon_model::CertificateName::new("default/db-tls");
    let certificate = propylon_model::Certificate {
        hosts: Vec::new(),
        not_for: Vec::new(),
        chain_der: vec![leaf.cert_der.to_vec()].into(),
        key: propylon_model::PrivateKeyDer::new(leaf.key_der.clone()),
        not_after_unix_s: i64::MAX,
        rank: 0,
    };
    served.change(|resources| drop(resources.certificates.insert(name.clone(), Arc::new(certificate))));
    let mut secured = service("db", Tcp, address);
    secured.tls = Some(name);
    served.put(secured);
    let mut client = RawClient::connect_tls(address, Some("other.example.com"), &["h2"]).unwrap();
    assert_eq!(client.exactly(2).unwrap(), b"a:");
    assert_eq!(client.alpn(), None);
    assert_eq!(client.certificates()[0].as_ref(), leaf.cert_der.as_ref());
    client.send(&vec![b'x'; 300_000]).unwrap();
    assert!(client.exactly(300_000).unwrap().iter().all(|byte| *byte == b'x'));
    client.finish().unwrap();
    assert!(client.rest().unwrap().is_empty());
}

#[test]
fn a_reset_of_one_side_is_a_reset_for_the_other() {
    let (sender, ends) = mpsc::channel();
    let sender = Mutex::new(sender);
    let backend = Backend::start(move |mut stream| {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        if byte == *b"r" {
            socket2::SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
            return;
        }
        stream.write_all(b"y").unwrap();
        sender.lock().unwrap().send(stream.read(&mut byte)).unwrap();
    });
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address]);
    served.put(service("web", Tcp, address));
    let mut client = connect(address);
    client.write_all(b"r").unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let mut client = connect(address);
    client.write_all(b"c").unwrap();
    client.read_exact(&mut [0; 1]).unwrap();
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    let end = ends.recv_timeout(PATIENCE).unwrap();
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reader_that_is_slow_slows_the_writer() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let backend = Backend::start(move |mut stream| {
        stream.set_write_timeout(None).unwrap();
        let chunk = vec![1; 64 * 1024];
        for _ in 0..(64 << 20) / chunk.len() {
            if stream.write_all(&chunk).is_err() {
                return;
            }
            count.fetch_add(chunk.len(), Ordering::Relaxed);
        }
    });
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address]);
    served.put(service("web", Tcp, address));
    let mut client = connect(address);
    // It stops by itself: what the kernel and one pipe hold is far less than all.
    let mut before = usize::MAX;
    let stood_still = wait::until(PATIENCE, || {
        let now = written.load(Ordering::Relaxed);
        let same = now == before && now > 0;
        before = now;
        same && wait::until(Duration::from_millis(300), || written.load(Ordering::Relaxed) != now).is_none()
    });
    assert!(stood_still.is_some(), "the backend never waited");
    assert!(written.load(Ordering::Relaxed) < 48 << 20);
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), 64 << 20);
}

#[test]
fn silence_ends_a_connection() {
    let backend = Backend::echo("a:");
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address]);
    let mut impatient = service("web", Tcp, address);
    impatient.idle_timeout = Duration::from_millis(300);
    served.put(impatient);
    let mut client = connect(address);
    client.read_exact(&mut [0; 2]).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let port = address.port();
    served.expect_metric(&format!(
        "propylon_l4_connections_total{{namespace=\"default\",service=\"web\",listener=\"{port}/TCP\",end=\"idle_timeout\"}} 1"
    ));
}

#[test]
fn a_port_that_is_taken_is_reported_and_bound_once_it_is_free() {
    let backend = Backend::echo("a:");
    let address = free(Tcp);
    let holder = TcpListener::bind(address).unwrap();
    let mut served = Served::new(start(&[]));
    served.endpoints("web", &[backend.address]);
    served.put(service("web", Tcp, address));
    let problems = served.proxy.reports();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].reason.as_str(), "ListenerFailed");
    assert!(
        problems[0].to_string().contains(&address.to_string()),
        "{}",
        problems[0]
    );
    drop(holder);
    assert!(wait::until(PATIENCE, || served.proxy.reports().is_empty()).is_some());
    assert_eq!(ask(&mut connect(address), b"x").unwrap(), b"a:x");
}

#[test]
fn of_two_services_the_older_has_the_port_and_the_other_gets_it_after() {
    let (old, new) = (Backend::echo("old:"), Backend::echo("new:"));
    let address = free(Tcp);
    let mut served = Served::new(start(&[]));
    served.endpoints("old", &[old.address]);
    served.endpoints("new", &[new.address]);
    let mut younger = service("new", Tcp, address);
    younger.created_unix_s = Some(2);
    served.put(younger);
    assert_eq!(ask(&mut connect(address), b"").unwrap(), b"new:");
    let mut older = service("old", Tcp, address);
    older.created_unix_s = Some(1);
    served.put(older);
    assert_eq!(ask(&mut connect(address), b"").unwrap(), b"old:");
    let problems = served.proxy.reports();
    assert_eq!(problems.len(), 1);
    assert_eq!(&*problems[0].object.name, "new");
    assert_eq!(problems[0].reason.as_str(), "PortConflict");
    assert!(problems[0].message.contains("default/old Service"), "{}", problems[0]);
    served.remove("old");
    assert!(served.proxy.reports().is_empty());
    assert_eq!(ask(&mut connect(address), b"").unwrap(), b"new:");
}

#[test]
fn the_ports_of_the_proxy_itself_are_not_given_away() {
    let backend = Backend::echo("a:");
    let mut served = Served::new(start(&[]));
    let own = served.proxy.addresses().http[0];
    served.endpoints("web", &[backend.address]);
    served.put(service("web", Tcp, own));
    let problems = served.proxy.reports();
    assert_eq!(problems[0].reason.as_str(), "PortConflict");
    assert!(
        problems[0].message.contains(&format!("--http {own}")),
        "{}",
        problems[0]
    );
}

#[test]
fn a_drain_waits_for_open_connections_and_no_longer_than_its_deadline() {
    let backend = Backend::echo("a:");
    let address = free(Tcp);
    let mut served = Served::new(start(&["--drain-timeout", "10s"]));
    served.endpoints("web", &[backend.address]);
    served.put(service("web", Tcp, address));
    let mut client = connect(address);
    client.read_exact(&mut [0; 2]).unwrap();
    served.proxy.drain(Duration::ZERO);
    assert!(wait::until(PATIENCE, || std::net::TcpStream::connect(address).is_err()).is_some());
    assert_eq!(ask(&mut client, b"late").unwrap(), b"late");
    served.proxy.join();

    let mut served = Served::new(start(&["--drain-timeout", "1s"]));
    served.endpoints("web", &[backend.address]);
    served.put(service("web", Tcp, address));
    let mut client = connect(address);
    client.read_exact(&mut [0; 2]).unwrap();
    served.proxy.drain(Duration::ZERO);
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    served.proxy.join();
}
