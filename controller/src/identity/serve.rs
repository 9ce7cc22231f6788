//! Accepting on the port of the stream.

use std::{sync::Arc, time::Duration};

use propylon_wire::{Peer, Server};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Shared, issue::now_unix_s, material};

/// Why a connection was not let in; the other side tries again.
#[derive(Debug, Error)]
enum AcceptError {
    /// The handshake failed; the reason says whose fault it is.
    #[error("{0}")]
    Handshake(#[source] std::io::Error),
    /// The certificate names no proxy of ours.
    #[error("the client certificate is not a proxy's: {0}")]
    Stranger(String),
    /// The other side is silent.
    #[error("no handshake within {} s", HANDSHAKE.as_secs())]
    Silent,
    /// There is no authority yet.
    #[error("there is no certificate authority yet")]
    Unready,
}

/// Accepts until `stop`, then ends every connection.
pub(super) async fn serve(shared: &Arc<Shared>, listener: TcpListener, server: Server, stop: impl Future<Output = ()>) {
    let permits = Arc::new(Semaphore::new(MOST));
    let mut stop = std::pin::pin!(stop);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // Both are cancel safe: a connection stays in the queue, a permit is given back.
        let accepted = tokio::select! {
            accepted = async {
                let permit = Arc::clone(&permits).acquire_owned().await;
                (listener.accept().await, permit)
            } => accepted,
            () = &mut stop => break,
        };
        match accepted {
            (Ok((stream, address)), Ok(permit)) => {
                let (shared, server) = (Arc::clone(shared), server.clone());
                connections.spawn(async move {
                    if let Err(error) = connection(&shared, stream, &server).await {
                        tracing::info!(%error, %address, "connection to the stream refused");
                    }
                    drop(permit);
                });
            }
            (Err(error), _) => {
                tracing::warn!(%error, "cannot accept on the port of the stream");
                tokio::time::sleep(PAUSE).await;
            }
            (Ok(_), Err(_closed)) => break,
        }
    }
    connections.shutdown().await;
}

async fn connection(shared: &Shared, stream: TcpStream, server: &Server) -> Result<(), AcceptError> {
    let (stream, peer, end) = authenticate(shared, stream).await?;
    let lasts = match (&peer, end) {
        // Its proxy has renewed it long before, and connected anew; else the certificate would be good for ever.
        (Peer::Proxy(_), Some(end)) => {
            let left = u64::try_from(end.saturating_sub(now_unix_s())).unwrap_or_default();
            Duration::from_secs(left)
        }
        _ => ANONYMOUS,
    };
    match timeout(lasts, server.serve(stream, peer.clone())).await {
        Ok(ended) => tracing::debug!(?peer, ?ended, "connection ended"),
        Err(_elapsed) => tracing::info!(?peer, "connection ended with its client certificate"),
    }
    Ok(())
}

async fn authenticate(
    shared: &Shared,
    stream: TcpStream,
) -> Result<(TlsStream<TcpStream>, Peer, Option<i64>), AcceptError> {
    let material = shared.material.borrow().clone().ok_or(AcceptError::Unready)?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection without TCP_NODELAY");
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&material.tls));
    let stream = timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = stream
        .map_err(|_| AcceptError::Silent)?
        .map_err(AcceptError::Handshake)?;
    let (peer, end) = material::peer(stream.get_ref().1.peer_certificates(), &shared.settings.namespace)
        .map_err(AcceptError::Stranger)?;
    Ok((stream, peer, end))
}

/// Connections at a time; a cluster has one proxy per node.
const MOST: usize = 4096;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long somebody without a certificate may stay.
const ANONYMOUS: Duration = Duration::from_secs(30);
/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);
