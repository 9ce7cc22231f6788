//! TLS that is handed on unopened, by the server name of the `ClientHello`.
//!
//! The bytes are looked at in the socket's queue and left there: whoever goes on with the connection, the endpoint or our
//! own handshake, reads them from the beginning. Nothing is looked at while no host is handed on.
//!
//! A client without a server name, or one whose name is encrypted (ECH, RFC 9849: the outer name is looked at), is served
//! by our own handshake.

mod hello;

use std::{collections::HashMap, io, net::SocketAddr, rc::Rc, sync::Arc};

use foldhash::fast::RandomState;
use propylon_model::{HostName, HostPattern, Passthrough};
use rustix::net::RecvFlags;
use tokio::{io::Interest, net::TcpStream};

use self::hello::Sight;
use super::{
    End, Forward, Series,
    local::Enlisted,
    observe::Record,
    relay::{self, Route},
};
use crate::{config::millis, pool::PoolHandle, worker::Worker};

/// Which hosts are handed on, and where to; immutable, swapped whole.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    /// None: a host that its wildcard leaves out.
    exact: HashMap<HostName, Option<Arc<Forward>>, RandomState>,
    wildcard: HashMap<HostName, Arc<Forward>, RandomState>,
}

impl Hosts {
    /// The table of what each Ingress hands on; hosts come once.
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = (&'a Passthrough, Arc<Forward>)>) -> Self {
        let mut hosts = Self::default();
        for (passthrough, forward) in entries {
            match &passthrough.host {
                HostPattern::Any => {}
                HostPattern::Exact(name) => drop(hosts.exact.insert(name.clone(), Some(forward))),
                HostPattern::Wildcard(suffix) => {
                    for name in &passthrough.not_for {
                        hosts.exact.entry(name.clone()).or_insert(None);
                    }
                    hosts.wildcard.insert(suffix.clone(), forward);
                }
            }
        }
        hosts
    }

    /// Whether nothing is handed on.
    pub(crate) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// Where TLS of a host (canonical) goes; none: it is served here.
    pub(crate) fn find(&self, host: &str) -> Option<&Arc<Forward>> {
        if let Some(exact) = self.exact.get(host) {
            return exact.as_ref();
        }
        self.wildcard.get(host.split_once('.')?.1)
    }
}

/// What is done for a host that is handed on.
pub(crate) fn forward_of(passthrough: &Passthrough, pool: Arc<PoolHandle>, series: Arc<Series>) -> Forward {
    Forward {
        pool,
        series,
        send_proxy: passthrough.send_proxy,
        connect_ms: millis(passthrough.connect_timeout),
        idle_ms: millis(passthrough.idle_timeout),
    }
}

/// Waits for the `ClientHello` and looks up its server name; none: the connection is served here. The deadline is the
/// caller's.
///
/// # Errors
/// When the socket fails, or ends before the `ClientHello`.
///
/// # Cancel safety
/// Cancel safe: nothing is taken from the socket.
pub(crate) async fn find(worker: &Worker, stream: &TcpStream) -> io::Result<Option<Arc<Forward>>> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let sight = stream.try_io(Interest::READABLE, || {
            let mut buffer = worker.l4.buffer.borrow_mut();
            let (_, seen) = rustix::net::recv(stream, &mut **buffer, RecvFlags::PEEK)?;
            let bytes = buffer.get(..seen).unwrap_or_default();
            match hello::look(bytes) {
                _ if seen == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
                Sight::Incomplete if ready.is_read_closed() => Err(io::ErrorKind::UnexpectedEof.into()),
                // The readiness is cleared with what is in the queue; more bytes make it ready again.
                Sight::Incomplete if seen < MOST_HELLO => Err(io::ErrorKind::WouldBlock.into()),
                Sight::Incomplete | Sight::NoName => Ok(None),
                Sight::Name(name) => {
                    let hosts = worker.shared.live.l4.hosts();
                    let name = name.strip_suffix('.').unwrap_or(&name);
                    Ok(hosts.find(name).map(Arc::clone))
                }
            }
        });
        match sight {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

/// Hands a connection on until it ends.
pub(crate) async fn pass(worker: &Rc<Worker>, forward: Arc<Forward>, stream: TcpStream, client: SocketAddr) {
    let record = Record::begin(worker, &forward.series, client);
    let enlisted = Enlisted::new(worker);
    let route = Route {
        source: client,
        destination: None,
    };
    let end = relay::run((worker, &forward), stream, route, (&record, &enlisted)).await;
    record.end(end);
    if end != End::Complete {
        tracing::debug!(%client, end = end.code(), "connection ended");
    }
}

/// A `ClientHello` that is longer is left to our own handshake. It must fit the worker's buffer.
const MOST_HELLO: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{endpoint_state::EndpointsHandle, l4::Labels};

    fn hosts(entries: &[(&str, &[&str])]) -> Hosts {
        let entries: Vec<Passthrough> = entries
            .iter()
            .map(|(host, not_for)| passthrough(host, not_for))
            .collect();
        Hosts::new(entries.iter().map(|entry| {
            let series = Series::new(
                Labels {
                    namespace: "default".into(),
                    service: entry.host.to_string().into(),
                    listener: "passthrough".into(),
                },
                1,
            );
            let pool = crate::tables::l4_pool_of(&entry.service, 0, &entry.endpoints, &entry.policy);
            let pool = PoolHandle::new(1, Arc::new(pool), Arc::new(EndpointsHandle::default()));
            (entry, Arc::new(forward_of(entry, Arc::new(pool), Arc::new(series))))
        }))
    }

    fn passthrough(host: &str, not_for: &[&str]) -> Passthrough {
        use propylon_model::{EndpointsName, Kind, ObjectRef, PoolPolicy};
        Passthrough {
            source: ObjectRef::new(Kind::Ingress, "default", "web"),
            service: ObjectRef::new(Kind::Service, "default", "web"),
            created_unix_s: None,
            host: HostPattern::parse(host).unwrap(),
            not_for: not_for.iter().map(|name| HostName::parse(name).unwrap()).collect(),
            endpoints: EndpointsName::new("default/web:443"),
            policy: PoolPolicy::default(),
            send_proxy: None,
            connect_timeout: std::time::Duration::from_secs(1),
            idle_timeout: std::time::Duration::from_secs(1),
        }
    }

    #[test]
    fn exact_goes_before_wildcard_and_a_wildcard_has_one_label_and_exceptions() {
        let hosts = hosts(&[("a.example.com", &[]), ("*.example.com", &["b.example.com"])]);
        let found = |host: &str| {
            hosts
                .find(host)
                .map(|forward| forward.series.labels.service.to_string())
        };
        assert_eq!(found("a.example.com").as_deref(), Some("a.example.com"));
        assert_eq!(found("c.example.com").as_deref(), Some("*.example.com"));
        for host in ["b.example.com", "example.com", "x.c.example.com", ""] {
            assert_eq!(found(host), None, "{host}");
        }
    }
}
