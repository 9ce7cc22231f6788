//! Echo backends: they say what they received, or do what the path asks.
//!
//! One server speaks HTTP/1.1 and HTTP/2 with prior knowledge (by preface), or, with a certificate, both over TLS (by
//! ALPN). It answers:
//!
//! | request | answer |
//! |---|---|
//! | `Upgrade: websocket`, at any path | 101, then every text and binary message back (RFC 6455) |
//! | another `Upgrade` | 101 to that protocol, then every byte back |
//! | extended CONNECT with `:protocol` (RFC 8441) | 200, then as for `Upgrade` |
//! | `/health` | the status of [`EchoServer::set_health`], at first 200 |
//! | `/grpc.health.v1.Health/Check` | `SERVING` while that status is 2xx, else `NOT_SERVING`; services other than "" and "echo" are unknown |
//! | `content-type: application/grpc...` | the message frames back as they come, then `grpc-status: 0` in trailers |
//! | `/status/NNN` | that status and a report |
//! | `/echo.Echo/Repeat`, with a gRPC content type | the first message again and again: fields `echo-count` (default 1) and `echo-interval-ms` (default 0) |
//! | `/delay/MS`, `/slow?ms=MS` | a report after so many milliseconds |
//! | `/bytes/N`, `/bytes?n=N` | N bytes with `Content-Length` |
//! | `/live` | 200 |
//! | `/chunked/N` | N bytes without `Content-Length` |
//! | `/truncate/N` | `Content-Length: N`, half of that, then the connection (or stream) breaks |
//! | `/slow-body/N/MS` | N times one byte, each after so many milliseconds |
//! | `/trailers` | a body and the trailer `x-echo-trailer: N` (N bytes received) |
//! | `/close` | the connection (or stream) breaks before a response |
//! | `/echo` | the request body, and its trailers, back as they come |
//! | `/headers` | a report made without reading the body |
//! | anything else | a report |
//!
//! A report is JSON: `name`, `protocol`, `tls`, `method`, `target` (as received), `host`, `headers` (a list of pairs),
//! `body_bytes`, `trailers` (a list of pairs), `peer`, `connection` (a number that counts up), and what
//! [`EchoOptions::facts`] adds.

mod body;
mod grpc;
mod health;
mod report;
mod service;
mod upgrade;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Handle},
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use service::Connection;

/// What an echo backend is to be.
#[derive(Clone)]
pub struct EchoOptions {
    /// Its name, which stands in every report. Default `echo`.
    pub name: String,
    /// Where it listens. Default 127.0.0.1, a port that the kernel chooses.
    pub address: SocketAddr,
    /// With a configuration it speaks TLS, and HTTP/2 where ALPN chose `h2`. Default none.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Further members of every report, by name. Default none.
    pub facts: BTreeMap<String, String>,
}

impl Default for EchoOptions {
    fn default() -> Self {
        Self {
            name: "echo".to_owned(),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
            facts: BTreeMap::new(),
        }
    }
}

impl EchoOptions {
    /// Options with a name and the defaults.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// The same, speaking TLS with this configuration.
    #[must_use]
    pub fn with_tls(self, config: Arc<rustls::ServerConfig>) -> Self {
        Self {
            tls: Some(config),
            ..self
        }
    }
}

/// What an echo backend counted.
#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    open_connections: AtomicU64,
    requests: AtomicU64,
    health: health::Health,
}

/// Whether and how it is to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    /// Not yet.
    Not,
    /// No new connections; those that are open end with the exchange under way.
    Drain,
    /// At once.
    Now,
}

/// A running echo backend. It stops when this is dropped.
pub struct EchoServer {
    /// Where it listens.
    pub address: SocketAddr,
    counters: Arc<Counters>,
    stop: watch::Sender<Stop>,
    thread: Option<thread::JoinHandle<()>>,
}

impl EchoServer {
    /// Starts a backend on a thread of its own.
    ///
    /// # Errors
    /// When the address cannot be bound, or no thread started.
    pub fn start(options: EchoOptions) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (mut server, serve) = prepare(options)?;
        let thread = thread::Builder::new()
            .name("echo".to_owned())
            .spawn(move || runtime.block_on(serve))?;
        server.thread = Some(thread);
        Ok(server)
    }

    /// Stops the backend, closes all of its connections, and waits for its thread where it has one.
    pub fn stop(mut self) {
        self.stop.send_replace(Stop::Now);
        if let Some(thread) = self.thread.take() {
            // A panic of the backend was already printed by its thread.
            drop(thread.join());
        }
    }

    /// Takes no new connections, and lets every open one end: HTTP/1.1 with the response under way, HTTP/2 by GOAWAY
    /// when its streams have ended. Upgraded connections end with their clients, or with [`EchoServer::stop`].
    pub fn drain(&self) {
        self.stop.send_if_modified(|stop| {
            let begins = *stop == Stop::Not;
            *stop = (*stop).max(Stop::Drain);
            begins
        });
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> u64 {
        self.counters.open_connections.load(Ordering::Relaxed)
    }

    /// From now on, what `/health` answers.
    pub fn set_health(&self, status: u16) {
        self.counters.health.set(status);
    }

    /// Health checks answered since the start, by HTTP and gRPC.
    pub fn health_checks(&self) -> u64 {
        self.counters.health.checks()
    }

    /// Authority and user agent of the last health check.
    pub fn last_health_check(&self) -> Option<(String, String)> {
        self.counters.health.last()
    }

    /// Requests whose head was received since the start.
    pub fn requests(&self) -> u64 {
        self.counters.requests.load(Ordering::Relaxed)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.send_replace(Stop::Now);
    }
}

/// Starts a backend on a runtime that exists already.
///
/// # Errors
/// When the address cannot be bound.
pub fn spawn(runtime: &Handle, options: EchoOptions) -> io::Result<EchoServer> {
    let (server, serve) = prepare(options)?;
    runtime.spawn(serve);
    Ok(server)
}

/// Binds the address, and gives the server with the accept loop that is still to be run.
fn prepare(options: EchoOptions) -> io::Result<(EchoServer, impl Future<Output = ()> + Send)> {
    let listener = std::net::TcpListener::bind(options.address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let counters = Arc::new(Counters::default());
    let (stop, stopped) = watch::channel(Stop::Not);
    let server = EchoServer {
        address,
        counters: Arc::clone(&counters),
        stop,
        thread: None,
    };
    Ok((server, accept_loop(listener, options, counters, stopped)))
}

async fn accept_loop(
    listener: std::net::TcpListener,
    options: EchoOptions,
    counters: Arc<Counters>,
    mut stopped: watch::Receiver<Stop>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let acceptor = options.tls.map(TlsAcceptor::from);
    let name: Arc<str> = options.name.into();
    let facts = Arc::new(options.facts);
    let mut connections = JoinSet::new();
    loop {
        // Cancel safe: accept, changed and join_next lose nothing when dropped.
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => continue,
            },
            _ = stopped.wait_for(|stop| *stop > Stop::Not) => break,
            Some(_) = connections.join_next() => continue,
        };
        // Behind a socket of both families a client of IPv4 has an address of IPv6.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let number = counters.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let connection = Connection {
            name: Arc::clone(&name),
            facts: Arc::clone(&facts),
            peer,
            number,
            tls: acceptor.is_some(),
            counters: Arc::clone(&counters),
        };
        connections.spawn(serve_connection(
            stream,
            acceptor.clone(),
            (connection, stopped.clone()),
        ));
    }
    drop(listener);
    // Cancel safe: join_next and wait_for lose nothing when dropped.
    tokio::select! {
        () = async { while connections.join_next().await.is_some() {} } => {}
        _ = stopped.wait_for(|stop| *stop == Stop::Now) => {}
    }
}

/// What a connection is told, and what tells it to end.
type Told = (Connection, watch::Receiver<Stop>);

async fn serve_connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, told: Told) {
    let open = OpenConnection::count(&told.0.counters);
    // Without this, small frames wait for the peer's delayed acknowledgement. It fails only on a closed socket.
    drop(stream.set_nodelay(true));
    match acceptor {
        None => serve_stream(stream, told).await,
        // A client that breaks the handshake off is none of our business.
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_stream(stream, told).await;
            }
        }
    }
    drop(open);
}

async fn serve_stream(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, (connection, mut stopped): Told) {
    let service = hyper::service::service_fn(move |request| service::answer(connection.clone(), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().enable_connect_protocol().max_concurrent_streams(10_000);
    let mut serving = pin!(server.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // An error of the connection is the client's going away, or a `/close` of ours. Cancel safe: both are kept.
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stopped.wait_for(|stop| *stop > Stop::Not) => serving.as_mut().graceful_shutdown(),
    }
    drop(serving.await);
}

/// Counts a connection as open while it lives.
struct OpenConnection(Arc<Counters>);

impl OpenConnection {
    fn count(counters: &Arc<Counters>) -> Self {
        counters.open_connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counters))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
