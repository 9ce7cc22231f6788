use super::*;

fn canonical(text: &str) -> Result<(String, Option<u16>), HostFault> {
    parse_host(text.as_bytes()).map(|host| (host.canonical().to_owned(), host.port()))
}

#[test]
fn a5_01_a_valid_host_becomes_canonical() {
    let cases: &[(&str, &str, Option<u16>)] = &[
        ("", "", None),
        ("example.com", "example.com", None),
        ("Example.COM", "example.com", None),
        ("example.com.", "example.com", None),
        ("example.com.:8080", "example.com", Some(8080)),
        ("example.com:80", "example.com", Some(80)),
        ("example.com:", "example.com", None),
        ("example.com:0080", "example.com", Some(80)),
        ("example.com:65535", "example.com", Some(65535)),
        ("a_b.example", "a_b.example", None),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ("localhost", "localhost", None),
        ("10.0.0.1:8443", "10.0.0.1", Some(8443)),
        ("[::1]", "[::1]", None),
        ("[::1]:443", "[::1]", Some(443)),
        ("[2001:DB8:0:0::1]:443", "[2001:db8::1]", Some(443)),
    ];
    for (text, name, port) in cases {
        assert_eq!(canonical(text), Ok(((*name).to_owned(), *port)), "{text}");
    }
}

#[test]
fn a5_01_an_invalid_host_is_refused() {
    let cases: &[(&str, HostFault)] = &[
        ("user@example.com", HostFault::Character),
        ("user:pass@example.com", HostFault::Port),
        ("<script>", HostFault::Character),
        ("a b", HostFault::Character),
        (" example.com", HostFault::Character),
        ("example.com ", HostFault::Character),
        ("a,b", HostFault::Character),
        ("a/b", HostFault::Character),
        ("a?b", HostFault::Character),
        ("a#b", HostFault::Character),
        ("a\\b", HostFault::Character),
        ("ex%61mple.com", HostFault::Character),
        ("b\u{fc}cher.example", HostFault::Character),
        ("http://example.com", HostFault::Port),
        ("example.com:80x", HostFault::Port),
        ("example.com:-1", HostFault::Port),
        ("example.com:+80", HostFault::Port),
        ("example.com:65536", HostFault::Port),
        ("example.com:000080", HostFault::Port),
        ("example.com:80:80", HostFault::Port),
        ("example.com:80@evil", HostFault::Port),
        (":80", HostFault::EmptyLabel),
        (".", HostFault::EmptyLabel),
        ("..", HostFault::EmptyLabel),
        (".example.com", HostFault::EmptyLabel),
        ("a..example.com", HostFault::EmptyLabel),
        ("example.com..", HostFault::EmptyLabel),
        ("[", HostFault::Ipv6),
        ("[]", HostFault::Ipv6),
        ("[::1", HostFault::Ipv6),
        ("[10.0.0.1]", HostFault::Ipv6),
        ("[v1.fe80]", HostFault::Ipv6),
        ("[fe80::1%25eth0]", HostFault::Ipv6),
        ("[::1]80", HostFault::Character),
        ("[::1]:80x", HostFault::Port),
        ("::1", HostFault::EmptyLabel),
        ("2001:db8::1", HostFault::Port),
        ("*.example.com", HostFault::Character),
    ];
    for (text, fault) in cases {
        assert_eq!(canonical(text), Err(*fault), "{text}");
    }
    for bytes in [&b"a\0b"[..], b"\xff", b"a\r\nb", b"a\tb", b"a\x7fb"] {
        assert_eq!(parse_host(bytes), Err(HostFault::Character), "{bytes:?}");
    }
    assert_eq!(canonical(&"a".repeat(254)), Err(HostFault::TooLong));
    assert!(canonical(&format!("{}.", "a".repeat(253))).is_ok());
}

#[test]
fn a_canonical_name_is_borrowed() {
    for text in ["example.com:80", "example.com.", "[::1]:80", ""] {
        assert!(
            matches!(parse_host(text.as_bytes()).unwrap().canonical, Cow::Borrowed(_)),
            "{text}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn the_canonical_form_is_a_fixed_point(text in "[a-cA-C_.0-9:\\[\\]-]{0,12}") {
        if let Ok(host) = parse_host(text.as_bytes()) {
            let again = parse_host(host.canonical().as_bytes()).unwrap();
            assert_eq!(again.canonical(), host.canonical());
            assert_eq!(again.port(), None);
            assert_eq!(host.text(), text);
        }
    }
}
