//! Connections for the stream, authenticated both ways.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use propylon_wire::Connect;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{
    credential::{Credential, Keeper},
    link::is_refusal,
};

/// Connects with the present certificate.
pub(super) struct Connector {
    keeper: Arc<Keeper>,
}

impl Connector {
    pub(super) const fn new(keeper: Arc<Keeper>) -> Self {
        Self { keeper }
    }
}

impl Connect for Connector {
    type Io = Authenticated;

    async fn connect(&mut self) -> io::Result<Authenticated> {
        let credential = Box::pin(self.keeper.present()).await.map_err(io::Error::other)?;
        let stream = self.keeper.link().connect(Some(&credential)).await?;
        Ok(Authenticated::new(stream, credential, Arc::clone(&self.keeper)))
    }
}

/// A connection that ends when there is a newer certificate, and that notices where the controller does not believe this one.
pub(super) struct Authenticated {
    stream: TlsStream<TcpStream>,
    credential: Arc<Credential>,
    keeper: Arc<Keeper>,
    /// None once it is ready.
    renewed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Authenticated {
    fn new(stream: TlsStream<TcpStream>, credential: Arc<Credential>, keeper: Arc<Keeper>) -> Self {
        let mut changes = keeper.changes();
        let ours = Arc::clone(&credential);
        let renewed = async move {
            let is_newer = |present: &Option<Arc<Credential>>| {
                present.as_ref().is_some_and(|present| !Arc::ptr_eq(present, &ours))
            };
            if changes.wait_for(is_newer).await.is_err() {
                // Nobody renews any more.
                std::future::pending::<()>().await;
            }
        };
        Self {
            stream,
            credential,
            keeper,
            renewed: Some(Box::pin(renewed)),
        }
    }

    fn is_outdated(&mut self, context: &mut Context<'_>) -> bool {
        let is_ready = match &mut self.renewed {
            Some(renewed) => renewed.as_mut().poll(context).is_ready(),
            None => return true,
        };
        if is_ready {
            tracing::info!("connecting anew with the renewed client certificate");
            self.renewed = None;
        }
        is_ready
    }
}

impl AsyncRead for Authenticated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_outdated(context) {
            let reason = "the client certificate was renewed; connecting with the new one";
            return Poll::Ready(Err(io::Error::other(reason)));
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &read
            && is_refusal(error)
        {
            self.keeper.refused(&self.credential);
        }
        read
    }
}

impl AsyncWrite for Authenticated {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
