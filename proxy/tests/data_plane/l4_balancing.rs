//! Which endpoint a connection to a port of a Service gets.

use std::{
    io::{ErrorKind, Read},
    net::Ipv4Addr,
    time::Duration,
};

use propylon_model::{Affinity, L4Protocol::Tcp};
use propylon_testkit::wait;

use super::{
    common::start,
    l4::{Backend, PATIENCE, Served, ask, connect, connect_from, free, service},
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

#[test]
fn a_full_endpoint_gets_no_more_connections_until_one_ends() {
    let backends = [Backend::echo("a:"), Backend::echo("b:")];
    let address = free(Tcp);
    let mut served = Served::new(start(&["--workers", "2"]));
    served.endpoints("web", &backends.each_ref().map(|backend| backend.address));
    for limit in ["connections", "requests"] {
        let mut narrow = service("web", Tcp, address);
        match limit {
            "connections" => narrow.policy.limits.max_connections = Some(3),
            _ => narrow.policy.limits.max_requests = Some(3),
        }
        served.put(narrow);
        let before = backends.each_ref().map(Backend::connections);
        let mut open: Vec<_> = (0..6).map(|_| connect(address)).collect();
        for stream in &mut open {
            stream.read_exact(&mut [0; 2]).expect(limit);
        }
        let after = backends.each_ref().map(Backend::connections);
        assert_eq!([after[0] - before[0], after[1] - before[1]], [3, 3], "{limit}");
        let refused = connect(address).read(&mut [0; 1]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionReset, "{limit}");
        drop(open.pop());
        // Its place is free once the proxy has seen its end.
        let served_again = wait::until(PATIENCE, || ask(&mut connect(address), b"x").is_ok());
        assert!(served_again.is_some(), "{limit}");
        for mut stream in open {
            assert_eq!(ask(&mut stream, b"x").unwrap(), b"x", "{limit}");
        }
        let open = format!("listener=\"{}/TCP\"}} 0", address.port());
        served.expect_metric(&format!(
            "propylon_l4_open_connections{{namespace=\"default\",service=\"web\",{open}"
        ));
    }
    let port = address.port();
    let full = format!("listener=\"{port}/TCP\",end=\"endpoints_full\"");
    let metrics = served.metrics();
    let count = metrics.lines().find(|line| line.contains(&full));
    assert!(count.is_some_and(|line| !line.ends_with(" 0")), "{count:?}");
}
