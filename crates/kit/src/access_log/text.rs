//! Numbers, addresses and escaped bytes, appended to a line.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

/// Appends an integer in decimal.
pub(super) fn push_integer(line: &mut Vec<u8>, value: impl itoa::Integer) {
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends thousandths as a decimal fraction with three digits: 12345 gives `12.345`.
pub(super) fn push_thousandths(line: &mut Vec<u8>, value: u64) {
    push_integer(line, value / 1000);
    push_fraction(line, value % 1000);
}

/// Appends a point and three digits; `thousandths` is below 1000.
pub(super) fn push_fraction(line: &mut Vec<u8>, thousandths: u64) {
    let thousandths = u16::try_from(thousandths).unwrap_or_default();
    line.extend_from_slice(&[
        b'.',
        digit(thousandths / 100),
        digit(thousandths / 10 % 10),
        digit(thousandths % 10),
    ]);
}

/// Appends an address; IPv6 without brackets.
pub(super) fn push_ip(line: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for octet in address.octets() {
                push_octet(line, u16::from(octet));
            }
            // Each octet left a point behind it.
            line.pop();
        }
        IpAddr::V6(address) => push_display(line, &address),
    }
}

/// Appends an octet in decimal and a point.
fn push_octet(line: &mut Vec<u8>, octet: u16) {
    let [hundreds, tens, ones] = [digit(octet / 100), digit(octet / 10 % 10), digit(octet % 10)];
    match octet {
        100.. => line.extend_from_slice(&[hundreds, tens, ones, b'.']),
        10.. => line.extend_from_slice(&[tens, ones, b'.']),
        _ => line.extend_from_slice(&[ones, b'.']),
    }
}

/// The digit of a number below 10.
fn digit(number: u16) -> u8 {
    b'0' + number.to_le_bytes()[0]
}

/// Appends `ADDRESS:PORT`; IPv6 in brackets.
pub(super) fn push_socket(line: &mut Vec<u8>, address: SocketAddr) {
    if address.is_ipv6() {
        return push_display(line, &address);
    }
    push_ip(line, address.ip());
    line.push(b':');
    push_integer(line, address.port());
}

/// The part of a path or URL before its query and fragment.
pub(super) fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| matches!(byte, b'?' | b'#'))
        .next()
        .unwrap_or_default()
}

/// Appends bytes as the inside of a JSON string.
///
/// # Cost
///
/// About 2 instructions per byte where nothing is to be escaped.
pub(super) fn push_json(line: &mut Vec<u8>, bytes: &[u8]) {
    if is_plain(bytes) {
        line.extend_from_slice(bytes);
    } else {
        push_json_slow(line, bytes);
    }
}

/// Appends bytes as nginx escapes them in its log: `"`, `\` and all that is not printable ASCII as `\xHH`; nothing as `-`.
pub(super) fn push_nginx(line: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        line.push(b'-');
    } else if is_plain(bytes) {
        line.extend_from_slice(bytes);
    } else {
        push_nginx_slow(line, bytes);
    }
}

/// Whether no byte is to be escaped: printable ASCII without `"` and `\`.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let odd = words
        .iter()
        .fold(0, |odd, word| odd | odd_bytes(u64::from_ne_bytes(*word)));
    let odd_rest = match bytes.last_chunk::<8>() {
        // The last eight overlap the whole words.
        Some(last) => odd_bytes(u64::from_ne_bytes(*last)),
        None => u64::from(rest.iter().any(|byte| !is_plain_byte(*byte))),
    };
    odd | odd_rest == 0
}

const fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, 0x20..0x7F) && byte != b'"' && byte != b'\\'
}

/// Not zero where one of eight bytes is not plain. The tests are those of "Bit Twiddling Hacks" for a byte below a bound
/// and for a zero byte; a borrow or carry out of one byte only happens where that byte is found itself.
const fn odd_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xFF;
    const HIGHS: u64 = ONES * 0x80;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    let not_ascii_or_delete = word | word.wrapping_add(ONES);
    (control | quote | backslash | not_ascii_or_delete) & HIGHS
}

#[cold]
fn push_nginx_slow(line: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        if is_plain_byte(*byte) {
            line.push(*byte);
        } else {
            line.extend_from_slice(b"\\x");
            push_hex(line, *byte, HEX_UPPER);
        }
    }
}

const HEX_UPPER: &[u8; 16] = b"0123456789ABCDEF";
const HEX_LOWER: &[u8; 16] = b"0123456789abcdef";

#[cold]
fn push_json_slow(line: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => line.extend_from_slice(b"\\\""),
                '\\' => line.extend_from_slice(b"\\\\"),
                other if is_escaped(other) => push_unicode_escape(line, other),
                other => line.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}

/// Controls (C0, DEL, C1: terminals act on them) and what breaks lines or turns the direction of text.
fn is_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

fn push_unicode_escape(line: &mut Vec<u8>, character: char) {
    line.extend_from_slice(b"\\u");
    // Every escaped character lies in the basic plane.
    let [.., high, low] = u32::from(character).to_be_bytes();
    push_hex(line, high, HEX_LOWER);
    push_hex(line, low, HEX_LOWER);
}

fn push_hex(line: &mut Vec<u8>, byte: u8, digits: &[u8; 16]) {
    for nibble in [byte >> 4, byte & 0xF] {
        line.push(digits.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    }
}

fn push_display(line: &mut Vec<u8>, value: &dyn std::fmt::Display) {
    if write!(line, "{value}").is_err() {
        debug_assert!(false, "writing to a Vec cannot fail");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(bytes: &[u8]) -> String {
        let mut line = Vec::new();
        push_json(&mut line, bytes);
        String::from_utf8(line).expect("UTF-8")
    }

    proptest! {
        #[test]
        fn json_strings_read_back_as_the_lossy_text(bytes: Vec<u8>) {
            let read: String = serde_json::from_str(&format!("\"{}\"", json(&bytes))).expect("JSON");
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn nginx_text_is_printable_ascii_without_quotes(bytes: Vec<u8>) {
            let mut line = Vec::new();
            push_nginx(&mut line, &bytes);
            prop_assert!(line.iter().all(|byte| (0x20..0x7F).contains(byte) && *byte != b'"'));
        }

        #[test]
        fn plain_is_what_is_plain_byte_by_byte(bytes: Vec<u8>, odd: u8, place: usize, length in 0..40_usize) {
            prop_assert_eq!(is_plain(&bytes), bytes.iter().all(|byte| is_plain_byte(*byte)));
            let mut bytes = vec![b'a'; length];
            prop_assert!(is_plain(&bytes));
            if length > 0 {
                bytes[place % length] = odd;
                prop_assert_eq!(is_plain(&bytes), is_plain_byte(odd));
            }
        }

        #[test]
        fn addresses_are_those_of_the_standard_library(address: SocketAddr) {
            let mut line = Vec::new();
            push_socket(&mut line, address);
            line.push(b' ');
            push_ip(&mut line, address.ip());
            prop_assert_eq!(String::from_utf8(line).expect("ASCII"), format!("{address} {}", address.ip()));
        }
    }

    #[test]
    fn terminal_escapes_do_not_survive() {
        assert_eq!(json(b"\x1b[2J\x07\x7f"), "\\u001b[2J\\u0007\\u007f");
        assert_eq!(
            json("\u{9b}31m\u{202e}x\u{2028}".as_bytes()),
            "\\u009b31m\\u202ex\\u2028"
        );
        assert_eq!(json("a\"b\\c\u{e9}".as_bytes()), "a\\\"b\\\\c\u{e9}");
        assert_eq!(json(b"\xff"), "\u{FFFD}");
    }

    #[test]
    fn thousandths_have_three_digits() {
        for (value, expected) in [(0, "0.000"), (7, "0.007"), (12_345, "12.345"), (1_000_000, "1000.000")] {
            let mut line = Vec::new();
            push_thousandths(&mut line, value);
            assert_eq!(line, expected.as_bytes());
        }
    }
}
