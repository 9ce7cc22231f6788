//! WebSocket frames by hand (RFC 6455 5.2), for connections and streams of any kind.

/// A final text frame of at most 125 bytes from a client: masked, with the mask 1, 2, 3, 4.
///
/// # Panics
/// When the text is longer.
pub fn client_text(text: &str) -> Vec<u8> {
    client_frame(0x1, text.as_bytes())
}

/// A final frame from a client with this opcode.
///
/// # Panics
/// When the payload is longer than 125 bytes.
pub fn client_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len())
        .ok()
        .filter(|length| *length <= 125)
        .expect("a short payload");
    let mask = [1, 2, 3, 4];
    let mut frame = vec![0x80 | opcode, 0x80 | length];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The same text frame as a server sends it: not masked.
///
/// # Panics
/// When the text is longer than 125 bytes.
pub fn server_text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len())
        .ok()
        .filter(|length| *length <= 125)
        .expect("a short text");
    [&[0x81, length], text.as_bytes()].concat()
}

/// An HTTP/1.1 request for a WebSocket.
pub fn request(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// What answers the key of [`request`] (RFC 6455 1.3).
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
