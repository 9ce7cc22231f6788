//! From a client whose bytes are to be handed on to an endpoint and back.

use std::{net::SocketAddr, rc::Rc};

use propylon_model::ProxyVersion;
use tokio::net::TcpStream;

use super::{
    End, Forward, connect,
    local::Enlisted,
    observe::Record,
    pump::{Direction, Stream, break_off, pump},
};
use crate::{
    proxy_protocol::{Carried, push_v1, push_v2},
    worker::Worker,
};

/// Between whom a connection is, as a PROXY header tells it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) source: SocketAddr,
    /// None: where the client's socket is connected to.
    pub(super) destination: Option<SocketAddr>,
}

/// Connects to an endpoint and copies until the end.
pub(super) async fn run<C: Stream>(
    (worker, forward): (&Rc<Worker>, &Forward),
    mut client: C,
    route: Route,
    (record, enlisted): (&Record, &Enlisted),
) -> End {
    // Boxed: an open connection does not pay for it.
    let connecting = connect::connect((worker, forward), route.source.ip(), (record, enlisted.lifetime()));
    let (mut endpoint, _lease) = match Box::pin(connecting).await {
        Ok(connected) => connected,
        Err(end) => {
            break_off(client.socket());
            return end;
        }
    };
    let up = Direction::new(header(forward, route, client.socket()));
    enlisted.opened();
    let lifetime = enlisted.lifetime();
    lifetime.arm(forward.idle_ms, End::IdleTimeout);
    pump(
        (&worker.l4, record),
        (lifetime, forward.idle_ms),
        (&mut client, up),
        (&mut endpoint, Direction::default()),
    )
    .await
}

/// The PROXY header that the endpoint gets first.
fn header(forward: &Forward, route: Route, client: &TcpStream) -> Vec<u8> {
    let mut header = Vec::new();
    let Some(version) = forward.send_proxy else {
        return header;
    };
    let destination = route.destination.or_else(|| client.local_addr().ok());
    let destination = destination.unwrap_or(route.source);
    match version {
        ProxyVersion::V1 => push_v1(&mut header, route.source, destination),
        ProxyVersion::V2 => push_v2(&mut header, Carried::Tcp, route.source, destination),
    }
    header
}
