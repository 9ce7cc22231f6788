//! Why a path is refused.

use thiserror::Error;

/// Why a path is refused: a request is answered with 400, a rule is reported and left out.
///
/// Each is a path that two readers may understand differently, or that no reader may be sent. None is retryable.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq, Hash)]
pub enum PathError {
    /// A backslash, raw or as `%5C`: some backends read it as a slash.
    #[error("the path holds a backslash, which some servers read as a slash; write '/'")]
    Backslash,
    /// A `%` without two hexadecimal digits behind it (RFC 3986 2.1).
    #[error("the path holds a '%' without two hexadecimal digits behind it; write '%25' for a percent sign")]
    BadEscape,
    /// A space, a control character, `?` or `#` that is not percent-encoded (RFC 3986 3.3).
    #[error(
        "the path holds a space, a control character, '?' or '#'; percent-encode it, and match no query with a path"
    )]
    Character,
    /// A dot segment with parameters (`..;x`, `.;`), encoded or not: servlet containers remove the parameters and then
    /// the segment.
    #[error("the path holds a dot segment with ';' behind it, which some servers resolve; remove the segment")]
    DotSegmentParameter,
    /// A `..` that would remove an empty segment: whether slashes are merged before or after decides what it removes.
    #[error("the path holds an empty segment before '..', which servers resolve differently; remove both")]
    EmptyBeforeDotDot,
    /// A dot segment that a `%2F` begins or ends: it is one only where encoded slashes are decoded first.
    #[error(
        "the path holds an encoded slash next to a dot segment, which servers resolve differently; remove the dot segment"
    )]
    EncodedSlashAtDotSegment,
    /// A `%2F` in a rule: requests for it are ambiguous, so that it could never match.
    #[error("the path of a rule holds an encoded slash (%2F), which servers read differently; write '/'")]
    EncodedSlashInRule,
    /// No `/` at the start.
    #[error("the path does not start with '/'; put one before it")]
    NotAbsolute,
    /// A NUL, raw or as `%00`: some backends end the path there.
    #[error("the path holds a NUL, where some servers end it; remove it")]
    Nul,
}
