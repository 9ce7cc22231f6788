//! Which addresses an external name may lead to.

use std::net::{IpAddr, Ipv4Addr};

/// Splits addresses into those that may be connected to, each once and in order, and those that are refused.
///
/// Addresses of IPv6 that stand for one of IPv4 (RFC 4291 2.5.5) count as that one. Unspecified, multicast and
/// broadcast addresses are always refused; loopback and link-local ones (among them the metadata service of clouds)
/// unless `allow_local`.
pub(super) fn sort(answers: impl IntoIterator<Item = IpAddr>, allow_local: bool) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let mut answers: Vec<IpAddr> = answers.into_iter().map(|ip| ip.to_canonical()).collect();
    answers.sort_unstable();
    answers.dedup();
    answers.into_iter().partition(|ip| is_allowed(*ip, allow_local))
}

fn is_allowed(ip: IpAddr, allow_local: bool) -> bool {
    let never = match ip {
        // 0.0.0.0/8 is this host on this network (RFC 1122 3.2.1.3).
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast() || compatible(ip).is_some(),
    };
    let local = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    !never && (allow_local || !local)
}

/// The deprecated form `::a.b.c.d`; `::` and `::1` are not of it.
fn compatible(ip: std::net::Ipv6Addr) -> Option<Ipv4Addr> {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => ip.to_ipv4(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str, allow_local: bool) -> bool {
        let (allowed, refused) = sort([address.parse().unwrap()], allow_local);
        assert_eq!(allowed.len() + refused.len(), 1);
        allowed.is_empty()
    }

    #[test]
    fn local_addresses_are_refused_unless_allowed() {
        for address in [
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "::1",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert!(refused(address, false), "{address}");
            assert!(!refused(address, true), "{address}");
        }
    }

    #[test]
    fn what_nobody_can_mean_is_always_refused() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
        ] {
            assert!(refused(address, true), "{address}");
        }
    }

    #[test]
    fn the_rest_is_allowed_once_and_in_order() {
        let answers = ["2001:db8::1", "192.0.2.2", "::ffff:192.0.2.2", "10.0.0.1", "10.0.0.1"];
        let (allowed, refused) = sort(answers.iter().map(|ip| ip.parse().unwrap()), false);
        let expected: Vec<IpAddr> = ["10.0.0.1", "192.0.2.2", "2001:db8::1"]
            .iter()
            .map(|ip| ip.parse().unwrap())
            .collect();
        assert_eq!(allowed, expected);
        assert!(refused.is_empty());
    }
}
