//! One segment of a path, and the octets that it may hold.

use std::borrow::Cow;

use super::PathError;

/// A segment as it was written and in normal form.
pub(super) struct Segment<'a> {
    /// As written.
    pub(super) raw: &'a str,
    /// Every octet that may stand in a segment decoded, every other one escaped in upper case; never holds a `/`.
    pub(super) normal: Cow<'a, str>,
}

impl<'a> Segment<'a> {
    /// The empty segment: what stays of a dot segment at the end of a path.
    pub(super) const EMPTY: Segment<'static> = Segment {
        raw: "",
        normal: Cow::Borrowed(""),
    };

    /// Reads what stands between two slashes.
    pub(super) fn parse(raw: &'a str) -> Result<Self, PathError> {
        let segment = Self {
            raw,
            normal: normal_form(raw)?,
        };
        let encoded_slash = segment.has_encoded_slash();
        for piece in segment.normal.split(ENCODED_SLASH) {
            if is_dots(piece) && encoded_slash {
                return Err(PathError::EncodedSlashAtDotSegment);
            }
            if piece.split_once(';').is_some_and(|(name, _)| is_dots(name)) {
                return Err(PathError::DotSegmentParameter);
            }
        }
        Ok(segment)
    }

    /// Whether it holds a `%2F`.
    pub(super) fn has_encoded_slash(&self) -> bool {
        self.normal.contains(ENCODED_SLASH)
    }

    /// Whether it is `.` or `..`, encoded or not.
    pub(super) fn is_dots(&self) -> bool {
        is_dots(&self.normal)
    }

    /// Whether it is empty, or ends in an empty one where encoded slashes are decoded.
    pub(super) fn ends_empty(&self) -> bool {
        self.normal.is_empty() || self.normal.ends_with(ENCODED_SLASH)
    }
}

/// Whether a segment in normal form is a dot segment (RFC 3986 3.3).
pub(super) fn is_dots(normal: &str) -> bool {
    matches!(normal, "." | "..")
}

/// Whether the octet may stand unescaped in a segment: `pchar` of RFC 3986 3.3.
pub(super) const fn is_pchar(octet: u8) -> bool {
    octet.is_ascii_alphanumeric()
        || matches!(
            octet,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
        )
        || matches!(octet, b',' | b';' | b'=' | b':' | b'@')
}

fn normal_form(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if raw.bytes().all(is_pchar) {
        return Ok(Cow::Borrowed(raw));
    }
    let mut normal = String::with_capacity(raw.len() + 8);
    let mut octets = raw.bytes();
    while let Some(octet) = octets.next() {
        let decoded = match octet {
            b'%' => escaped_octet(octets.next(), octets.next())?,
            0 => return Err(PathError::Nul),
            1..=b' ' | 0x7F | b'?' | b'#' => return Err(PathError::Character),
            octet => octet,
        };
        match decoded {
            0 => return Err(PathError::Nul),
            b'\\' => return Err(PathError::Backslash),
            octet if is_pchar(octet) => normal.push(char::from(octet)),
            octet => normal.extend(['%', hex_digit(octet >> 4), hex_digit(octet & 0xF)]),
        }
    }
    Ok(Cow::Owned(normal))
}

fn escaped_octet(high: Option<u8>, low: Option<u8>) -> Result<u8, PathError> {
    let digit = |digit: Option<u8>| match digit {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(PathError::BadEscape),
    };
    Ok((digit(high)? << 4) | digit(low)?)
}

fn hex_digit(value: u8) -> char {
    char::from_digit(u32::from(value), 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

/// An encoded slash in normal form.
pub(super) const ENCODED_SLASH: &str = "%2F";
