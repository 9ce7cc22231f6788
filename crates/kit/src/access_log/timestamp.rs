//! Dates as text, kept for the second that they were made for.

use jiff::Timestamp;

/// The text of the last second that a line was dated with.
#[derive(Debug)]
pub(super) struct SecondText {
    layout: &'static str,
    unix_s: u64,
    text: String,
}

impl SecondText {
    /// Makes an empty cache for a `strftime` layout; the text is UTC.
    pub(super) fn new(layout: &'static str) -> Self {
        Self {
            layout,
            unix_s: u64::MAX,
            text: String::new(),
        }
    }

    /// The text of a second since the Unix epoch; empty beyond the year 9999.
    pub(super) fn of(&mut self, unix_s: u64) -> &[u8] {
        if self.unix_s != unix_s {
            self.unix_s = unix_s;
            let date = i64::try_from(unix_s)
                .ok()
                .and_then(|second| Timestamp::from_second(second).ok());
            self.text = date
                .map(|date| date.strftime(self.layout).to_string())
                .unwrap_or_default();
        }
        self.text.as_bytes()
    }
}
