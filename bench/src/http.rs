//! The little HTTP/1.1 that the own clients and the backend need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The host name of every measured request: it resolves without DNS, and so gives TLS clients a server name.
pub(crate) const HOST: &str = "localhost";

/// The end of a message head in `bytes`, after its blank line.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// The value of a header field of a head (name in lower case).
pub(crate) fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|&byte| byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (found, value) = line.split_at_checked(colon)?;
        found
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| value.get(1..).unwrap_or_default().trim_ascii())
    })
}

/// The number in a header field.
pub(crate) fn number(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A GET of `path` over a connection that stays open.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: propylon-bench\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// Reads responses with a `Content-Length`, one after the other.
#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    head: Vec<u8>,
    status: u16,
    remaining: Option<usize>,
}

impl ResponseReader {
    /// Takes received bytes; gives the status once the response is complete and is then ready for the next.
    ///
    /// # Errors
    ///
    /// When the response has no usable status line or length, or more arrives than it announced; the connection
    /// is of no further use.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<u16>> {
        let body = if let Some(remaining) = self.remaining {
            remaining.checked_sub(bytes.len())
        } else {
            self.head.extend_from_slice(bytes);
            let Some(end) = head_end(&self.head) else {
                return Ok(None);
            };
            let head = self.head.get(..end).unwrap_or_default();
            self.status = head
                .get(9..12)
                .and_then(number)
                .and_then(|n| u16::try_from(n).ok())
                .context("status")?;
            let length = field(head, "content-length")
                .and_then(number)
                .context("response without a length")?;
            length.checked_sub(self.head.len() - end)
        };
        let Some(remaining) = body else {
            bail!("more than the announced body")
        };
        self.remaining = Some(remaining);
        if remaining > 0 {
            return Ok(None);
        }
        self.head.clear();
        self.remaining = None;
        Ok(Some(self.status))
    }
}

/// Sends `request` and reads the whole response into `buffer`-sized pieces; gives its status.
///
/// # Errors
///
/// When the connection fails or the response is malformed; a new connection may work.
pub(crate) fn exchange(stream: &mut (impl Read + Write), request: &[u8], buffer: &mut [u8]) -> Result<u16> {
    stream.write_all(request)?;
    let mut reader = ResponseReader::default();
    loop {
        let count = stream.read(buffer)?;
        if count == 0 {
            bail!("connection closed within a response");
        }
        if let Some(status) = reader.feed(buffer.get(..count).unwrap_or_default())? {
            return Ok(status);
        }
    }
}

/// The status of one GET of `path` for `host` over a new connection.
///
/// # Errors
///
/// When nothing answers within five seconds; retryable.
pub(crate) fn status_of(addr: SocketAddr, host: &str, path: &str) -> Result<u16> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&addr, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(&mut stream, request.as_bytes(), &mut [0; 4096])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_in_pieces_is_complete_at_its_last_byte() {
        let text = b"HTTP/1.1 200 OK\r\nX: 1\r\ncontent-LENGTH: 5\r\n\r\nhello";
        for cut in 1..text.len() {
            let mut reader = ResponseReader::default();
            assert_eq!(reader.feed(&text[..cut]).unwrap(), None, "cut at {cut}");
            assert_eq!(reader.feed(&text[cut..]).unwrap(), Some(200), "cut at {cut}");
        }
    }

    #[test]
    fn responses_without_length_and_surplus_bytes_are_errors() {
        assert!(ResponseReader::default().feed(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(
            ResponseReader::default()
                .feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab")
                .is_err()
        );
    }

    #[test]
    fn a_reader_is_reused_for_the_next_response() {
        let mut reader = ResponseReader::default();
        for status in [200u16, 404] {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(reader.feed(text.as_bytes()).unwrap(), Some(status));
        }
    }
}
