//! Bounds of the protocol.

/// Largest message of a controller, in bytes: a part has at most [`Limits::part_bytes`] unless it is one resource alone.
pub(crate) const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Largest message of a proxy, in bytes.
pub(crate) const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Most names that a proxy may list.
pub(crate) const MAX_LISTED: usize = 500_000;

/// Most rejections that travel in a message.
pub(crate) const MAX_REJECTED: usize = 256;

/// Longest message of a rejection, in bytes.
const MAX_REJECTION_BYTES: usize = 512;

/// Sizes that a test may want smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Target size of a part of a transaction. Default 1 MiB.
    pub(crate) part_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { part_bytes: 1 << 20 }
    }
}

/// A text within the length that a rejection may have, cut between characters.
pub(crate) fn shorten(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_REJECTION_BYTES);
    text.get(..end).unwrap_or_default()
}
