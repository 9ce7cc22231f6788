//! HTTP/2 frames by hand (RFC 9113), for messages that no library would send.

use std::{io, net::SocketAddr, time::Duration};

use propylon_testkit::raw::RawClient;

/// The client connection preface, without its SETTINGS.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub mod kind {
    /// DATA.
    pub const DATA: u8 = 0x0;
    /// HEADERS.
    pub const HEADERS: u8 = 0x1;
    /// `RST_STREAM`.
    pub const RST_STREAM: u8 = 0x3;
    /// SETTINGS.
    pub const SETTINGS: u8 = 0x4;
    /// PING.
    pub const PING: u8 = 0x6;
    /// GOAWAY.
    pub const GOAWAY: u8 = 0x7;
    /// `WINDOW_UPDATE`.
    pub const WINDOW_UPDATE: u8 = 0x8;
    /// CONTINUATION.
    pub const CONTINUATION: u8 = 0x9;
}

/// Flags of frames.
pub mod flag {
    /// `END_STREAM` of DATA and HEADERS.
    pub const END_STREAM: u8 = 0x1;
    /// ACK of SETTINGS and PING.
    pub const ACK: u8 = 0x1;
    /// `END_HEADERS`.
    pub const END_HEADERS: u8 = 0x4;
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// See [`kind`].
    pub kind: u8,
    /// See [`flag`].
    pub flags: u8,
    /// The stream, 0 for the connection.
    pub stream: u32,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The four bytes at `offset` of the payload as a number: an error code, a stream id, a window.
    pub fn number_at(&self, offset: usize) -> Option<u32> {
        let bytes = self.payload.get(offset..offset + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

/// The bytes of a frame.
///
/// # Panics
/// When the payload is longer than a frame can be.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a frame fits in memory")
        .to_be_bytes();
    let [0, length @ ..] = length else {
        panic!("a frame has at most 2^24 - 1 bytes")
    };
    let mut bytes = length.to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block without compression: every field a literal that is not indexed (RFC 7541 6.2.2), no Huffman code.
///
/// # Panics
/// When a name or value is longer than 16,510 bytes.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        push_string(&mut block, name);
        push_string(&mut block, value);
    }
    block
}

fn push_string(block: &mut Vec<u8>, text: &str) {
    if let Ok(length @ 0..=126) = u8::try_from(text.len()) {
        block.push(length);
    } else {
        let rest = text.len() - 127;
        let (low, high) = (rest % 128, rest / 128);
        assert!(high < 128, "a string of at most 16,510 bytes");
        block.extend([127, 0x80 | low.to_le_bytes()[0], high.to_le_bytes()[0]]);
    }
    block.extend(text.as_bytes());
}

/// The fields of a plain GET request.
pub fn get<'a>(authority: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", authority),
        (":path", path),
    ]
}

/// A connection on which frames are sent and read; SETTINGS and PING of the peer are acknowledged.
pub struct FrameClient {
    client: RawClient,
}

impl FrameClient {
    /// Connects with prior knowledge and sends preface and empty SETTINGS.
    ///
    /// # Errors
    /// When nothing listens there.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::begin(RawClient::connect(address)?)
    }

    /// Connects over TLS with ALPN `h2`; the same otherwise.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn connect_tls(address: SocketAddr, sni: &str) -> io::Result<Self> {
        Self::begin(RawClient::connect_tls(address, Some(sni), &["h2"])?)
    }

    fn begin(mut client: RawClient) -> io::Result<Self> {
        client.send(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat())?;
        Ok(Self { client })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.client.send(bytes)
    }

    /// Sends a request head in one HEADERS frame.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn request(&mut self, stream: u32, fields: &[(&str, &str)], flags: u8) -> io::Result<()> {
        self.send(&frame(kind::HEADERS, flag::END_HEADERS | flags, stream, &block(fields)))
    }

    /// The next frame.
    ///
    /// # Errors
    /// `UnexpectedEof` when the connection ended.
    pub fn read(&mut self) -> io::Result<Frame> {
        let head = self.client.exactly(9)?;
        let [high, middle, low, kind, flags, a, b, c, d] = head.as_slice() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let length = u32::from_be_bytes([0, *high, *middle, *low]);
        let stream = u32::from_be_bytes([*a, *b, *c, *d]) & 0x7fff_ffff;
        let payload = self
            .client
            .exactly(usize::try_from(length).map_err(io::Error::other)?)?;
        let frame = Frame {
            kind: *kind,
            flags: *flags,
            stream,
            payload,
        };
        self.acknowledge(&frame);
        Ok(frame)
    }

    /// The next frame that `wanted` accepts; the others are passed over.
    ///
    /// # Errors
    /// `UnexpectedEof` when the connection ended before.
    pub fn read_until(&mut self, wanted: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let frame = self.read()?;
            if wanted(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Everything until the connection ends.
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.read().ok()).collect()
    }

    /// Whether the peer closes within `patience` without sending more.
    ///
    /// # Errors
    /// When the deadline cannot be set.
    pub fn closes_within(&mut self, patience: Duration) -> io::Result<bool> {
        self.client.closes_within(patience)
    }

    fn acknowledge(&mut self, received: &Frame) {
        let is_question = received.flags & flag::ACK == 0;
        let answer = match received.kind {
            kind::SETTINGS if is_question => frame(kind::SETTINGS, flag::ACK, 0, &[]),
            kind::PING if is_question => frame(kind::PING, flag::ACK, 0, &received.payload),
            _ => return,
        };
        // The peer may have closed behind its last frame; the read that follows says so.
        drop(self.send(&answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_their_length() {
        assert_eq!(frame(kind::PING, 0, 0, &[7; 8])[..9], [0, 0, 8, 6, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn long_strings_have_a_continued_length() {
        let block = block(&[("a", &"x".repeat(300))]);
        assert_eq!(block[..6], [0, 1, b'a', 127, 0x80 | 0x2d, 1]);
    }
}
