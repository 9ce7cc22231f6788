//! An HTTP/2 client that shows streams, trailers and GOAWAY, with calls that block.

use std::{io, net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Request, Response, StatusCode};
use propylon_testkit::{raw::accept_any_certificate, wait::PATIENCE};
use rustls::pki_types::ServerName;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// A connection. Every call that waits ends after [`PATIENCE`].
pub struct Http2 {
    sender: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    scheme: &'static str,
    // Behind the rest, as it is dropped last: dropping it ends the connection's task.
    runtime: Runtime,
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Http2Response {
    /// The status.
    pub status: StatusCode,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers, empty where there are none.
    pub trailers: HeaderMap,
}

/// Why there is no whole response.
#[derive(Debug)]
pub enum Failure {
    /// The connection or the stream broke.
    Http2(h2::Error),
    /// Nothing came for [`PATIENCE`].
    Silence,
}

impl From<h2::Error> for Failure {
    fn from(error: h2::Error) -> Self {
        Self::Http2(error)
    }
}

impl Failure {
    /// The error code of the stream or the connection.
    pub fn reason(&self) -> Option<h2::Reason> {
        match self {
            Self::Http2(error) => error.reason(),
            Self::Silence => None,
        }
    }
}

impl Http2 {
    /// Connects with prior knowledge.
    ///
    /// # Panics
    /// When the connection cannot be made.
    pub fn plain(address: SocketAddr) -> Self {
        let runtime = runtime();
        let (sender, connection) = runtime
            .block_on(async {
                let stream = TcpStream::connect(address).await?;
                handshake(stream).await
            })
            .expect("HTTP/2 with prior knowledge is spoken");
        Self {
            sender,
            connection,
            scheme: "http",
            runtime,
        }
    }

    /// Connects over TLS with ALPN `h2`; any certificate is accepted.
    ///
    /// # Panics
    /// When the connection cannot be made.
    pub fn tls(address: SocketAddr, sni: &str) -> Self {
        let runtime = runtime();
        let mut config = accept_any_certificate();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(sni.to_owned()).expect("a DNS name");
        let (sender, connection) = runtime
            .block_on(async {
                let stream = TcpStream::connect(address).await?;
                handshake(TlsConnector::from(Arc::new(config)).connect(name, stream).await?).await
            })
            .expect("HTTP/2 over TLS is spoken");
        Self {
            sender,
            connection,
            scheme: "https",
            runtime,
        }
    }

    /// A request for `path` at `host`.
    ///
    /// # Panics
    /// When these make no URI.
    pub fn request_to(&self, method: &str, host: &str, path: &str) -> Request<()> {
        let uri = format!("{}://{host}{path}", self.scheme);
        Request::builder()
            .method(method)
            .uri(uri)
            .version(http::Version::HTTP_2)
            .body(())
            .expect("a valid request")
    }

    /// GET.
    ///
    /// # Errors
    /// When the stream or the connection breaks.
    pub fn get(&mut self, host: &str, path: &str) -> Result<Http2Response, Failure> {
        let request = self.request_to("GET", host, path);
        self.exchange(request, None, None)
    }

    /// Sends a request with a body and trailers, and reads the whole response.
    ///
    /// # Errors
    /// When the stream or the connection breaks.
    pub fn exchange(
        &mut self,
        request: Request<()>,
        body: Option<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Result<Http2Response, Failure> {
        let ends_at_once = body.is_none() && trailers.is_none();
        let mut stream = self.open(request, ends_at_once)?;
        if let Some(body) = body {
            stream.sending.send_data(body, trailers.is_none())?;
        }
        if let Some(trailers) = trailers {
            stream.sending.send_trailers(trailers)?;
        }
        self.finish(stream)
    }

    /// Opens a stream and sends the head.
    ///
    /// # Errors
    /// When the connection takes no more streams.
    pub fn open(&mut self, request: Request<()>, ends: bool) -> Result<Stream, Failure> {
        let sender = self.sender.clone();
        let mut sender = self
            .runtime
            .block_on(async { timeout(PATIENCE, sender.ready()).await })
            .map_err(|_| Failure::Silence)??;
        let (response, sending) = sender.send_request(request, ends)?;
        Ok(Stream {
            sending,
            receiving: Receiving::Head(response),
            handle: self.runtime.handle().clone(),
        })
    }

    /// Reads what is left of a response.
    ///
    /// # Errors
    /// When the stream or the connection breaks.
    pub fn finish(&mut self, mut stream: Stream) -> Result<Http2Response, Failure> {
        let head = stream.head()?;
        let mut body = BytesMut::new();
        while let Some(data) = stream.data()? {
            body.extend_from_slice(&data);
        }
        let trailers = stream.trailers()?;
        let (parts, ()) = head.into_parts();
        Ok(Http2Response {
            status: parts.status,
            headers: parts.headers,
            body: body.freeze(),
            trailers,
        })
    }

    /// Whether the peer said in its SETTINGS that it takes extended CONNECT (RFC 8441).
    pub fn offers_extended_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Waits until the connection has ended, and says how; none when it has not for [`PATIENCE`].
    pub fn ended(self) -> Option<Result<(), h2::Error>> {
        let Self {
            sender,
            connection,
            runtime,
            ..
        } = self;
        drop(sender);
        runtime
            .block_on(async { timeout(PATIENCE, connection).await })
            .ok()?
            .ok()
    }

    /// Whether the connection has ended already.
    pub fn has_ended(&self) -> bool {
        self.connection.is_finished()
    }
}

enum Receiving {
    Head(h2::client::ResponseFuture),
    Body(RecvStream),
    Broken,
}

/// An open stream.
pub struct Stream {
    /// The sending half.
    pub sending: SendStream<Bytes>,
    receiving: Receiving,
    handle: tokio::runtime::Handle,
}

impl Stream {
    /// Waits for the response head.
    ///
    /// # Errors
    /// When the stream or the connection breaks.
    ///
    /// # Panics
    /// When the head was read already.
    pub fn head(&mut self) -> Result<Response<()>, Failure> {
        let Receiving::Head(response) = std::mem::replace(&mut self.receiving, Receiving::Broken) else {
            panic!("the head was read already")
        };
        let response = self
            .handle
            .block_on(async { timeout(PATIENCE, response).await })
            .map_err(|_| Failure::Silence)??;
        let (parts, body) = response.into_parts();
        self.receiving = Receiving::Body(body);
        Ok(Response::from_parts(parts, ()))
    }

    /// The next piece of the body; none at its end. The window is opened again at once.
    ///
    /// # Errors
    /// When the stream or the connection breaks.
    pub fn data(&mut self) -> Result<Option<Bytes>, Failure> {
        let body = Self::body(&mut self.receiving);
        let piece = self
            .handle
            .block_on(async { timeout(PATIENCE, body.data()).await })
            .map_err(|_| Failure::Silence)?;
        let Some(piece) = piece.transpose()? else {
            return Ok(None);
        };
        body.flow_control().release_capacity(piece.len())?;
        Ok(Some(piece))
    }

    /// Reads pieces of the body until at least so many bytes have come.
    ///
    /// # Errors
    /// When the stream or the connection breaks, or the body ends before.
    pub fn at_least(&mut self, count: usize) -> Result<BytesMut, Failure> {
        let mut bytes = BytesMut::new();
        while bytes.len() < count {
            bytes.extend_from_slice(&self.data()?.ok_or(Failure::Silence)?);
        }
        Ok(bytes)
    }

    /// The trailers, behind the body.
    ///
    /// # Errors
    /// When the stream or the connection breaks.
    pub fn trailers(&mut self) -> Result<HeaderMap, Failure> {
        let body = Self::body(&mut self.receiving);
        let trailers = self
            .handle
            .block_on(async { timeout(PATIENCE, body.trailers()).await })
            .map_err(|_| Failure::Silence)??;
        Ok(trailers.unwrap_or_default())
    }

    /// Sends a piece of the body.
    ///
    /// # Errors
    /// When the stream or the connection is broken.
    pub fn send(&mut self, data: impl Into<Bytes>, ends: bool) -> Result<(), Failure> {
        Ok(self.sending.send_data(data.into(), ends)?)
    }

    fn body(receiving: &mut Receiving) -> &mut RecvStream {
        match receiving {
            Receiving::Body(body) => body,
            _ => panic!("the head was not read"),
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a thread can be started")
}

type Connected = (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>);

async fn handshake(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
) -> io::Result<Connected> {
    let (sender, mut connection) = h2::client::Builder::new()
        .handshake(stream)
        .await
        .map_err(io::Error::other)?;
    // The peer's SETTINGS have come when the answer to a ping has.
    let mut ping = connection.ping_pong();
    let task = tokio::runtime::Handle::current().spawn(connection);
    if let Some(ping) = &mut ping {
        ping.ping(h2::Ping::opaque()).await.map_err(io::Error::other)?;
    }
    Ok((sender, task))
}
