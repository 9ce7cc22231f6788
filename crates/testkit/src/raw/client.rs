//! A client that sends bytes and reads responses, with or without TLS.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use crate::wait::PATIENCE;

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

/// A response as it came.
#[derive(Clone, Debug)]
pub struct RawResponse {
    /// The status code.
    pub status: u16,
    /// Status line and fields, with the empty line.
    pub head: String,
    /// The body, chunks already joined.
    pub body: Vec<u8>,
    /// The trailer section of a chunked body, empty where there is none.
    pub trailers: String,
}

impl RawResponse {
    /// The first field of that name, without surrounding blanks.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).into_iter().next()
    }

    /// All fields of that name, without surrounding blanks.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let fields = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON: the report of an echo backend. `Null` where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A connection on which bytes are sent. Every read ends after [`PATIENCE`] of silence.
pub struct RawClient {
    stream: Stream,
    /// Bytes read and not yet given out.
    buffer: Vec<u8>,
}

impl RawClient {
    /// Connects.
    ///
    /// # Errors
    /// When nothing listens there.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: Stream::Plain(open(address)?),
            buffer: Vec::new(),
        })
    }

    /// Connects and makes the TLS handshake; any certificate is accepted. Without a name no SNI is sent.
    ///
    /// # Errors
    /// When nothing listens there, the name is no DNS name, or the handshake fails.
    pub fn connect_tls(address: SocketAddr, sni: Option<&str>, alpn: &[&str]) -> io::Result<Self> {
        let mut config = accept_any_certificate();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.enable_sni = sni.is_some();
        Self::connect_tls_with(address, sni, Arc::new(config))
    }

    /// Connects and makes the TLS handshake with a configuration of the caller: for verification, resumption, versions.
    ///
    /// # Errors
    /// As [`Self::connect_tls`].
    pub fn connect_tls_with(address: SocketAddr, sni: Option<&str>, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = match sni {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(io::Error::other)?,
            None => ServerName::IpAddress(address.ip().into()),
        };
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut stream = Box::new(StreamOwned::new(connection, open(address)?));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self {
            stream: Stream::Tls(stream),
            buffer: Vec::new(),
        })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Sends a GET request for `path` at `host` that keeps the connection, and reads the response.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::response`].
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<RawResponse> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
        self.response()
    }

    /// Ends the sending direction; the other one stays open.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn finish(&mut self) -> io::Result<()> {
        if let Stream::Tls(stream) = &mut self.stream {
            stream.conn.send_close_notify();
            stream.flush()?;
        }
        self.stream.socket().shutdown(Shutdown::Write)
    }

    /// Reads one final response: head, then the body by its framing. Interim responses are passed over.
    ///
    /// # Errors
    /// `UnexpectedEof` when the connection ends before the response does, `TimedOut` or `WouldBlock` on silence.
    pub fn response(&mut self) -> io::Result<RawResponse> {
        loop {
            let head = self.head()?;
            let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            let mut response = RawResponse {
                status,
                head,
                body: Vec::new(),
                trailers: String::new(),
            };
            if status == 101 {
                return Ok(response);
            }
            if !(100..200).contains(&status) {
                self.body(&mut response)?;
                return Ok(response);
            }
        }
    }

    /// Reads a head up to and with its empty line.
    ///
    /// # Errors
    /// As [`Self::response`].
    pub fn head(&mut self) -> io::Result<String> {
        let end = self.read_until(b"\r\n\r\n")?;
        Ok(String::from_utf8_lossy(&self.take(end)).into_owned())
    }

    /// Reads exactly so many bytes.
    ///
    /// # Errors
    /// As [`Self::response`].
    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.take(count))
    }

    /// Reads until the peer closes. What came before a reset is given out; a reset with nothing before it is an error.
    ///
    /// # Errors
    /// When nothing was read before the connection broke, or the peer is silent without closing.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Err(error) if is_silence(&error) || self.buffer.is_empty() => return Err(error),
                Err(_) => return Ok(std::mem::take(&mut self.buffer)),
            }
        }
    }

    /// Whether the peer closes (or resets) the connection within `patience` without sending more.
    ///
    /// # Errors
    /// When the deadline cannot be set.
    pub fn closes_within(&mut self, patience: std::time::Duration) -> io::Result<bool> {
        self.stream.socket().set_read_timeout(Some(patience))?;
        let outcome = self.fill();
        self.stream.socket().set_read_timeout(Some(PATIENCE))?;
        Ok(outcome.is_err_and(|error| !is_silence(&error)))
    }

    /// The certificates that the server showed, leaf first; none without TLS.
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        match &self.stream {
            Stream::Plain(_) => Vec::new(),
            Stream::Tls(stream) => stream.conn.peer_certificates().map(<[_]>::to_vec).unwrap_or_default(),
        }
    }

    /// The protocol that ALPN chose.
    pub fn alpn(&self) -> Option<String> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => stream
                .conn
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
        }
    }

    /// The TLS connection, for what is not offered here; none without TLS.
    pub fn tls(&self) -> Option<&ClientConnection> {
        match &self.stream {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => Some(&stream.conn),
        }
    }

    /// The address of this end.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.stream.socket().local_addr()
    }

    /// The body of a response by RFC 9112 6.3, HEAD excepted.
    fn body(&mut self, response: &mut RawResponse) -> io::Result<()> {
        let chunked = response
            .header("transfer-encoding")
            .is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let length = response
            .header("content-length")
            .and_then(|value| value.parse::<usize>().ok());
        if matches!(response.status, 204 | 304) {
            return Ok(());
        }
        match length {
            _ if chunked => self.chunks(response)?,
            Some(length) => response.body = self.exactly(length)?,
            None => response.body = self.rest()?,
        }
        Ok(())
    }

    fn chunks(&mut self, response: &mut RawResponse) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
            let size = size.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("chunk size '{line}'")))?;
            if size == 0 {
                break;
            }
            response.body.extend(self.exactly(size)?);
            self.exactly(2)?;
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            response.trailers.push_str(&line);
            response.trailers.push_str("\r\n");
        }
    }

    /// One line, without its end.
    fn line(&mut self) -> io::Result<String> {
        let end = self.read_until(b"\r\n")?;
        let line = self.take(end);
        Ok(String::from_utf8_lossy(&line).trim_end_matches("\r\n").to_owned())
    }

    fn read_until(&mut self, mark: &[u8]) -> io::Result<usize> {
        loop {
            if let Some(start) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return Ok(start + mark.len());
            }
            self.fill()?;
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        self.buffer.drain(..count).collect()
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        let count = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut piece),
            Stream::Tls(stream) => stream.read(&mut piece),
        }?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend(piece.iter().take(count));
        Ok(())
    }
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A client configuration that accepts any certificate, TLS 1.2 and 1.3.
///
/// # Panics
/// Never: the provider supports both versions.
#[expect(clippy::expect_used, reason = "the provider supports TLS 1.2 and 1.3")]
pub fn accept_any_certificate() -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider supports TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth()
}

/// Accepts every certificate; signatures of the handshake are still verified.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
