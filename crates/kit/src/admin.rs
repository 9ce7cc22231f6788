//! The admin server: probes, metrics, JSON views, pages and streams of events, on the control runtime.
//!
//! What it is: an [`AdminServer`] for a set of addresses and sockets with the [`Routes`] it serves, and the [`Probe`] that the
//! process keeps up to date.
//!
//! What it is not: it changes nothing; every route is GET (and HEAD). Views and pages tell what is configured, so they
//! answer only to a `Host` that is an IP address or `localhost`: a web page cannot read them through its visitor's
//! browser by pointing its own name at 127.0.0.1.

mod events;
mod probe;
mod respond;

use std::{
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    os::unix::{fs::FileTypeExt, net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use events::Impatient;

pub use probe::{Heartbeat, Probe};
pub use respond::Routes;

/// How long a client may take to send a request's head, also on a kept-alive connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may live.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(5);
/// The buffer of a connection, and so the largest head.
const BUFFER_BYTES: usize = 16 * 1024;
/// Connections served at a time, over all addresses; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// How long connections may go on after the server is to stop.
const FAREWELL: Duration = Duration::from_secs(1);
/// The pause after an accept that failed (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// An address cannot be bound; retryable where another process holds it.
    #[error("cannot bind the admin address {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket cannot be made; retryable where another process holds it.
    #[error("cannot bind the socket {path}: {source}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Where a server accepts.
#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What it accepted.
enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listening {
    /// # Cancel safety
    ///
    /// Cancel safe: a connection stays in the queue.
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Accepted::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

/// A server that is bound and does not serve yet.
#[derive(Debug)]
pub struct AdminServer {
    listeners: Vec<Listening>,
    routes: Arc<Routes>,
}

impl AdminServer {
    /// Binds all addresses; port 0 picks a free one.
    ///
    /// # Errors
    ///
    /// [`AdminError::Bind`]; none stays bound then.
    pub async fn bind(addresses: &[SocketAddr], routes: Routes) -> Result<Self, AdminError> {
        let mut listeners = Vec::with_capacity(addresses.len());
        for address in addresses {
            let listener = TcpListener::bind(address).await;
            let bound = listener.map_err(|source| AdminError::Bind {
                address: *address,
                source,
            })?;
            listeners.push(Listening::Tcp(bound));
        }
        Ok(Self {
            listeners,
            routes: Arc::new(routes),
        })
    }

    /// Takes listeners that are bound already, and nonblocking.
    ///
    /// # Errors
    ///
    /// When one cannot be registered with the runtime. Not retryable.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn of_listeners(listeners: Vec<std::net::TcpListener>, routes: Routes) -> io::Result<Self> {
        let listeners = listeners.into_iter().map(TcpListener::from_std);
        let listeners: io::Result<Vec<TcpListener>> = listeners.collect();
        Ok(Self {
            listeners: listeners?.into_iter().map(Listening::Tcp).collect(),
            routes: Arc::new(routes),
        })
    }

    /// Accepts on a Unix socket too, and takes its path from whoever answers there, atomically.
    ///
    /// # Errors
    ///
    /// [`AdminError::Socket`] when the folder is not writable.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn replace_socket(&mut self, path: &Path) -> Result<(), AdminError> {
        let failed = |source| AdminError::Socket {
            path: path.to_owned(),
            source,
        };
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        if let Err(error) = fs::remove_file(&beside)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(failed(error));
        }
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        fs::rename(&beside, path).map_err(failed)?;
        self.listeners.push(Listening::Unix(listener));
        Ok(())
    }

    /// Accepts on a Unix socket too. A socket that a process left behind is replaced; one that is answered is not.
    ///
    /// # Errors
    ///
    /// [`AdminError::Socket`] when another process answers there, something else has that name, or the folder is not
    /// writable.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    pub fn add_socket(&mut self, path: &Path) -> Result<(), AdminError> {
        let failed = |source| AdminError::Socket {
            path: path.to_owned(),
            source,
        };
        let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
        if is_socket && StdUnixStream::connect(path).is_err() {
            fs::remove_file(path).map_err(failed)?;
        }
        self.listeners
            .push(Listening::Unix(UnixListener::bind(path).map_err(failed)?));
        Ok(())
    }

    /// The addresses with the ports that were picked, in the order of [`AdminServer::bind`].
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|listener| match listener {
                Listening::Tcp(listener) => listener.local_addr().ok(),
                Listening::Unix(_) => None,
            })
            .collect()
    }

    /// Serves until `stop` is ready, then closes the listeners, and every connection after at most a second.
    ///
    /// # Cancel safety
    ///
    /// Cancelled, it closes every connection.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (stopping, stopped) = watch::channel(());
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            let (routes, permits) = (Arc::clone(&self.routes), Arc::clone(&permits));
            accepting.spawn(accept(listener, routes, permits, stopped.clone()));
        }
        stop.await;
        drop(stopping);
        let finished = async { while accepting.join_next().await.is_some() {} };
        // Dropping the set aborts the tasks, and with each accept task its connections.
        drop(tokio::time::timeout(FAREWELL, finished).await);
    }
}

async fn accept(listener: Listening, routes: Arc<Routes>, permits: Arc<Semaphore>, mut stopped: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        // All three are cancel safe: a place is given back, a connection stays in the queue.
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            _ = stopped.changed() => break,
        };
        let Ok(permit) = permit else { return };
        // Forget those that ended.
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok(accepted) => {
                let routes = Arc::clone(&routes);
                connections.spawn(async move {
                    let served = async {
                        match accepted {
                            Accepted::Tcp(stream) => connection(stream, routes).await,
                            Accepted::Unix(stream) => connection(stream, routes).await,
                        }
                    };
                    // The lifetime ends a client that stopped reading, too.
                    drop(tokio::time::timeout(CONNECTION_LIFETIME, served).await);
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the admin address");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, routes: Arc<Routes>) {
    let service = service_fn(move |request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, Infallible>(routes.respond(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Impatient::new(stream)), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "an admin connection ended");
    }
}

#[cfg(test)]
mod tests;
