//! One TCP connection of a listener: source ranges, PROXY header, TLS, then the relay to an endpoint.

use std::{net::SocketAddr, pin::pin, rc::Rc, sync::Arc};

use tokio::net::TcpStream;

use super::{
    End, Handle,
    local::Enlisted,
    observe::Record,
    pump::break_off,
    relay::{self, Route},
};
use crate::{admission::Permit, config::millis, connection::PROXY_HEADER, proxy_protocol, worker::Worker};

/// Serves a connection until it ends; the permit is given back then.
pub(super) async fn serve(
    worker: Rc<Worker>,
    handle: Arc<Handle>,
    (stream, peer): (TcpStream, SocketAddr),
    permit: Permit,
) {
    let record = Record::begin(&worker, &handle.forward.series, peer);
    let enlisted = Enlisted::new(&worker);
    // Dropped last: a connection counts until it is closed.
    let mut permit = permit;
    let end = run(&worker, &handle, (stream, &mut permit), (&record, &enlisted)).await;
    record.end(end);
    tracing::debug!(%peer, end = end.code(), "connection ended");
}

async fn run(
    worker: &Rc<Worker>,
    handle: &Handle,
    (mut stream, permit): (TcpStream, &mut Permit),
    (record, enlisted): (&Record, &Enlisted),
) -> End {
    let peer = record.client.get();
    if handle
        .source_ranges
        .as_ref()
        .is_some_and(|ranges| !ranges.contains(peer.ip()))
    {
        break_off(&stream);
        return End::SourceRangeDenied;
    }
    let mut route = Route {
        source: peer,
        destination: None,
    };
    if handle.accept_proxy {
        // What only the beginning of a connection needs is boxed, so that an open one does not pay for it.
        let Some(addresses) = Box::pin(read_header(&mut stream, enlisted)).await else {
            break_off(&stream);
            return End::ProxyHeaderInvalid;
        };
        route.source = addresses.source.unwrap_or(peer);
        route.destination = addresses.destination;
        record.client.set(route.source);
    }
    if !permit.of_client(route.source.ip()) {
        break_off(&stream);
        return End::TooManyConnections;
    }
    let Some(certificate) = &handle.tls else {
        return relay::run((worker, &handle.forward), stream, route, (record, enlisted)).await;
    };
    let lifetime = enlisted.lifetime();
    lifetime.arm(worker.shared.config.deadlines.header_ms, End::TlsFailed);
    let accepting = worker.shared.tls.accept_as(stream, certificate);
    let accepted = Box::pin(async { lifetime.guard(pin!(accepting)).await }).await;
    match accepted {
        Err(end) => end,
        Ok(accepted) => {
            crate::observe::handshake(worker, &accepted);
            match accepted {
                Ok((stream, _)) => {
                    Box::pin(relay::run((worker, &handle.forward), stream, route, (record, enlisted))).await
                }
                Err(_) => End::TlsFailed,
            }
        }
    }
}

/// None where there is no header, or none in time.
async fn read_header(stream: &mut TcpStream, enlisted: &Enlisted) -> Option<proxy_protocol::Addresses> {
    let lifetime = enlisted.lifetime();
    lifetime.arm(millis(PROXY_HEADER), End::ProxyHeaderInvalid);
    let reading = pin!(proxy_protocol::read_header(stream));
    lifetime.guard(reading).await.ok()?.ok()
}
