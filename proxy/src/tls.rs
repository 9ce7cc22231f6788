//! TLS towards clients: which certificate a connection gets, and whether a request belongs on it.
//!
//! What it is: a table of certificates by host ([`CertTable`]), swapped whole and never changed, and a [`TlsAcceptor`]
//! that reads the `ClientHello`, picks from the table of that moment and finishes the handshake. TLS 1.2 and 1.3, ALPN
//! `h2` and `http/1.1`, tickets that every thread can open, no early data.
//!
//! What it is not: it reads no Secret and judges no SAN; `translate` decides which certificate may serve which host.
//!
//! Start from [`TlsContext::new`], then [`CertTable::build`].

mod candidates;
mod context;
mod entry;
mod table;

use std::{fmt, io, sync::Arc};

use arc_swap::ArcSwap;
use propylon_model::CertificateName;
use rustls::{
    CipherSuite, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection,
    server::{Acceptor, ClientHello},
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

pub use context::{ContextError, TlsContext};
pub use table::{CertTable, CertificateChoice, CertificateFact, FoundBy, RefusedCertificate};

/// Which certificate a connection uses; stable over rotations of the same Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CertIdentity {
    /// A certificate of the configuration.
    Named(CertificateName),
    /// The one made at start, where nothing matches.
    SelfSigned,
}

/// The name, or `self-signed`.
impl fmt::Display for CertIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => name.fmt(formatter),
            Self::SelfSigned => formatter.write_str("self-signed"),
        }
    }
}

/// The protocol agreed by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `h2`.
    H2,
    /// `http/1.1`.
    Http11,
    /// The client offered none: HTTP/1.1.
    None,
}

/// What a finished handshake tells.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// The server name of the client, lower-case without trailing dot; `None` when it sent none or an IP address.
    pub sni: Option<Box<str>>,
    /// The certificate that was selected for the name (in a resumed session: would be; none was sent).
    pub certificate: CertIdentity,
    /// The agreed protocol.
    pub alpn: Alpn,
    /// TLS 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// The cipher suite.
    pub cipher: CipherSuite,
    /// Whether a ticket replaced the full handshake.
    pub resumed: bool,
}

/// Why a handshake failed; nothing of it is retryable on the same connection.
#[derive(Debug, Error)]
pub enum TlsFault {
    /// The client went away.
    #[error("client closed the connection during the handshake")]
    Closed,
    /// The client's messages were refused, or nothing was in common.
    #[error("handshake failed: {0}")]
    Handshake(#[source] rustls::Error),
    /// The socket failed.
    #[error("socket failed during the handshake: {0}")]
    Io(#[source] io::Error),
}

impl TlsFault {
    /// A short stable name, for metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Handshake(rustls::Error::AlertReceived(_)) => "alert-received",
            Self::Handshake(rustls::Error::NoApplicationProtocol) => "no-alpn",
            Self::Handshake(rustls::Error::PeerIncompatible(_)) => "incompatible",
            Self::Handshake(rustls::Error::InvalidMessage(_)) => "not-tls",
            Self::Handshake(_) => "handshake",
            Self::Io(_) => "io",
        }
    }

    fn of(error: io::Error) -> Self {
        if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ) {
            return Self::Closed;
        }
        match error.downcast::<rustls::Error>() {
            Ok(error) => Self::Handshake(error),
            Err(error) => Self::Io(error),
        }
    }
}

/// Accepts TLS connections with the certificates of a swappable table; cheap to clone, one per worker.
#[derive(Clone, Debug)]
pub struct TlsAcceptor {
    table: Arc<ArcSwap<CertTable>>,
}

impl TlsAcceptor {
    /// An acceptor that looks into `table` once per connection.
    pub fn new(table: Arc<ArcSwap<CertTable>>) -> Self {
        Self { table }
    }

    /// The table of this moment.
    pub fn table(&self) -> Arc<CertTable> {
        self.table.load_full()
    }

    /// Does the handshake. The certificate is picked when the `ClientHello` is complete; a swap of the table afterwards
    /// does not touch the connection. The deadline is the caller's.
    ///
    /// A server name that is no DNS name is refused with `illegal_parameter` (rustls offers no other way); an IP address
    /// counts as no name and gets the default certificate.
    ///
    /// # Errors
    /// [`TlsFault`]; an alert was sent where TLS has one.
    ///
    /// # Cancel safety
    /// Not cancel safe; the stream is dropped with the future.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, TlsInfo), TlsFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let choose = |table: &CertTable, sni: Option<&str>, hello: &ClientHello<'_>| {
            let entry = table.select(sni, hello);
            (table.config_of(entry), entry.identity().clone())
        };
        self.handshake(stream, choose).await
    }

    /// Does the handshake with one certificate, whatever the server name, and without ALPN: for ports whose protocol is
    /// not known here. Where the certificate is not there, the one that the server name selects is used.
    ///
    /// # Errors
    /// [`TlsFault`]; an alert was sent where TLS has one.
    ///
    /// # Cancel safety
    /// Not cancel safe; the stream is dropped with the future.
    pub async fn accept_as<S>(
        &self,
        stream: S,
        certificate: &CertificateName,
    ) -> Result<(TlsStream<S>, TlsInfo), TlsFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let choose = |table: &CertTable, sni: Option<&str>, hello: &ClientHello<'_>| {
            let entry = table.entry(certificate.as_str());
            let entry = entry.unwrap_or_else(|| table.select(sni, hello));
            (table.plain_config_of(entry), entry.identity().clone())
        };
        self.handshake(stream, choose).await
    }

    /// Reads the `ClientHello`, lets `choose` say with what it is answered, and does the handshake.
    async fn handshake<S, F>(&self, stream: S, choose: F) -> Result<(TlsStream<S>, TlsInfo), TlsFault>
    where
        S: AsyncRead + AsyncWrite + Unpin,
        F: FnOnce(&CertTable, Option<&str>, &ClientHello<'_>) -> (Arc<ServerConfig>, CertIdentity),
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream)
            .await
            .map_err(TlsFault::of)?;
        let (config, sni, certificate) = {
            let hello = start.client_hello();
            let sni = hello.server_name().map(|name| name.strip_suffix('.').unwrap_or(name));
            let (config, certificate) = choose(&self.table.load(), sni, &hello);
            (config, sni.map(Box::from), certificate)
        };
        let stream = start.into_stream(config).await.map_err(TlsFault::of)?;
        let info = describe(stream.get_ref().1, sni, certificate)?;
        Ok((stream, info))
    }
}

fn describe(
    connection: &ServerConnection,
    sni: Option<Box<str>>,
    certificate: CertIdentity,
) -> Result<TlsInfo, TlsFault> {
    let unfinished = || TlsFault::Handshake(rustls::Error::HandshakeNotComplete);
    Ok(TlsInfo {
        sni,
        certificate,
        alpn: match connection.alpn_protocol() {
            Some(b"h2") => Alpn::H2,
            Some(b"http/1.1") => Alpn::Http11,
            _ => Alpn::None,
        },
        version: connection.protocol_version().ok_or_else(unfinished)?,
        cipher: connection.negotiated_cipher_suite().ok_or_else(unfinished)?.suite(),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    })
}

#[cfg(test)]
mod tests;
