//! Establishing a connection to an endpoint.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use socket2::SockRef;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{Http1, Http2, TlsTransport, UpstreamError, UpstreamErrorKind, UpstreamIo};
use crate::overload;

/// How long sent bytes may stay unacknowledged on an HTTP/2 connection before the kernel gives it up (RFC 5482): many
/// exchanges share it, and a vanished backend must not take new ones for the quarter of an hour that TCP would try.
const HTTP2_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one address is tried alone before the other joins (RFC 8305 5, "Connection Attempt Delay").
const HEAD_START: Duration = Duration::from_millis(250);

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
    prepare(stream, address.ip(), transport).await
}

/// Connects to either of two addresses of the same backend: to `first`, and when that fails or takes longer than
/// [`HEAD_START`], to `second` too. Who answers first is taken, and the other attempt dropped (RFC 8305 5).
///
/// # Errors
/// As [`connect`]; when TCP fails at both addresses, the error of `first`.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn connect_either(
    first: SocketAddr,
    second: SocketAddr,
    transport: &Transport,
) -> Result<(SocketAddr, Connection), UpstreamError> {
    let (stream, address) = race(first, second).await.map_err(connect_error)?;
    let connection = prepare(stream, address.ip(), transport).await?;
    Ok((address, connection))
}

async fn race(first: SocketAddr, second: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let mut leader = pin!(TcpStream::connect(first));
    let error = match timeout(HEAD_START, &mut leader).await {
        Ok(Ok(stream)) => return Ok((stream, first)),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let mut follower = pin!(TcpStream::connect(second));
    if let Some(error) = error {
        return follower.await.map(|stream| (stream, second)).map_err(|_| error);
    }
    tokio::select! {
        led = &mut leader => match led {
            Ok(stream) => Ok((stream, first)),
            Err(error) => follower.await.map(|stream| (stream, second)).map_err(|_| error),
        },
        followed = &mut follower => match followed {
            Ok(stream) => Ok((stream, second)),
            Err(_) => leader.await.map(|stream| (stream, first)),
        },
    }
}

async fn prepare(stream: TcpStream, ip: IpAddr, transport: &Transport) -> Result<Connection, UpstreamError> {
    stream.set_nodelay(true).map_err(connect_error)?;
    match transport {
        Transport::H2c => {
            limit_silence(&stream)?;
            let handshake = Http2::handshake(UpstreamIo::Tcp(stream), "http");
            handshake.await.map(Connection::Http2)
        }
        Transport::Http1 => Ok(Connection::Http1(Box::new(Http1::new(UpstreamIo::Tcp(stream))))),
        Transport::Tls(tls) => {
            let name = tls.server_name(ip);
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
        _ if overload::is_starved(&error) => UpstreamErrorKind::OutOfDescriptors,
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
