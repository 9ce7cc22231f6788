use std::collections::BTreeMap;

use propylon_model::{Certificate, HostName, HostPattern, PrivateKeyDer};
use propylon_testkit::certs::{Authority, KeyType, Leaf, Validity};
use rustls::{SignatureScheme, pki_types::CertificateDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

mod client;
mod misdirected;
mod not_for;

use client::Client;

const NOW_UNIX_S: i64 = 1_790_000_000;

/// Certificates by name, with what they serve; a table is built of it again and again.
struct World {
    authority: Authority,
    context: Arc<TlsContext>,
    certificates: BTreeMap<CertificateName, Arc<Certificate>>,
}

impl World {
    fn new() -> Self {
        let context = TlsContext::new(NOW_UNIX_S).unwrap();
        Self {
            authority: Authority::new("tests"),
            context,
            certificates: BTreeMap::new(),
        }
    }

    fn put(&mut self, name: &str, hosts: &[&str], rank: u32, key: KeyType) -> CertificateDer<'static> {
        let leaf = self.authority.leaf_with(&["any.example"], key, Validity::Valid);
        self.certificates
            .insert(CertificateName::new(name), Arc::new(certificate(&leaf, hosts, rank)));
        leaf.cert_der
    }

    /// Forbids the wildcards of a certificate to serve a host.
    fn deny(&mut self, name: &str, host: &str) {
        let certificate = self.certificates.get_mut(name).unwrap();
        let not_for = &mut Arc::make_mut(certificate).not_for;
        not_for.push(HostName::parse(host).unwrap());
        not_for.sort();
    }

    fn build(&self, previous: Option<&CertTable>) -> CertTable {
        CertTable::build(&self.certificates, &self.context, previous)
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::new(Arc::new(ArcSwap::from_pointee(self.build(None))))
    }
}

fn certificate(leaf: &Leaf, hosts: &[&str], rank: u32) -> Certificate {
    Certificate {
        hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        not_for: Vec::new(),
        chain_der: vec![leaf.cert_der.to_vec()].into(),
        key: PrivateKeyDer::new(leaf.key_der.clone()),
        not_after_unix_s: NOW_UNIX_S,
        rank,
    }
}

fn named(name: &str) -> CertIdentity {
    CertIdentity::Named(CertificateName::new(name))
}

#[tokio::test]
async fn exact_before_one_label_wildcard_before_default() {
    let mut world = World::new();
    world.put("a/exact", &["app.example.com"], 0, KeyType::Ecdsa);
    world.put("a/wild", &["*.example.com"], 0, KeyType::Ecdsa);
    let acceptor = world.acceptor();
    let cases = [
        ("app.example.com", named("a/exact")),
        ("APP.example.com", named("a/exact")),
        ("other.example.com", named("a/wild")),
        ("a.b.example.com", CertIdentity::SelfSigned),
        ("example.com", CertIdentity::SelfSigned),
        ("unknown.test", CertIdentity::SelfSigned),
        ("10.0.0.1", CertIdentity::SelfSigned),
    ];
    for (name, identity) in cases {
        let session = Client::default().connect(&acceptor, name).await.unwrap();
        assert_eq!(session.info.certificate, identity, "{name}");
        let sni = (name != "10.0.0.1").then(|| name.to_lowercase().into());
        assert_eq!(session.info.sni, sni, "no server name is sent for an address");
        let expected = match world.certificates.get(identity.to_string().as_str()) {
            Some(source) => source.chain_der[0].clone(),
            None => world.context.self_signed().cert[0].to_vec(),
        };
        assert_eq!(session.peer_certificate(), expected, "{name}");
    }
    let default = world.put("a/default", &[""], 0, KeyType::Ecdsa);
    let session = Client::default()
        .connect(&world.acceptor(), "unknown.test")
        .await
        .unwrap();
    assert_eq!(
        (session.info.certificate.clone(), session.peer_certificate()),
        (named("a/default"), default.to_vec())
    );
}

#[tokio::test]
async fn the_client_gets_the_key_type_it_supports() {
    let mut world = World::new();
    world.put("a/rsa-old", &["app.example"], 0, KeyType::Rsa);
    world.put("a/rsa-new", &["app.example"], 9, KeyType::Rsa);
    world.put("a/ecdsa-new", &["app.example"], 5, KeyType::Ecdsa);
    world.put("a/ecdsa-old", &["app.example"], 3, KeyType::Ecdsa);
    let acceptor = world.acceptor();
    let rsa = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256];
    let both = [rsa[0], rsa[1], SignatureScheme::ECDSA_NISTP256_SHA256];
    for client in [Client::default(), Client::tls12()] {
        let session = client
            .clone()
            .schemes(&rsa)
            .connect(&acceptor, "app.example")
            .await
            .unwrap();
        assert_eq!(session.info.certificate, named("a/rsa-old"));
        let session = client.schemes(&both).connect(&acceptor, "app.example").await.unwrap();
        assert_eq!(session.info.certificate, named("a/ecdsa-old"));
    }
    let session = Client::rsa_suites().connect(&acceptor, "app.example").await.unwrap();
    assert_eq!(
        session.info.certificate,
        named("a/rsa-old"),
        "its suites of TLS 1.2 are for RSA"
    );
}

#[tokio::test]
async fn a_client_that_can_verify_nothing_is_told_so() {
    let mut world = World::new();
    world.put("a/one", &["app.example"], 0, KeyType::Ecdsa);
    world.put("a/two", &["app.example"], 1, KeyType::Ecdsa);
    let client = Client::default().schemes(&[SignatureScheme::RSA_PSS_SHA256]);
    let fault = client.connect(&world.acceptor(), "app.example").await.unwrap_err();
    assert_eq!(fault.name(), "incompatible", "{fault}");
}

#[tokio::test]
async fn versions_and_protocols_are_agreed() {
    let acceptor = World::new().acceptor();
    let cases = [
        (&["h2", "http/1.1"][..], Alpn::H2),
        (&["http/1.1"], Alpn::Http11),
        (&[], Alpn::None),
    ];
    for (offered, agreed) in cases {
        let session = Client::default()
            .alpn(offered)
            .connect(&acceptor, "a.example")
            .await
            .unwrap();
        assert_eq!(
            (session.info.alpn, session.info.version),
            (agreed, ProtocolVersion::TLSv1_3)
        );
        let session = Client::tls12()
            .alpn(offered)
            .connect(&acceptor, "a.example")
            .await
            .unwrap();
        assert_eq!(
            (session.info.alpn, session.info.version),
            (agreed, ProtocolVersion::TLSv1_2)
        );
    }
    let fault = Client::default()
        .alpn(&["spdy/3"])
        .connect(&acceptor, "a.example")
        .await
        .unwrap_err();
    assert_eq!(fault.name(), "no-alpn");
}

#[tokio::test]
async fn a_rotation_reaches_new_connections_and_spares_open_ones() {
    let mut world = World::new();
    let before = world.put("a/app", &["app.example"], 0, KeyType::Ecdsa);
    let table = Arc::new(ArcSwap::from_pointee(world.build(None)));
    let acceptor = TlsAcceptor::new(Arc::clone(&table));
    let mut open = Client::default().connect(&acceptor, "app.example").await.unwrap();
    let after = world.put("a/app", &["app.example", "www.example"], 0, KeyType::Ecdsa);
    table.store(Arc::new(world.build(Some(&acceptor.table()))));
    open.exchange().await;
    assert_eq!(open.peer_certificate(), before.to_vec());
    assert!(
        !acceptor.table().misdirected(&open.info, "www.example"),
        "the Secret is the same"
    );
    let fresh = Client::default().connect(&acceptor, "app.example").await.unwrap();
    assert_eq!(fresh.peer_certificate(), after.to_vec());
    open.exchange().await;
}

#[tokio::test]
async fn tickets_are_good_at_every_acceptor_and_bound_to_the_name() {
    let mut world = World::new();
    world.put("a/app", &["app.example", "www.example"], 0, KeyType::Ecdsa);
    let (one, two) = (world.acceptor(), world.acceptor());
    for client in [Client::default(), Client::tls12()] {
        let first = client.connect(&one, "app.example").await.unwrap();
        assert!(!first.info.resumed);
        first.finish().await;
        let second = client.connect(&two, "app.example").await.unwrap();
        assert!(
            second.info.resumed,
            "another acceptor of the same context opens the ticket"
        );
        assert_eq!(second.info.certificate, named("a/app"));
        second.finish().await;
        let other = client.connect(&two, "www.example").await.unwrap();
        assert!(!other.info.resumed, "a ticket is for one name");
    }
    let foreign = World::new();
    let client = Client::default();
    client.connect(&one, "app.example").await.unwrap().finish().await;
    let session = client.connect(&foreign.acceptor(), "app.example").await.unwrap();
    assert!(!session.info.resumed, "another process has other keys");
}

#[test]
fn unchanged_certificates_are_not_parsed_again() {
    let mut world = World::new();
    world.put("a/kept", &["kept.example"], 0, KeyType::Ecdsa);
    world.put("a/equal", &["equal.example"], 0, KeyType::Ecdsa);
    world.put("a/changed", &["changed.example"], 0, KeyType::Ecdsa);
    world.put("a/gone", &["gone.example"], 0, KeyType::Ecdsa);
    let old = world.build(None);
    let equal = world.certificates["a/equal"].as_ref().clone();
    world
        .certificates
        .insert(CertificateName::new("a/equal"), Arc::new(equal));
    world.put("a/changed", &["changed.example"], 0, KeyType::Ecdsa);
    world.certificates.remove("a/gone");
    let new = world.build(Some(&old));
    let same = |name: &str| Arc::ptr_eq(old.entry(name).unwrap(), new.entry(name).unwrap());
    assert!(same("a/kept") && same("a/equal") && !same("a/changed"));
    assert!(new.entry("a/gone").is_none());
    assert_eq!(
        new.facts().map(|fact| fact.identity.to_string()).collect::<Vec<_>>(),
        ["a/changed", "a/equal", "a/kept"]
    );
}

#[test]
fn a_certificate_that_cannot_be_used_is_left_out_and_listed() {
    let mut world = World::new();
    world.put("a/good", &["good.example"], 0, KeyType::Ecdsa);
    let leaf = world.authority.leaf(&["bad.example"]);
    let mut garbage = certificate(&leaf, &["bad.example"], 0);
    garbage.key = PrivateKeyDer::new(b"garbage".to_vec());
    world
        .certificates
        .insert(CertificateName::new("a/garbage"), Arc::new(garbage));
    let mismatch = certificate(
        &leaf.with_key_of(&world.authority.leaf(&["other.example"])),
        &["bad.example"],
        0,
    );
    world
        .certificates
        .insert(CertificateName::new("a/mismatch"), Arc::new(mismatch));
    let table = world.build(None);
    let refused: Vec<_> = table.refused().iter().map(|refused| refused.name.as_str()).collect();
    assert_eq!(refused, ["a/garbage", "a/mismatch"]);
    assert_eq!(table.facts().count(), 1);
}

#[tokio::test]
async fn what_is_no_tls_is_refused() {
    let acceptor = World::new().acceptor();
    for (bytes, name) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "not-tls"),
        (b"", "closed"),
        (b"\x16\x03\x01", "closed"),
    ] {
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let fault = acceptor.accept(server).await.unwrap_err();
        assert_eq!(fault.name(), name, "{fault}");
    }
}

#[tokio::test]
async fn a_server_name_that_is_no_dns_name_is_refused() {
    let acceptor = World::new().acceptor();
    let hello = Client::default().hello("app.example");
    let at = hello.windows(11).position(|window| window == b"app.example").unwrap();
    for (name, accepted) in [("a_p.example", true), ("a?p.example", false), ("app..xample", false)] {
        let mut hello = hello.clone();
        hello[at..at + 11].copy_from_slice(name.as_bytes());
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(&hello).await.unwrap();
        client.shutdown().await.unwrap();
        let fault = acceptor.accept(server).await.unwrap_err();
        assert_eq!(
            fault.name(),
            if accepted { "closed" } else { "handshake" },
            "{name}: {fault}"
        );
    }
}

/// A finished handshake, both ends.
#[derive(Debug)]
struct Session {
    client: tokio_rustls::client::TlsStream<DuplexStream>,
    server: TlsStream<DuplexStream>,
    info: TlsInfo,
}

impl Session {
    fn peer_certificate(&self) -> Vec<u8> {
        self.client.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// Sends a byte each way.
    async fn exchange(&mut self) {
        for (from, to) in [(true, b'>'), (false, b'<')] {
            let seen = if from {
                self.client.write_all(&[to]).await.unwrap();
                self.client.flush().await.unwrap();
                self.server.read_u8().await.unwrap()
            } else {
                self.server.write_all(&[to]).await.unwrap();
                self.server.flush().await.unwrap();
                self.client.read_u8().await.unwrap()
            };
            assert_eq!(seen, to);
        }
    }

    /// Lets the client read its tickets, and closes.
    async fn finish(mut self) {
        self.exchange().await;
        self.client.shutdown().await.unwrap();
    }
}
