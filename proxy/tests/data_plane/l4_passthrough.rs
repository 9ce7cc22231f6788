//! TLS passthrough: the right hosts go on unopened, all others are served as ever.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use propylon_model::{
    EndpointsName, GroupName, HostName, HostPattern, Kind, ObjectRef, Passthrough, PoolPolicy, ProxyVersion,
};
use propylon_testkit::{
    certs::Authority,
    echo::{EchoOptions, EchoServer},
    raw::{RawClient, accept_any_certificate},
};
use rustls::{ClientConnection, pki_types::ServerName};

use super::{
    common::{Builder, start},
    l4::{Backend, PATIENCE, Served, connect},
};

fn passthrough(host: &str, not_for: &[&str]) -> Passthrough {
    Passthrough {
        source: ObjectRef::new(Kind::Ingress, "default", "secret"),
        service: ObjectRef::new(Kind::Service, "default", "secret"),
        created_unix_s: None,
        host: HostPattern::parse(host).unwrap(),
        not_for: not_for.iter().map(|name| HostName::parse(name).unwrap()).collect(),
        endpoints: EndpointsName::new("default/secret:1"),
        policy: PoolPolicy::default(),
        send_proxy: None,
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_mins(1),
    }
}

fn put(served: &mut Served, entry: Passthrough) {
    let name = GroupName::new(format!("default/secret/{}", entry.host));
    served.change(|resources| drop(resources.passthrough.insert(name, Arc::new(entry))));
}

/// A proxy that serves `web.example.com` itself and hands `*.example.com` on to a TLS backend with a certificate of its own.
fn served(authority: &Authority) -> (Served, EchoServer, EchoServer) {
    let web = EchoServer::start(EchoOptions::named("web")).unwrap();
    let leaf = authority.leaf(&["*.example.com"]);
    let tls = leaf.server_config(&["http/1.1"]);
    let secret = EchoServer::start(EchoOptions::named("secret").with_tls(tls)).unwrap();
    let mut served = Served::new(start(&["--header-timeout", "2s"]));
    let resources = Builder::default().host("web.example.com", &[web.address]).build();
    served.change(|before| *before = resources);
    served.endpoints("secret", &[secret.address]);
    (served, web, secret)
}

fn https(served: &Served) -> SocketAddr {
    served.proxy.addresses().https[0]
}

fn ask(address: SocketAddr, host: &str) -> (String, Vec<u8>) {
    let mut client = RawClient::connect_tls(address, Some(host), &["http/1.1"]).unwrap();
    let response = client.get(host, "/").unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let name = response.json()["name"].as_str().unwrap().to_owned();
    (name, client.certificates()[0].to_vec())
}

#[test]
fn a_host_goes_on_unopened_and_the_others_are_served_here() {
    let authority = Authority::new("backend");
    let (mut served, _web, secret) = served(&authority);
    let (name, own) = ask(https(&served), "web.example.com");
    assert_eq!(name, "web");
    put(&mut served, passthrough("*.example.com", &["web.example.com"]));
    let (name, certificate) = ask(https(&served), "app.example.com");
    assert_eq!(name, "secret");
    assert_ne!(certificate, own, "the certificate is the backend's");
    assert_eq!(ask(https(&served), "web.example.com"), ("web".to_owned(), own));
    // Two labels, and no name at all: ours.
    for sni in [Some("x.app.example.com"), None] {
        let client = RawClient::connect_tls(https(&served), sni, &["http/1.1"]).unwrap();
        assert_ne!(client.certificates()[0].to_vec(), certificate, "{sni:?}");
    }
    assert_eq!(secret.requests(), 1);
    served.expect_metric(
        "propylon_l4_connections_total{namespace=\"default\",service=\"secret\",listener=\"passthrough\",end=\"complete\"} 1",
    );
    // And back.
    served.change(|resources| resources.passthrough.clear());
    let client = RawClient::connect_tls(https(&served), Some("app.example.com"), &["http/1.1"]).unwrap();
    assert_ne!(client.certificates()[0].to_vec(), certificate);
}

#[test]
fn a_hello_that_comes_byte_by_byte_is_understood() {
    let authority = Authority::new("backend");
    let (mut served, _web, _secret) = served(&authority);
    put(&mut served, passthrough("app.example.com", &[]));
    for (host, expected) in [("app.example.com", "secret"), ("web.example.com", "web")] {
        let mut socket = connect(https(&served));
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from(host).unwrap();
        let mut client = ClientConnection::new(Arc::new(accept_any_certificate()), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        for byte in &hello {
            socket.write_all(&[*byte]).unwrap();
        }
        let mut stream = rustls::StreamOwned::new(client, socket);
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        // The backend may end without close_notify.
        drop(stream.read_to_end(&mut answer));
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains(&format!("\"{expected}\"")), "{host}: {answer}");
    }
}

#[test]
fn half_a_hello_is_not_waited_for_for_ever() {
    let authority = Authority::new("backend");
    let (mut served, _web, _secret) = served(&authority);
    put(&mut served, passthrough("app.example.com", &[]));
    let mut silent = connect(https(&served));
    silent.write_all(b"\x16\x03\x01\x02\0\x01").unwrap();
    let mut gone = connect(https(&served));
    gone.write_all(b"\x16\x03\x01\x02\0\x01").unwrap();
    gone.shutdown(std::net::Shutdown::Write).unwrap();
    let began = propylon_kit::clock::now();
    assert!(gone.read(&mut [0; 1]).map_or(true, |read| read == 0));
    assert!(silent.read(&mut [0; 1]).map_or(true, |read| read == 0));
    assert!(began.elapsed() < PATIENCE);
    // No TLS at all is answered by our own handshake, with an alert.
    let mut plain = connect(https(&served));
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    plain.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
}

#[test]
fn the_bytes_are_untouched_and_a_proxy_header_stands_before_them() {
    let (sender, seen) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let backend = Backend::start(move |mut stream: TcpStream| {
        let mut bytes = Vec::new();
        drop(stream.read_to_end(&mut bytes));
        sender.lock().unwrap().send(bytes).unwrap();
    });
    let mut served = Served::new(start(&[]));
    served.endpoints("secret", &[backend.address]);
    let mut entry = passthrough("app.example.com", &[]);
    let name = ServerName::try_from("app.example.com").unwrap();
    let mut client = ClientConnection::new(Arc::new(accept_any_certificate()), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    for version in [None, Some(ProxyVersion::V1)] {
        entry.send_proxy = version;
        put(&mut served, entry.clone());
        let mut socket = connect(https(&served));
        let (source, destination) = (socket.local_addr().unwrap(), https(&served));
        socket.write_all(&hello).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let header = version.map_or_else(String::new, |_| {
            format!(
                "PROXY TCP4 {} {} {} {}\r\n",
                source.ip(),
                destination.ip(),
                source.port(),
                destination.port()
            )
        });
        let received = seen.recv_timeout(PATIENCE).unwrap();
        assert_eq!(received, [header.as_bytes(), &hello].concat());
    }
}
