//! Sockets of UDP and their options.

use std::{
    io,
    net::{SocketAddr, UdpSocket as StdUdpSocket},
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::socket::{
    setsockopt,
    sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, UdpGroSegment},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Makes a bound socket ready for clients: where its address is unspecified, each datagram tells which address it was
/// sent to, so that replies come from there.
///
/// # Errors
/// When the kernel does not tell the address.
pub(super) fn prepare(socket: &StdUdpSocket, address: SocketAddr) -> io::Result<()> {
    if address.ip().is_unspecified() {
        if address.is_ipv4() {
            setsockopt(socket, Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(socket, Ipv6RecvPacketInfo, &true)?;
        }
    }
    // The default holds a few hundred small datagrams; what the system allows is taken.
    if let Err(error) = SockRef::from(socket).set_recv_buffer_size(QUEUE) {
        tracing::debug!(%error, "SO_RCVBUF");
    }
    receive_many(socket);
    Ok(())
}

/// A socket that is connected to an endpoint.
///
/// # Errors
/// When there are no descriptors or ports left, or no route.
pub(super) fn connected(endpoint: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(
        Domain::for_address(endpoint),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    socket.connect(&endpoint.into())?;
    Ok(socket.into())
}

/// Lets the kernel hand over datagrams of one sender as one, where it can.
pub(super) fn receive_many(socket: &impl AsFd) {
    if let Err(error) = setsockopt(socket, UdpGroSegment, &true) {
        tracing::debug!(%error, "UDP_GRO");
    }
}

const QUEUE: usize = 2 << 20;
