//! Hosts that a wildcard must not serve.

use super::*;

#[tokio::test]
async fn a_wildcard_leaves_out_the_hosts_of_others() {
    let mut world = World::new();
    world.put("a/wild", &["*.z.example"], 0, KeyType::Ecdsa);
    world.put("b/own", &["own.z.example"], 0, KeyType::Ecdsa);
    for host in ["own.z.example", "x.z.example"] {
        world.deny("a/wild", host);
    }
    for default in [CertIdentity::SelfSigned, named("a/default")] {
        let acceptor = world.acceptor();
        for (name, identity) in [
            ("x.z.example", default.clone()),
            ("X.Z.example", default),
            ("own.z.example", named("b/own")),
            ("y.z.example", named("a/wild")),
        ] {
            let session = Client::default().connect(&acceptor, name).await.unwrap();
            assert_eq!(session.info.certificate, identity, "{name}");
        }
        world.put("a/default", &[""], 0, KeyType::Ecdsa);
    }
}

#[tokio::test]
async fn the_other_certificates_of_the_wildcard_serve_a_host_that_one_must_not() {
    let mut world = World::new();
    world.put("a/wild", &["*.z.example"], 0, KeyType::Ecdsa);
    world.put("b/wild", &["*.z.example"], 1, KeyType::Ecdsa);
    world.deny("a/wild", "x.z.example");
    let acceptor = world.acceptor();
    for (name, identity) in [("x.z.example", named("b/wild")), ("y.z.example", named("a/wild"))] {
        let session = Client::default().connect(&acceptor, name).await.unwrap();
        assert_eq!(session.info.certificate, identity, "{name}");
    }
}

#[tokio::test]
async fn a_host_taken_from_a_wildcard_goes_back_when_its_owner_does() {
    let mut world = World::new();
    world.put("a/wild", &["*.z.example"], 0, KeyType::Ecdsa);
    let free = world.certificates.clone();
    world.deny("a/wild", "x.z.example");
    let denied = world.build(None);
    world.certificates = free;
    let acceptor = TlsAcceptor::new(Arc::new(ArcSwap::from_pointee(world.build(Some(&denied)))));
    let session = Client::default().connect(&acceptor, "x.z.example").await.unwrap();
    assert_eq!(session.info.certificate, named("a/wild"));
}
