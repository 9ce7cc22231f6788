//! Headers of the PROXY protocol towards backends; version 1 and 2, no TLVs.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{MAX_V1, V2_FIXED, V2_PROXY, V2_SIGNATURE};

/// What the header's connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// `STREAM`.
    Tcp,
    /// `DGRAM`; version 2 only.
    Udp,
}

/// Length of the longest header that is written: version 2 with IPv6 addresses takes 52 bytes, version 1 at most 107.
pub const MAX_WRITTEN: usize = MAX_V1;

/// Appends a header of version 1: `PROXY TCP4 source destination port port`, CRLF (section 2.1 of the specification).
///
/// Addresses of two families make it a TCP6 line with an IPv4-mapped address; the format has no other way to say so.
pub fn push_v1(out: &mut Vec<u8>, source: SocketAddr, destination: SocketAddr) {
    let (source_ip, destination_ip) = common_family(source.ip(), destination.ip());
    let family = if source_ip.is_ipv4() { "TCP4" } else { "TCP6" };
    let (source_port, destination_port) = (source.port(), destination.port());
    let line = format!("PROXY {family} {source_ip} {destination_ip} {source_port} {destination_port}\r\n");
    out.extend_from_slice(line.as_bytes());
}

/// Appends a header of version 2, command `PROXY` (section 2.2).
///
/// Of addresses of two families, the IPv4 one is written IPv4-mapped.
pub fn push_v2(out: &mut Vec<u8>, carried: Carried, source: SocketAddr, destination: SocketAddr) {
    let (source_ip, destination_ip) = common_family(source.ip(), destination.ip());
    let protocol = match carried {
        Carried::Tcp => 1,
        Carried::Udp => 2,
    };
    let (family, length) = if source_ip.is_ipv4() { (0x10, 12) } else { (0x20, 36) };
    out.reserve(V2_FIXED + usize::from(length));
    out.extend_from_slice(V2_SIGNATURE);
    out.extend_from_slice(&[V2_PROXY, family | protocol, 0, length]);
    for address in [source_ip, destination_ip] {
        match address {
            IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

/// Both as IPv4 where both are (mapped or not), else both as IPv6.
fn common_family(source: IpAddr, destination: IpAddr) -> (IpAddr, IpAddr) {
    match (source.to_canonical(), destination.to_canonical()) {
        (source @ IpAddr::V4(_), destination @ IpAddr::V4(_)) => (source, destination),
        (source, destination) => (as_v6(source).into(), as_v6(destination).into()),
    }
}

fn as_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Addresses, parse},
        *,
    };

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn version_1_is_one_line() {
        let mut out = Vec::new();
        push_v1(&mut out, address("192.0.2.1:56324"), address("198.51.100.2:443"));
        assert_eq!(out, b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n");
        out.clear();
        push_v1(&mut out, address("[2001:db8::1]:1"), address("[::1]:2"));
        assert_eq!(out, b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n");
    }

    #[test]
    fn version_2_is_exact() {
        let mut out = Vec::new();
        push_v2(
            &mut out,
            Carried::Tcp,
            address("192.0.2.1:8080"),
            address("198.51.100.2:443"),
        );
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        expected.extend_from_slice(&[192, 0, 2, 1, 198, 51, 100, 2, 0x1f, 0x90, 0x01, 0xbb]);
        assert_eq!(out, expected);
        out.clear();
        push_v2(
            &mut out,
            Carried::Udp,
            address("[2001:db8::1]:53"),
            address("[2001:db8::2]:5353"),
        );
        assert_eq!((out.len(), out[12], out[13], out[15]), (52, 0x21, 0x22, 36));
    }

    #[test]
    fn what_is_written_can_be_read() {
        for (source, destination) in [
            ("192.0.2.1:1", "198.51.100.2:65535"),
            ("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[fe80::1]:65535"),
            ("[::ffff:192.0.2.1]:7", "198.51.100.2:9"),
            ("192.0.2.1:7", "[::1]:9"),
        ] {
            let (source, destination) = (address(source), address(destination));
            let (source_ip, destination_ip) = common_family(source.ip(), destination.ip());
            let expected = Addresses {
                source: Some(SocketAddr::new(source_ip, source.port())),
                destination: Some(SocketAddr::new(destination_ip, destination.port())),
            };
            let (mut v1, mut v2) = (Vec::new(), Vec::new());
            push_v1(&mut v1, source, destination);
            push_v2(&mut v2, Carried::Tcp, source, destination);
            for header in [v1, v2] {
                assert!(header.len() <= MAX_WRITTEN);
                let parsed = parse(&header).unwrap();
                assert_eq!(parsed.consumed, header.len());
                assert_eq!(parsed.addresses, expected);
            }
        }
    }
}
