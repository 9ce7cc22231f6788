use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};
use tokio::{task::LocalSet, time::Instant};

use super::*;

fn listening(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn refused() -> SocketAddr {
    listening("127.0.0.1:0").1
}

/// A listener that never completes a handshake, because its queue is full; and what fills it.
fn black_hole() -> (SocketAddr, Vec<Socket>) {
    let socket = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        // "In progress" is what a non-blocking socket says.
        drop(client.connect(&address));
        sockets.push(client);
    }
    (address.as_socket().unwrap(), sockets)
}

fn race(first: SocketAddr, second: SocketAddr) -> (Result<SocketAddr, UpstreamErrorKind>, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let began = Instant::now();
    let connected = LocalSet::new().block_on(&runtime, connect_either(first, second, &Transport::Http1));
    let connected = connected.map(|(address, _)| address).map_err(|error| error.kind);
    (connected, began.elapsed())
}

#[test]
fn the_first_address_is_used_where_it_answers() {
    let ((_one, first), (_two, second)) = (listening("127.0.0.1:0"), listening("[::1]:0"));
    assert_eq!(race(first, second).0, Ok(first));
}

#[test]
fn a_refusal_leads_to_the_second_at_once() {
    let (_listener, second) = listening("[::1]:0");
    // A busy machine may lose that time elsewhere, but hardly every time.
    let quick = (0..5).any(|_| {
        let (connected, took) = race(refused(), second);
        assert_eq!(connected, Ok(second));
        took < Duration::from_millis(250)
    });
    assert!(quick);
}

#[test]
fn silence_leads_to_the_second_after_a_quarter_of_a_second() {
    let (_listener, second) = listening("[::1]:0");
    let (first, _sockets) = black_hole();
    let (connected, took) = race(first, second);
    assert_eq!(connected, Ok(second));
    assert!(took >= Duration::from_millis(250), "{took:?}");
}

#[test]
fn two_refusals_are_a_refusal() {
    assert_eq!(race(refused(), refused()).0, Err(UpstreamErrorKind::ConnectRefused));
}
