//! The duration grammar of annotations and flags.

use std::time::Duration;

use thiserror::Error;

/// Reads `250ms`, `10s`, `5m`, `1h`: one whole number and one unit, from 1 ms to 24 h; `off` is not accepted here.
///
/// # Errors
/// When the text has another form or the value is outside the range. Not retryable.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    parse_duration_within(text, Duration::from_millis(1), Duration::from_hours(24))
}

/// As [`parse_duration`], with a range of its own; both ends are accepted.
///
/// # Errors
/// When the text has another form or the value is outside the range. Not retryable.
pub fn parse_duration_within(text: &str, shortest: Duration, longest: Duration) -> Result<Duration, DurationError> {
    let split = text
        .find(|character: char| !character.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(DurationError::Form(text.to_owned())),
    };
    let number: u64 = number.parse().map_err(|_| DurationError::Form(text.to_owned()))?;
    let value = number.checked_mul(factor_ms).map(Duration::from_millis);
    value
        .filter(|value| (shortest..=longest).contains(value))
        .ok_or_else(|| DurationError::Range {
            text: text.to_owned(),
            shortest,
            longest,
        })
}

/// Why a text is no duration.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DurationError {
    /// Not a number and a unit.
    #[error("'{0}' is no duration; write a whole number and a unit, such as 250ms, 10s, 5m or 1h")]
    Form(String),
    /// Outside the range.
    #[error("'{text}' is outside the range of {} to {}", spell(*shortest), spell(*longest))]
    Range {
        /// The text.
        text: String,
        /// The shortest that is accepted.
        shortest: Duration,
        /// The longest that is accepted.
        longest: Duration,
    },
}

/// The shortest spelling of a duration that the grammar has.
fn spell(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units
        .into_iter()
        .find(|(factor, _)| ms >= *factor && ms.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{ms}ms"), |(factor, unit)| format!("{}{unit}", ms / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_hours(1)));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "10 s",
            "1d",
            "0s",
            "25h",
            "99999999999999999999s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
    #[test]
    fn a_range_of_ones_own_is_named_in_the_error() {
        let within = |text| parse_duration_within(text, Duration::from_secs(1), Duration::from_hours(9600));
        assert_eq!(within("9600h"), Ok(Duration::from_hours(9600)));
        assert_eq!(
            within("10ms").unwrap_err().to_string(),
            "'10ms' is outside the range of 1s to 9600h"
        );
    }
}
