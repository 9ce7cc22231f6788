//! The backend: one thread, one epoll loop, fixed responses with six header fields.
//!
//! It parses as little as a well-behaved proxy allows: the end of the head, the path, the body's length. A GET
//! or POST of `/1k`, `/16k` or `/1m` is answered with a body of that size (`/1k` for any other path).

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;

use anyhow::Result;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::OwnedFd;

use crate::http::{field, head_end, number};

const LISTENER: u64 = 0;
const READ_BUFFER: usize = 64 * 1024;

/// The prepared responses, head and body in one piece.
#[derive(Debug)]
struct Pages {
    small: Rc<[u8]>,
    medium: Rc<[u8]>,
    large: Rc<[u8]>,
}

impl Pages {
    /// The pages with `field` in their heads, which is empty or a whole line.
    fn new(field: &str) -> Self {
        Self {
            small: page(1024, field),
            medium: page(16 * 1024, field),
            large: page(1024 * 1024, field),
        }
    }

    fn for_path(&self, path: &[u8]) -> Rc<[u8]> {
        let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
        if path.ends_with(b"/16k") {
            Rc::clone(&self.medium)
        } else if path.ends_with(b"/1m") {
            Rc::clone(&self.large)
        } else {
            Rc::clone(&self.small)
        }
    }
}

fn page(size: usize, field: &str) -> Rc<[u8]> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n\
         Content-Length: {size}\r\nETag: \"bench-{size}\"\r\nCache-Control: max-age=60\r\n{field}\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + size, b'x');
    bytes.into()
}

/// The pages for connections that stay open, and for those that end with the response.
#[derive(Debug)]
struct Site {
    open: Pages,
    last: Pages,
}

impl Site {
    fn new() -> Self {
        Self {
            open: Pages::new(""),
            last: Pages::new("Connection: close\r\n"),
        }
    }

    fn page(&self, head: &Head<'_>) -> Rc<[u8]> {
        if head.close { &self.last } else { &self.open }.for_path(head.path)
    }
}

/// How much of a request body is still to come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Body {
    Length(usize),
    Chunked,
}

/// A parsed request head.
#[derive(Debug)]
struct Head<'a> {
    path: &'a [u8],
    body: Body,
    close: bool,
}

fn parse_head(head: &[u8]) -> Head<'_> {
    let path = head.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    let length = field(head, "content-length").and_then(number).unwrap_or(0);
    let chunked = field(head, "transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"));
    let close = field(head, "connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
    Head {
        path,
        body: if chunked { Body::Chunked } else { Body::Length(length) },
        close,
    }
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    /// The request whose body is being read: its answer, what is left, whether the connection ends with it.
    pending: Option<(Rc<[u8]>, Body, bool)>,
    /// Answers in order with the number of bytes already written of the first.
    output: Vec<Rc<[u8]>>,
    written: usize,
    close: bool,
    registered_out: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            input: Vec::new(),
            pending: None,
            output: Vec::new(),
            written: 0,
            close: false,
            registered_out: false,
        }
    }

    /// Reads and answers what is there; `false` when the connection is finished.
    fn drive(&mut self, buffer: &mut [u8], site: &Site) -> bool {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    self.input.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    while self.advance(site) {}
                    if count < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.flush()
    }

    /// Takes one step through the input; `false` when more bytes are needed.
    fn advance(&mut self, site: &Site) -> bool {
        let Some((page, body, close)) = self.pending.take() else {
            let Some(end) = head_end(&self.input) else { return false };
            let head = parse_head(self.input.get(..end).unwrap_or_default());
            self.pending = Some((site.page(&head), head.body, head.close));
            self.input.drain(..end);
            return true;
        };
        let left = match body {
            Body::Length(left) => {
                let taken = left.min(self.input.len());
                self.input.drain(..taken);
                Body::Length(left - taken)
            }
            Body::Chunked if self.input.ends_with(b"0\r\n\r\n") => {
                self.input.clear();
                Body::Length(0)
            }
            Body::Chunked => Body::Chunked,
        };
        if left == Body::Length(0) {
            self.output.push(page);
            self.close |= close;
            return !self.input.is_empty();
        }
        self.pending = Some((page, left, close));
        false
    }

    /// Writes what the socket takes; `false` when the connection is finished.
    fn flush(&mut self) -> bool {
        while let Some(page) = self.output.first() {
            match self.stream.write(page.get(self.written..).unwrap_or_default()) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if self.written == page.len() {
                self.output.remove(0);
                self.written = 0;
            }
        }
        !self.close
    }
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: HashMap<u64, Connection>,
    next: u64,
    site: Site,
}

impl Server {
    fn accept_all(&mut self) -> Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error.into()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            self.next += 1;
            epoll::add(&self.epoll, &stream, EventData::new_u64(self.next), EventFlags::IN)?;
            self.connections.insert(self.next, Connection::new(stream));
        }
    }

    fn ready(&mut self, token: u64, buffer: &mut [u8]) -> Result<()> {
        let Some(connection) = self.connections.get_mut(&token) else {
            return Ok(());
        };
        if !connection.drive(buffer, &self.site) {
            self.connections.remove(&token);
            return Ok(());
        }
        let wants_out = !connection.output.is_empty();
        if wants_out != connection.registered_out {
            let flags = if wants_out {
                EventFlags::IN | EventFlags::OUT
            } else {
                EventFlags::IN
            };
            epoll::modify(&self.epoll, &connection.stream, EventData::new_u64(token), flags)?;
            connection.registered_out = wants_out;
        }
        Ok(())
    }
}

/// Serves on `listen` until the process is ended; prints `listening on ADDR` first.
///
/// # Errors
///
/// When the address is taken or epoll fails; not retryable.
pub(crate) fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    // UDP on the same port: every datagram goes back to where it came from.
    let echo = UdpSocket::bind(listener.local_addr()?)?;
    std::thread::spawn(move || echo_datagrams(&echo));
    println!("listening on {}", listener.local_addr()?);
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut server = Server {
        epoll,
        listener,
        connections: HashMap::new(),
        next: LISTENER,
        site: Site::new(),
    };
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; READ_BUFFER];
    loop {
        let waited = epoll::wait(&server.epoll, rustix::buffer::spare_capacity(&mut events), None);
        if let Err(error) = waited {
            if error == rustix::io::Errno::INTR {
                continue;
            }
            return Err(error.into());
        }
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => server.accept_all()?,
                token => server.ready(token, &mut buffer)?,
            }
        }
    }
}

fn echo_datagrams(socket: &UdpSocket) {
    let mut buffer = vec![0; 2048];
    loop {
        // A peer that is gone shows as an error of the next call, which is the next datagram's as well.
        if let Ok((count, peer)) = socket.recv_from(&mut buffer) {
            drop(socket.send_to(buffer.get(..count).unwrap_or_default(), peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Connection::new(listener.accept().unwrap().0), client)
    }

    #[test]
    fn a_post_is_answered_after_its_last_body_byte() {
        let (mut connection, _client) = connection();
        let site = Site::new();
        connection
            .input
            .extend_from_slice(b"POST /16k HTTP/1.1\r\nContent-Length: 3\r\n\r\nab");
        while connection.advance(&site) {}
        assert!(connection.output.is_empty());
        connection
            .input
            .extend_from_slice(b"cGET / HTTP/1.1\r\nConnection: close\r\n\r\n");
        while connection.advance(&site) {}
        let sizes: Vec<usize> = connection.output.iter().map(|page| page.len() / 1024).collect();
        assert_eq!(sizes, [16, 1]);
        assert!(connection.close);
    }

    #[test]
    fn a_chunked_body_ends_with_its_last_chunk() {
        let (mut connection, _client) = connection();
        let site = Site::new();
        connection
            .input
            .extend_from_slice(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
        while connection.advance(&site) {}
        assert!(connection.output.is_empty());
        connection.input.extend_from_slice(b"0\r\n\r\n");
        while connection.advance(&site) {}
        assert_eq!(connection.output.len(), 1);
    }
}
