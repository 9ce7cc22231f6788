//! Sets of client addresses, for `loadBalancerSourceRanges`.

use std::net::IpAddr;

use ipnet::IpNet;

/// Addresses of networks, as sorted spans that do not touch; IPv4 and IPv6 apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Ranges {
    /// The union of networks.
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        let mut ranges = Self::default();
        for network in networks {
            match network {
                IpNet::V4(network) => ranges
                    .v4
                    .push((network.network().to_bits(), network.broadcast().to_bits())),
                IpNet::V6(network) => ranges
                    .v6
                    .push((network.network().to_bits(), network.broadcast().to_bits())),
            }
        }
        merge(&mut ranges.v4);
        merge(&mut ranges.v6);
        ranges
    }

    /// Whether an address is among them; an IPv4-mapped one counts as IPv4.
    ///
    /// # Cost
    /// Logarithmic in the networks.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }
}

fn merge<T: Copy + Ord>(spans: &mut Vec<(T, T)>) {
    spans.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(spans.len());
    for (first, last) in spans.drain(..) {
        match merged.last_mut() {
            Some(before) if first <= before.1 => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    *spans = merged;
}

fn holds<T: Copy + Ord>(spans: &[(T, T)], value: T) -> bool {
    let behind = spans.partition_point(|(first, _)| *first <= value);
    behind
        .checked_sub(1)
        .and_then(|index| spans.get(index))
        .is_some_and(|(_, last)| value <= *last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_list_holds_nobody() {
        assert!(!Ranges::new(&[]).contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn everybody_is_in_zero_bits_of_its_family() {
        let ranges = Ranges::new(&["0.0.0.0/0".parse().unwrap()]);
        assert!(ranges.contains("255.255.255.255".parse().unwrap()));
        assert!(ranges.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!ranges.contains("::1".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn membership_is_that_of_the_networks(
            networks in proptest::collection::vec((any::<u32>(), 0..=32_u8), 0..20),
            addresses in proptest::collection::vec(any::<u32>(), 20),
        ) {
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(bits, length)| IpNet::new(IpAddr::from(bits.to_be_bytes()), length).unwrap())
                .collect();
            let ranges = Ranges::new(&networks);
            let edges = networks.iter().flat_map(|network| [network.network(), network.broadcast()]);
            for address in addresses.into_iter().map(|bits| IpAddr::from(bits.to_be_bytes())).chain(edges) {
                let expected = networks.iter().any(|network| network.contains(&address));
                prop_assert_eq!(ranges.contains(address), expected);
            }
        }
    }
}
