//! Who has which address and port.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use propylon_model::{L4Protocol, ObjectRef};

use super::Candidate;

/// Addresses that are taken, by protocol and port, with who has them.
pub(super) struct Claims(BTreeMap<(L4Protocol, u16), Vec<(IpAddr, Owner)>>);

/// Who has an address and port.
enum Owner {
    /// The proxy's own listener.
    Proxy,
    /// An older object.
    Object(ObjectRef, Option<i64>),
}

impl Claims {
    /// The proxy's own listeners (TCP) go before everything.
    pub(super) fn new(taken: &[SocketAddr]) -> Self {
        let mut claims = Self(BTreeMap::new());
        for address in taken {
            let of_port = claims.0.entry((L4Protocol::Tcp, address.port())).or_default();
            of_port.push((address.ip(), Owner::Proxy));
        }
        claims
    }

    /// Takes what is free of a candidate's addresses; gives the others, with who has them.
    pub(super) fn claim(&mut self, candidate: &Candidate) -> Vec<(IpAddr, String)> {
        let l4 = &candidate.l4;
        let of_port = self.0.entry((l4.protocol, l4.port)).or_default();
        let mut lost = Vec::new();
        for address in &l4.addresses {
            match of_port.iter().find(|(taken, _)| overlap(*taken, *address)) {
                Some((_, owner)) => lost.push((*address, owner.describe(l4.created_unix_s))),
                None => of_port.push((*address, Owner::Object(l4.source.clone(), l4.created_unix_s))),
            }
        }
        lost
    }
}

impl Owner {
    fn describe(&self, created_unix_s: Option<i64>) -> String {
        match self {
            Self::Proxy => "a listener of the proxy itself".to_owned(),
            Self::Object(object, created) if *created == created_unix_s => {
                format!("served for {object}, which is as old and comes first by namespace and name")
            }
            Self::Object(object, _) => format!("served for {object}, which is older"),
        }
    }
}

/// Whether two sockets could not both listen: listeners of IPv6 take no IPv4.
fn overlap(left: IpAddr, right: IpAddr) -> bool {
    left.is_ipv4() == right.is_ipv4() && (left == right || left.is_unspecified() || right.is_unspecified())
}

/// The address and port in the usual form.
pub(super) fn spell(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}
