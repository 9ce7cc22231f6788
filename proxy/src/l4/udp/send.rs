//! Sending datagrams, one or several at a time.

use std::{
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
};

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rustix::net::{
    MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, addr::SocketAddrArg, send, sendmmsg, sendmsg,
};

use super::buffers::{BATCH, Received};

/// Sends to the peer of a connected socket; `header` stands before each datagram. Gives how many were dropped.
///
/// # Errors
/// `ConnectionRefused` when an earlier datagram came back as undeliverable, else what the socket says; a full queue is no
/// error.
pub(super) fn to_endpoint(
    state: &UdpSocketState,
    (socket, peer): (BorrowedFd<'_>, SocketAddr),
    header: &[u8],
    received: Received<'_>,
) -> io::Result<u64> {
    let count = received.count();
    if header.is_empty() {
        if count == 1 {
            return one(socket, received.bytes);
        }
        if many(state, UdpSockRef::from(&socket), (peer, None), received) {
            return Ok(0);
        }
    }
    let mut dropped = 0;
    for segment in received.segments() {
        dropped += if header.is_empty() {
            one(socket, segment)?
        } else {
            let slices = [IoSlice::new(header), IoSlice::new(segment)];
            let result = sendmsg(
                socket,
                &slices,
                &mut SendAncillaryBuffer::default(),
                SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            );
            full_is_dropped(result)?
        };
    }
    Ok(dropped)
}

fn one(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<u64> {
    full_is_dropped(send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL))
}

fn full_is_dropped(result: rustix::io::Result<usize>) -> io::Result<u64> {
    use rustix::io::Errno;
    match result {
        Ok(_) => Ok(0),
        Err(Errno::AGAIN | Errno::NOBUFS | Errno::MSGSIZE | Errno::PERM) => Ok(1),
        Err(error) => Err(error.into()),
    }
}

/// Sends several datagrams of one size by one call (`UDP_SEGMENT`); false where that is not possible.
fn many(
    state: &UdpSocketState,
    socket: UdpSockRef<'_>,
    (destination, source): (SocketAddr, Option<IpAddr>),
    received: Received<'_>,
) -> bool {
    if state.max_gso_segments() < received.count() {
        return false;
    }
    let transmit = Transmit {
        destination,
        ecn: None,
        contents: received.bytes,
        segment_size: Some(received.meta.stride),
        src_ip: source,
    };
    state.try_send(socket, &transmit).is_ok()
}

/// Sends one reply to a client, or several; gives how many were dropped.
pub(super) fn to_client(
    state: &UdpSocketState,
    socket: BorrowedFd<'_>,
    (client, source): (SocketAddr, Option<IpAddr>),
    received: Received<'_>,
) -> u64 {
    if received.count() > 1 && many(state, UdpSockRef::from(&socket), (client, source), received) {
        return 0;
    }
    let mut dropped = 0;
    for contents in received.segments() {
        let transmit = Transmit {
            destination: client,
            ecn: None,
            contents,
            segment_size: None,
            src_ip: source,
        };
        if state.try_send(UdpSockRef::from(&socket), &transmit).is_err() {
            dropped += 1;
        }
    }
    dropped
}

/// Sends single replies to as many clients by as few calls as possible; gives how many were dropped.
pub(super) fn to_clients(socket: BorrowedFd<'_>, replies: &[(SocketAddr, &[u8])]) -> u64 {
    let mut dropped = 0;
    for batch in replies.chunks(BATCH) {
        let addresses: Vec<SocketAddrAny> = batch.iter().map(|(client, _)| client.as_any()).collect();
        let slices: Vec<[IoSlice<'_>; 1]> = batch.iter().map(|(_, bytes)| [IoSlice::new(bytes)]).collect();
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BATCH] =
            std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut messages: Vec<MMsgHdr<'_>> = addresses
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|((address, slice), control)| MMsgHdr::new_with_addr(address, slice, control))
            .collect();
        let mut rest = messages.as_mut_slice();
        while !rest.is_empty() {
            let sent = sendmmsg(socket, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            // Else the first of them cannot be sent: an address without route, or a full queue.
            dropped += u64::from(sent.is_err());
            rest = rest.get_mut(sent.unwrap_or(1).max(1)..).unwrap_or_default();
        }
    }
    dropped
}
