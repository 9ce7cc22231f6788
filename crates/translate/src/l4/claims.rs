//! Who has which address and port.

use std::net::{IpAddr, SocketAddr};

use propylon_model::{L4Protocol, L4Service, ObjectRef};

/// The addresses of one protocol and port that are taken, with who has them.
pub(super) struct Claims<'a> {
    /// The proxy's own listeners (TCP), on whatever port; they go before everything.
    own: &'a [SocketAddr],
    taken: Vec<(IpAddr, Owner)>,
}

/// Who has an address and port.
enum Owner {
    /// The proxy's own listener.
    Proxy,
    /// An older object.
    Object(ObjectRef, Option<i64>),
}

impl<'a> Claims<'a> {
    pub(super) const fn new(own: &'a [SocketAddr]) -> Self {
        Self { own, taken: Vec::new() }
    }

    /// Takes what is free of a port's addresses; gives the others, with who has them.
    pub(super) fn claim(&mut self, l4: &L4Service) -> Vec<(IpAddr, String)> {
        let mut lost = Vec::new();
        for address in &l4.addresses {
            match self.owner(*address, l4) {
                Some(owner) => lost.push((*address, owner.describe(l4.created_unix_s))),
                None => self
                    .taken
                    .push((*address, Owner::Object(l4.source.clone(), l4.created_unix_s))),
            }
        }
        lost
    }

    fn owner(&self, address: IpAddr, l4: &L4Service) -> Option<&Owner> {
        let mut own = self.own.iter().filter(|own| own.port() == l4.port);
        if l4.protocol == L4Protocol::Tcp && own.any(|own| overlap(own.ip(), address)) {
            return Some(&Owner::Proxy);
        }
        let mut taken = self.taken.iter();
        let found = taken.find(|(taken, _)| overlap(*taken, address));
        found.map(|(_, owner)| owner)
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
