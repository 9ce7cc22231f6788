//! The 421 rule.

use super::*;

fn info(sni: Option<&str>, certificate: CertIdentity) -> TlsInfo {
    TlsInfo {
        sni: sni.map(Box::from),
        certificate,
        alpn: Alpn::H2,
        version: ProtocolVersion::TLSv1_3,
        cipher: CipherSuite::TLS13_AES_128_GCM_SHA256,
        resumed: false,
    }
}

fn world() -> World {
    let mut world = World::new();
    world.put("a/one", &["one.example", "alias.example"], 0, KeyType::Ecdsa);
    world.put("a/two", &["two.example"], 0, KeyType::Ecdsa);
    world.put("a/wild", &["*.wild.example"], 0, KeyType::Ecdsa);
    world.put("b/ecdsa", &["pair.example"], 0, KeyType::Ecdsa);
    world.put("b/rsa", &["pair.example", "rsa.example"], 0, KeyType::Rsa);
    world
}

#[test]
fn a5_21_a_host_of_another_certificate_is_misdirected() {
    let table = world().build(None);
    let cases: &[(Option<&str>, CertIdentity, &str, bool)] = &[
        (Some("one.example"), named("a/one"), "one.example", false),
        (Some("one.example"), named("a/one"), "alias.example", false),
        (Some("one.example"), named("a/one"), "two.example", true),
        (Some("one.example"), named("a/one"), "unknown.example", true),
        (Some("one.example"), named("a/one"), "10.0.0.1", true),
        (Some("one.example"), named("a/one"), "", false),
        (Some("a.wild.example"), named("a/wild"), "b.wild.example", false),
        (Some("a.wild.example"), named("a/wild"), "a.b.wild.example", true),
        (Some("a.wild.example"), named("a/wild"), "wild.example", true),
        (
            Some("unknown.example"),
            CertIdentity::SelfSigned,
            "unknown.example",
            false,
        ),
        (
            Some("unknown.example"),
            CertIdentity::SelfSigned,
            "other.example",
            false,
        ),
        (Some("unknown.example"), CertIdentity::SelfSigned, "one.example", true),
        (None, CertIdentity::SelfSigned, "10.0.0.1", false),
        (None, CertIdentity::SelfSigned, "unknown.example", false),
        (None, CertIdentity::SelfSigned, "one.example", true),
        (Some("pair.example"), named("b/rsa"), "rsa.example", false),
        (Some("pair.example"), named("b/ecdsa"), "rsa.example", true),
        (Some("rsa.example"), named("b/rsa"), "pair.example", false),
    ];
    for (sni, certificate, host, expected) in cases {
        let info = info(*sni, certificate.clone());
        assert_eq!(
            table.misdirected(&info, host),
            *expected,
            "{sni:?} {certificate} {host}"
        );
    }
}

#[test]
fn a5_21_a_new_default_does_not_make_open_connections_misdirected() {
    let mut world = world();
    let before = world.build(None);
    world.put("a/default", &[""], 0, KeyType::Ecdsa);
    let after = world.build(Some(&before));
    let open = info(None, CertIdentity::SelfSigned);
    assert!(!after.misdirected(&open, "10.0.0.1"));
    assert!(after.misdirected(&open, "one.example"));
    assert!(after.misdirected(&info(Some("one.example"), named("a/one")), "unknown.example"));
}

#[test]
fn a5_21_a_host_that_a_wildcard_must_not_serve_is_misdirected_on_its_connections() {
    let mut world = world();
    world.deny("a/wild", "x.wild.example");
    let before = world.build(None);
    let wild = info(Some("a.wild.example"), named("a/wild"));
    let default = info(Some("x.wild.example"), CertIdentity::SelfSigned);
    assert!(before.misdirected(&wild, "x.wild.example"));
    assert!(before.misdirected(&default, "a.wild.example"));
    world.put("a/default", &[""], 0, KeyType::Ecdsa);
    let after = world.build(Some(&before));
    for table in [&before, &after] {
        assert!(!table.misdirected(&wild, "b.wild.example"));
        assert!(!table.misdirected(&default, "x.wild.example"));
        assert!(!table.misdirected(&default, "unknown.example"));
        assert!(!table.misdirected(&info(None, CertIdentity::SelfSigned), "x.wild.example"));
    }
}
