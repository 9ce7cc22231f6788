//! Which addresses are the machine's.

use std::{
    collections::BTreeSet,
    net::{IpAddr, UdpSocket},
};

/// Those of some addresses on which a socket of this machine could listen; the kernel is asked for each.
pub(crate) fn of_machine(addresses: BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    let is_local = |address: &IpAddr| UdpSocket::bind((*address, 0)).is_ok();
    addresses.into_iter().filter(is_local).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_local_and_documentation_addresses_are_not() {
        let addresses = ["127.0.0.1", "127.0.0.53", "192.0.2.1", "2001:db8::1"].map(|text| text.parse().unwrap());
        let local = of_machine(addresses.into());
        let wanted: BTreeSet<IpAddr> = ["127.0.0.1", "127.0.0.53"].map(|text| text.parse().unwrap()).into();
        assert_eq!(local, wanted);
    }
}
