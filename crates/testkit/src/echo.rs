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
//! | `/delay/MS` | a report after so many milliseconds |
//! | `/bytes/N` | N bytes with `Content-Length` |
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
//! `body_bytes`, `trailers` (a list of pairs), `peer`, `connection` (a number that counts up).

mod body;
mod health;
mod report;
mod service;
mod upgrade;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
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
}

impl Default for EchoOptions {
    fn default() -> Self {
        Self {
            name: "echo".to_owned(),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
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

/// A running echo backend. It stops when this is dropped.
pub struct EchoServer {
    /// Where it listens.
    pub address: SocketAddr,
    counters: Arc<Counters>,
    stop: watch::Sender<bool>,
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
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the backend was already printed by its thread.
            drop(thread.join());
        }
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
        self.stop.send_replace(true);
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
    let (stop, stopped) = watch::channel(false);
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
    mut stopped: watch::Receiver<bool>,
) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let acceptor = options.tls.map(TlsAcceptor::from);
    let name: Arc<str> = options.name.into();
    let mut connections = JoinSet::new();
    loop {
        // Cancel safe: accept, changed and join_next lose nothing when dropped.
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(_) => continue,
            },
            _ = stopped.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        let number = counters.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let connection = Connection {
            name: Arc::clone(&name),
            peer,
            number,
            tls: acceptor.is_some(),
            counters: Arc::clone(&counters),
        };
        connections.spawn(serve_connection(stream, acceptor.clone(), connection));
    }
}

async fn serve_connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, connection: Connection) {
    let open = OpenConnection::count(&connection.counters);
    // Without this, small frames wait for the peer's delayed acknowledgement. It fails only on a closed socket.
    drop(stream.set_nodelay(true));
    match acceptor {
        None => serve_stream(stream, connection).await,
        // A client that breaks the handshake off is none of our business.
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_stream(stream, connection).await;
            }
        }
    }
    drop(open);
}

async fn serve_stream(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, connection: Connection) {
    let service = hyper::service::service_fn(move |request| service::answer(connection.clone(), request));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http2().enable_connect_protocol().max_concurrent_streams(10_000);
    // An error here is the client's going away, or a `/close` of ours.
    drop(
        server
            .serve_connection_with_upgrades(TokioIo::new(stream), service)
            .await,
    );
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
