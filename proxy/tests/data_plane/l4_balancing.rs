//! Which endpoint a connection to a port of a Service gets.

use std::{net::Ipv4Addr, time::Duration};

use propylon_model::{Affinity, L4Protocol::Tcp};

use super::{
    common::start,
    l4::{Backend, Served, ask, connect_from, free, service},
};

#[test]
fn a_client_stays_at_its_endpoint_for_the_timeout_of_its_affinity() {
    let backends = ["0:", "1:", "2:", "3:", "4:", "5:"].map(Backend::echo);
    let addresses = backends.each_ref().map(|backend| backend.address);
    let address = free(Tcp);
    let mut served = Served::new(start(&["--workers", "2"]));
    let bound = |timeout| {
        let mut bound = service("web", Tcp, address);
        bound.policy.affinity = Affinity::ClientIp(timeout);
        bound
    };
    let meet = || -> Vec<Vec<u8>> {
        let clients = (1..=24).map(|last| Ipv4Addr::new(127, 9, 9, last).into());
        let answer = |client| ask(&mut connect_from(client, address).unwrap(), b"").unwrap();
        clients.map(answer).collect()
    };
    served.endpoints("web", &addresses[..2]);
    served.put(bound(Duration::from_hours(3)));
    let first = meet();
    assert!(first.contains(&b"0:".to_vec()) && first.contains(&b"1:".to_vec()));
    served.endpoints("web", &addresses);
    assert_eq!(meet(), first, "nobody moves to an endpoint that joined");
    // Only those move whose endpoint is gone, and they stay where they went.
    served.endpoints("web", &addresses[1..]);
    let second = meet();
    for (before, after) in first.iter().zip(&second) {
        assert!(after == before || before == b"0:", "{before:?} {after:?}");
        assert_ne!(after, b"0:");
    }
    served.endpoints("web", &addresses);
    assert_eq!(meet(), second);
    // A millisecond of silence: everybody goes where the hash leads, to those that joined too.
    served.put(bound(Duration::from_millis(1)));
    let third = meet();
    assert_ne!(third, second);
    assert_eq!(meet(), third);
}
