//! Asks a proxy until it answers as it should.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::clock::now_ns;
use crate::http::{field, head_end, number};

/// How long a change may take before the run is given up, nanoseconds.
const PATIENCE_NS: u64 = 30_000_000_000;

/// Time between two questions.
const PAUSE: Duration = Duration::from_micros(500);

/// A question and the answer that is waited for.
pub(crate) struct Probe {
    request: String,
    is_live: Box<Check>,
}

/// Whether a status and a body are the awaited ones.
type Check = dyn Fn(u16, &[u8]) -> bool + Sync;

impl Probe {
    /// Waits for a status.
    pub(crate) fn status(host: &str, path: &str, is_live: impl Fn(u16) -> bool + Sync + 'static) -> Self {
        Self {
            request: request(host, path),
            is_live: Box::new(move |status, _| is_live(status)),
        }
    }

    /// Waits for a body of one letter.
    pub(crate) fn body(host: &str, path: &str, letter: char) -> Self {
        Self {
            request: request(host, path),
            is_live: Box::new(move |status, body| status == 200 && body == letter.to_string().as_bytes()),
        }
    }

    /// Asks until the answer is there and says when that was, nanoseconds of the monotonic clock. The first answer, which
    /// opens the connection, comes before the `barrier`.
    ///
    /// # Errors
    ///
    /// When the proxy cannot be asked, already answers so, or does not within 30 s.
    pub(crate) fn wait(&self, proxy: SocketAddr, barrier: &Barrier) -> Result<u64> {
        let first = Connection::open(proxy).and_then(|mut connection| {
            let (status, body) = connection.ask(&self.request)?;
            Ok((connection, (self.is_live)(status, &body)))
        });
        barrier.wait();
        let (mut connection, already) = first?;
        if already {
            bail!("{proxy} answers as after the change before it: {}", self.request);
        }
        let end = now_ns() + PATIENCE_NS;
        while now_ns() < end {
            let (status, body) = connection.ask(&self.request)?;
            if (self.is_live)(status, &body) {
                return Ok(now_ns());
            }
            std::thread::sleep(PAUSE);
        }
        bail!("{proxy} does not follow within 30 s: {}", self.request)
    }
}

fn request(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

struct Connection {
    stream: TcpStream,
}

impl Connection {
    fn open(proxy: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(proxy)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream })
    }

    /// One exchange: status and body.
    fn ask(&mut self, request: &str) -> Result<(u16, Vec<u8>)> {
        self.stream.write_all(request.as_bytes())?;
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(end) = head_end(&bytes) {
                let head = bytes.get(..end).unwrap_or_default();
                let length = field(head, "content-length").and_then(number).unwrap_or(0);
                if bytes.len() >= end + length {
                    let status = head
                        .get(9..12)
                        .and_then(number)
                        .and_then(|status| u16::try_from(status).ok());
                    return Ok((
                        status.unwrap_or(0),
                        bytes.get(end..end + length).unwrap_or_default().to_vec(),
                    ));
                }
            }
            let read = self.stream.read(&mut chunk)?;
            if read == 0 {
                bail!("the proxy closed the connection");
            }
            bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
        }
    }
}
