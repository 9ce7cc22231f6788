//! Hashes that all replicas and all versions agree on, and the parts of a request that can be hashed.
//!
//! Who chooses the key chooses the endpoint: that is what consistent hashing is for, so the hash needs no secret.

use std::net::{IpAddr, SocketAddr};

/// A hash of bytes that never changes: 8 bytes at a time by multiplication and folding, then Stafford's finisher
/// (`SplitMix64`, variant 13).
pub fn bytes(bytes: &[u8], seed: u64) -> u64 {
    let mut state = seed ^ (bytes.len() as u64).wrapping_mul(GOLDEN);
    for chunk in bytes.chunks(8) {
        let mut word = [0_u8; 8];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        state = fold(state ^ u64::from_le_bytes(word), MULTIPLIER);
    }
    mix(state)
}

/// The hash of a client's address; an IPv4 address that is mapped into IPv6 is the IPv4 address.
pub fn client(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => bytes(&address.octets(), CLIENT),
        IpAddr::V6(address) => bytes(&address.octets(), CLIENT),
    }
}

/// The identity of an endpoint: its address and port.
pub fn endpoint(address: SocketAddr, seed: u64) -> u64 {
    let port = u64::from(address.port());
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => bytes(&ip.octets(), seed ^ port.wrapping_mul(MULTIPLIER)),
        IpAddr::V6(ip) => bytes(&ip.octets(), seed ^ port.wrapping_mul(MULTIPLIER)),
    }
}

/// Makes another hash of a hash: the next one to try where what the first led to cannot be used.
pub fn next(hash: u64) -> u64 {
    mix(hash.wrapping_add(GOLDEN))
}

/// The value of a cookie among the values of the `Cookie` fields (RFC 6265 5.4); the first where it is repeated.
pub fn cookie<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &str) -> Option<&'a [u8]> {
    let mut pairs = fields.into_iter().flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(
            value
                .strip_prefix(b"\"")
                .and_then(|rest| rest.strip_suffix(b"\""))
                .unwrap_or(value),
        )
    })
}

/// The value of a parameter of a query, as sent (not decoded); the first where it is repeated. A parameter without `=`
/// has the empty value.
pub fn query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        (found == name).then_some(value)
    })
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left ^ GOLDEN) * u128::from(right);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are used")]
    {
        (product as u64) ^ ((product >> 64) as u64)
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;
const CLIENT: u64 = 0x70_726f_7079_6c6f;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::statistics::{chi_square, critical};

    #[test]
    fn it_is_the_same_for_ever() {
        // Replicas of different versions must send a key to the same endpoint: these values may never change.
        assert_eq!(bytes(b"", 0), 0);
        assert_eq!(bytes(b"propylon", 0), PROPYLON);
        assert_eq!(client("192.0.2.1".parse().unwrap()), CLIENT_ADDRESS);
    }

    #[test]
    fn keys_that_differ_little_are_spread_evenly() {
        let mut counts = vec![0_u64; 100];
        for number in 0..100_000_u64 {
            let hash = bytes(format!("user-{number}").as_bytes(), 0);
            counts[usize::try_from(hash % 100).unwrap()] += 1;
        }
        assert!(chi_square(&counts, &[1_000.0; 100]) < critical(99));
        let mut addresses = vec![0_u64; 100];
        for number in 0..100_000_u32 {
            let hash = client(IpAddr::V4((0x0a00_0000 + number).into()));
            addresses[usize::try_from(hash % 100).unwrap()] += 1;
        }
        assert!(chi_square(&addresses, &[1_000.0; 100]) < critical(99));
    }

    #[test]
    fn a_mapped_address_is_the_same_client() {
        assert_eq!(
            client("::ffff:192.0.2.1".parse().unwrap()),
            client("192.0.2.1".parse().unwrap())
        );
    }

    #[test]
    fn ports_and_seeds_tell_endpoints_apart() {
        let endpoint = |text: &str, seed| endpoint(text.parse().unwrap(), seed);
        assert_ne!(endpoint("10.0.0.1:80", 1), endpoint("10.0.0.1:81", 1));
        assert_ne!(endpoint("10.0.0.1:80", 1), endpoint("10.0.0.1:80", 2));
    }

    #[test]
    fn cookies_are_found_whole() {
        let fields: [&[u8]; 2] = [b"a=1; session=abc ;b=2", b"session=later; q=\"x\""];
        assert_eq!(cookie(fields, "session"), Some(b"abc".as_slice()));
        assert_eq!(cookie(fields, "q"), Some(b"x".as_slice()));
        assert_eq!(cookie(fields, "sess"), None);
        assert_eq!(cookie([b"xsession=1".as_slice()], "session"), None);
    }

    #[test]
    fn query_parameters_are_found_whole() {
        assert_eq!(query("a=1&user=b%20c&user=2", "user"), Some("b%20c"));
        assert_eq!(query("flag&x=1", "flag"), Some(""));
        assert_eq!(query("xuser=1", "user"), None);
    }

    const PROPYLON: u64 = 0xbce0_31fc_fa7b_d140;
    const CLIENT_ADDRESS: u64 = 0xfb32_bb38_6eb8_b8e0;
}
