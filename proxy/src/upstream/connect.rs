//! Establishing a connection to an endpoint.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Http1, Http2, TlsTransport, UpstreamError, UpstreamErrorKind, UpstreamIo};

/// How long sent bytes may stay unacknowledged on an HTTP/2 connection before the kernel gives it up (RFC 5482): many
/// exchanges share it, and a vanished backend must not take new ones for the quarter of an hour that TCP would try.
const HTTP2_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// What is spoken below HTTP, and which HTTP.
#[derive(Clone, Debug)]
pub enum Transport {
    /// HTTP/2 with prior knowledge over TCP.
    H2c,
    /// HTTP/1.1 over TCP.
    Http1,
    /// TLS; the version by ALPN (none selected: HTTP/1.1).
    Tls(Arc<TlsTransport>),
}

/// A connection to a backend.
#[derive(Debug)]
pub enum Connection {
    /// HTTP/1.1: one exchange at a time.
    Http1(Box<Http1>),
    /// HTTP/2: a handle that can be cloned, many exchanges at a time.
    Http2(Http2),
}

/// Connects to an endpoint and makes the connection ready for its first exchange.
///
/// HTTP/2 needs a task of its own per connection, so this must run within a `LocalSet` or `LocalRuntime`.
///
/// # Errors
/// When TCP, TLS or the HTTP/2 preface fails. Retryable for any method: no request byte was written.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn connect(address: SocketAddr, transport: &Transport) -> Result<Connection, UpstreamError> {
    let stream = TcpStream::connect(address).await.map_err(connect_error)?;
    stream.set_nodelay(true).map_err(connect_error)?;
    match transport {
        Transport::H2c => {
            limit_silence(&stream)?;
            let handshake = Http2::handshake(UpstreamIo::Tcp(stream), "http");
            handshake.await.map(Connection::Http2)
        }
        Transport::Http1 => Ok(Connection::Http1(Box::new(Http1::new(UpstreamIo::Tcp(stream))))),
        Transport::Tls(tls) => {
            let name = tls.server_name(address.ip());
            let stream = TlsConnector::from(tls.config())
                .connect(name, stream)
                .await
                .map_err(tls_error)?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            if is_http2 {
                limit_silence(stream.get_ref().0)?;
            }
            let io = UpstreamIo::Tls(Box::new(stream));
            if is_http2 {
                return Http2::handshake(io, "https").await.map(Connection::Http2);
            }
            Ok(Connection::Http1(Box::new(Http1::new(io))))
        }
    }
}

fn limit_silence(stream: &TcpStream) -> Result<(), UpstreamError> {
    SockRef::from(stream)
        .set_tcp_user_timeout(Some(HTTP2_USER_TIMEOUT))
        .map_err(connect_error)
}

fn connect_error(error: io::Error) -> UpstreamError {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => UpstreamErrorKind::ConnectRefused,
        _ => UpstreamErrorKind::ConnectFailed,
    };
    UpstreamError {
        kind,
        source: Some(error.into()),
    }
}

fn tls_error(error: io::Error) -> UpstreamError {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let kind = match cause {
        Some(rustls::Error::InvalidCertificate(_)) => UpstreamErrorKind::TlsCertificate,
        _ => UpstreamErrorKind::TlsFailed,
    };
    UpstreamError {
        kind,
        source: Some(error.into()),
    }
}
