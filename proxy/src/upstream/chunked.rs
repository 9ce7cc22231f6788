//! The chunked transfer coding, decoded strictly (RFC 9112 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::fields::clean_trailers;

/// The longest chunk size line without its line end, in bytes.
const MAX_SIZE_LINE: usize = 4096;
/// The most bytes of chunk extensions in one body.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// The longest trailer section, in bytes.
const MAX_TRAILER_BYTES: usize = 16 * 1024;
/// The most trailer fields.
const MAX_TRAILERS: usize = 64;

/// An incremental decoder; how the input is cut into reads makes no difference to the result.
#[derive(Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    extensions: usize,
}

/// What the decoder found.
#[derive(Debug)]
pub enum Decoded {
    /// A piece of the body, never empty.
    Data(Bytes),
    /// The end of the body, with the trailers that may be forwarded. Later input belongs to another message.
    End(Option<HeaderMap>),
    /// More input is needed.
    NeedMore,
}

#[derive(Debug, Default)]
enum State {
    Data(u64),
    DataEnd,
    Done,
    #[default]
    Size,
    Trailers,
}

impl ChunkedDecoder {
    /// Takes the next piece from the front of `buffer`.
    ///
    /// # Errors
    /// When the coding is malformed or a limit is exceeded (size line 4 KiB, all extensions 16 KiB, trailers 16 KiB
    /// and 64 fields); the text says how. The decoder must not be used again.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, &'static str> {
        loop {
            match self.state {
                State::Size => match self.size_line(buffer)? {
                    None => return Ok(Decoded::NeedMore),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(left) => {
                    if buffer.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    let left = left - taken as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Decoded::Data(buffer.split_to(taken).freeze()));
                }
                State::DataEnd => match buffer.as_ref() {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.state = State::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::NeedMore),
                    _ => return Err("chunk longer than its size"),
                },
                State::Trailers => {
                    let Some(trailers) = trailers(buffer)? else {
                        return Ok(Decoded::NeedMore);
                    };
                    self.state = State::Done;
                    return Ok(Decoded::End(trailers));
                }
                State::Done => return Ok(Decoded::End(None)),
            }
        }
    }

    /// How many bytes of the current chunk are still to come; a hint for the size of the next read.
    pub(super) fn expected(&self) -> u64 {
        match self.state {
            State::Data(left) => left,
            _ => 0,
        }
    }

    fn size_line(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, &'static str> {
        let digits = buffer.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if digits > 16 {
            return Err("chunk size too large");
        }
        let (size, rest) = buffer.split_at_checked(digits).unwrap_or_default();
        match rest.first() {
            None => return Ok(None),
            Some(b'\r' | b';') if digits > 0 => {}
            Some(_) => return Err("invalid chunk size"),
        }
        let Some(line_end) = rest.iter().position(|byte| *byte == b'\n') else {
            return if rest.len() > MAX_SIZE_LINE {
                Err("chunk extension too long")
            } else {
                Ok(None)
            };
        };
        let Some([extension @ .., b'\r']) = rest.get(..line_end) else {
            return Err("invalid line end after a chunk size");
        };
        if line_end > MAX_SIZE_LINE {
            return Err("chunk extension too long");
        }
        if extension.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err("invalid chunk extension");
        }
        self.extensions += extension.len();
        if self.extensions > MAX_EXTENSIONS {
            return Err("too many chunk extensions");
        }
        let size = size.iter().fold(0, |size, digit| (size << 4) | hex_value(*digit));
        buffer.advance(digits + line_end + 1);
        Ok(Some(size))
    }
}

fn hex_value(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    })
}

/// The trailer section up to and with its empty line; the outer `None` when it is not complete.
#[expect(clippy::option_option, reason = "incomplete and empty are different answers")]
fn trailers(buffer: &mut BytesMut) -> Result<Option<Option<HeaderMap>>, &'static str> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Some(None));
    }
    let window = buffer.get(..MAX_TRAILER_BYTES).unwrap_or(buffer);
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let (length, fields) = match httparse::parse_headers(window, &mut fields) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) if buffer.len() >= MAX_TRAILER_BYTES => return Err("trailers too large"),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("too many trailers"),
        Err(_) => return Err("invalid trailers"),
    };
    if has_bare_line_feed(window.get(..length).unwrap_or(window)) {
        return Err("invalid line end in trailers");
    }
    let mut map = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| "invalid trailer name")?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| "invalid trailer value")?;
        map.append(name, value);
    }
    buffer.advance(length);
    Ok(Some(clean_trailers(map)))
}

fn has_bare_line_feed(section: &[u8]) -> bool {
    section
        .split_inclusive(|byte| *byte == b'\n')
        .any(|line| line.ends_with(b"\n") && !line.ends_with(b"\r\n"))
}
