//! A connection to an endpoint of the Service, or to another one where the first does not accept.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    rc::Rc,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use super::{
    End, Forward,
    lifetime::Lifetime,
    observe::Record,
    pick::{self, Lease},
};
use crate::{overload, reason::Reason, worker::Worker};

/// Connects; the lease counts the endpoint as busy while it lives.
///
/// # Errors
/// How the client's connection ends: no attempt was successful.
pub(super) async fn connect(
    (worker, forward): (&Rc<Worker>, &Forward),
    client: IpAddr,
    (record, lifetime): (&Record, &Lifetime),
) -> Result<(TcpStream, Lease), End> {
    let mut tried: Vec<SocketAddr> = Vec::new();
    loop {
        let lease = pick::pick(worker, forward, client, &tried)?;
        let address = lease.address();
        record.endpoint.set(Some(address));
        lifetime.arm(forward.connect_ms, End::ConnectTimeout);
        let attempt = pin!(open(address));
        let end = match lifetime.guard(attempt).await {
            Ok(Ok(stream)) => {
                lease.began();
                return Ok((stream, lease));
            }
            Ok(Err(error)) if overload::is_starved(&error) => {
                // The lack is ours: no endpoint is blamed.
                worker.shared.pressure.note_starved();
                return Err(End::OverloadDescriptors);
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, endpoint = %address, "connect failed");
                End::ConnectFailed
            }
            Err(End::ConnectTimeout) => End::ConnectTimeout,
            Err(end) => return Err(end),
        };
        let reason = match end {
            End::ConnectTimeout => Reason::ConnectionTimeout,
            _ => Reason::ConnectionRefused,
        };
        lease.failed(forward, reason);
        tried.push(address);
        if tried.len() > RETRIES {
            return Err(end);
        }
        lifetime.retry();
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

/// Attempts after the first, each on another endpoint while there is one.
const RETRIES: usize = 2;
