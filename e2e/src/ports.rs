//! Ports for listeners of a process that is about to start.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the range from which the kernel takes the ports of clients, so that no connection holds one of them.
const RANGE: std::ops::Range<u32> = 12_000..32_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A loopback address on which nothing listens, and which no other call in this process was given.
///
/// Another process can take it before the caller does; start again with other ports then.
///
/// # Panics
/// When no port of the range is free.
pub fn free() -> SocketAddr {
    let size = RANGE.end - RANGE.start;
    // Processes begin far from each other; 7919 is prime, so that neighbours in id are not neighbours in port.
    let offset = std::process::id().wrapping_mul(7919);
    for _ in 0..size {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = RANGE.start + offset.wrapping_add(step) % size;
        let Ok(port) = u16::try_from(port) else { continue };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port in {RANGE:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_calls_give_two_ports() {
        assert_ne!(free(), free());
    }
}
