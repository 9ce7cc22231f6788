//! One client connection from accept to close: PROXY header, TLS, protocol, HTTP, and what an upgrade makes of it.

use std::{future::Future, io, net::SocketAddr, rc::Rc, time::Duration};

use bytes::{Bytes, BytesMut};
use propylon_kit::clock;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::{
    admission::Permit,
    connection_state::{ClientIo, ConnectionState},
    edge::{PeerInfo, Scheme},
    http_server::{Protocol, serve_http},
    l4,
    observe::Handshaking,
    proxy_protocol,
    tls::{Alpn, TlsInfo},
    worker::{Stage, Worker},
};

/// Serves a connection until it ends; the permit is given back then.
///
/// # Errors
/// When the connection fails before HTTP begins; for the debug log only.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    mut stream: TcpStream,
    peer: SocketAddr,
    scheme: Scheme,
    mut permit: Permit,
) -> io::Result<()> {
    let listeners = &worker.shared.listeners;
    let handshaking = Handshaking::new(
        worker,
        match scheme {
            Scheme::Http => listeners.http,
            Scheme::Https => listeners.https,
        },
    );
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    // What only the beginning of a connection needs is boxed, so that an open one does not pay for it.
    let peer = Box::pin(client_of(worker, &mut stream, peer)).await?;
    if !permit.of_client(peer.ip()) {
        return Err(io::Error::other("too many connections of this client"));
    }
    match scheme {
        Scheme::Http => {
            let prefix = Box::pin(within(header_timeout(worker), sniff(&mut stream))).await?;
            let protocol = if prefix.starts_with(PREFACE) {
                Protocol::Http2
            } else {
                Protocol::Http1
            };
            drop(handshaking);
            run(worker, stream, prefix, (protocol, new_state(worker, peer, local, None))).await;
        }
        Scheme::Https => {
            let mut left = header_timeout(worker);
            if !worker.shared.live.l4.hosts().is_empty() {
                let began = clock::now();
                if let Some(forward) = Box::pin(within(left, l4::find(worker, &stream))).await? {
                    drop(handshaking);
                    l4::pass(worker, forward, stream, peer).await;
                    drop(permit);
                    return Ok(());
                }
                left = left.saturating_sub(began.elapsed());
            }
            let accepting = within(left, async { Ok(worker.shared.tls.accept(stream).await) });
            let accepted = Box::pin(accepting).await?;
            crate::observe::handshake(worker, &accepted);
            let (stream, info) = accepted.map_err(io::Error::other)?;
            let protocol = if info.alpn == Alpn::H2 {
                Protocol::Http2
            } else {
                Protocol::Http1
            };
            drop(handshaking);
            run(
                worker,
                stream,
                Bytes::new(),
                (protocol, new_state(worker, peer, local, Some(info))),
            )
            .await;
        }
    }
    drop(permit);
    Ok(())
}

async fn run<S>(worker: &Rc<Worker>, stream: S, prefix: Bytes, (protocol, state): (Protocol, ConnectionState))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    state.http2.set(protocol == Protocol::Http2);
    let state = Rc::new(state);
    let _listed = Listed::new(worker, &state);
    let io = ClientIo {
        inner: stream,
        prefix,
        state: Rc::clone(&state),
    };
    serve_http(worker, io, protocol).await;
}

/// The connection's place under the sweep and among the open ones.
struct Listed<'a> {
    worker: &'a Rc<Worker>,
    slot: usize,
}

impl<'a> Listed<'a> {
    fn new(worker: &'a Rc<Worker>, state: &Rc<ConnectionState>) -> Self {
        crate::observe::connection_opened(worker, state);
        if worker.shared.stage() >= Stage::Closing {
            state.begin_drain();
        }
        Self {
            worker,
            slot: worker.enlist_connection(state),
        }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        if let Some(state) = self.worker.delist_connection(self.slot) {
            crate::observe::connection_closed(self.worker, &state);
        }
    }
}

fn new_state(worker: &Worker, peer: SocketAddr, local: SocketAddr, tls: Option<TlsInfo>) -> ConnectionState {
    ConnectionState::new(
        PeerInfo::new(peer, &worker.shared.trusted),
        local,
        tls,
        Rc::clone(&worker.now_ms),
    )
}

/// The address behind a PROXY header, where the peer must send one; else the peer.
async fn client_of(worker: &Worker, stream: &mut TcpStream, peer: SocketAddr) -> io::Result<SocketAddr> {
    let ip = peer.ip().to_canonical();
    if !worker
        .shared
        .config
        .proxy_protocol
        .iter()
        .any(|network| network.contains(&ip))
    {
        return Ok(peer);
    }
    let header = within(PROXY_HEADER, proxy_protocol::read_header(stream)).await?;
    Ok(header.source.unwrap_or(peer))
}

/// Reads until the bytes are the HTTP/2 preface (RFC 9113 3.4) or cannot become it; what was read is kept.
async fn sniff(stream: &mut TcpStream) -> io::Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(FIRST_READ);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let common = buffer.len().min(PREFACE.len());
        if buffer.len() >= PREFACE.len() || buffer.get(..common) != PREFACE.get(..common) {
            return Ok(buffer.freeze());
        }
    }
}

async fn within<T>(span: Duration, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(span, future)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn header_timeout(worker: &Worker) -> Duration {
    Duration::from_millis(worker.shared.config.deadlines.header_ms)
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FIRST_READ: usize = 4096;
/// Deadline of a PROXY header (`reliability.md` B3).
pub(crate) const PROXY_HEADER: Duration = Duration::from_secs(5);
