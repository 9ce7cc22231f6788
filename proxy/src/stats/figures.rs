//! Numbers as people read them, the same on the page and in the terminal.

/// A rate per second: one decimal below ten, thousands as `12.3k`.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate <= 0.0 || rate.is_nan() => "0".to_owned(),
        rate if rate < 0.05 => "<0.1".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 9_999.5 => format!("{rate:.0}"),
        rate if rate < 999_950.0 => format!("{:.1}k", rate / 1e3),
        rate => format!("{:.1}M", rate / 1e6),
    }
}

/// A duration with two or three significant digits; `-` where there is none.
pub fn duration_us(value: Option<u64>) -> String {
    let Some(us) = value else {
        return "-".to_owned();
    };
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let exact = us as f64;
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..9_950 => format!("{:.1} ms", exact / 1e3),
        9_950..999_500 => format!("{:.0} ms", exact / 1e3),
        999_500..9_950_000 => format!("{:.1} s", exact / 1e6),
        _ => format!("{:.0} s", exact / 1e6),
    }
}

/// A span of time in its largest unit that is not zero: `3 s`, `2 min`, `5 h`, `12 d`.
pub fn span_ms(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A count with thousands as `12.3k` from ten thousand on.
pub fn count(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let exact = count as f64;
    match count {
        0..10_000 => count.to_string(),
        10_000..999_950 => format!("{:.1}k", exact / 1e3),
        999_950..999_950_000 => format!("{:.1}M", exact / 1e6),
        _ => format!("{:.1}G", exact / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_their_digits_and_their_unit() {
        assert_eq!(
            [0.0, 0.04, 0.96, 9.96, 512.4, 12_345.0, 2_500_000.0, -1.0].map(rate),
            ["0", "<0.1", "1.0", "10", "512", "12.3k", "2.5M", "0"]
        );
        assert_eq!(
            [999, 1_234, 9_960, 999_499, 999_500, 12_000_000].map(|us| duration_us(Some(us))),
            ["999 µs", "1.2 ms", "10 ms", "999 ms", "1.0 s", "12 s"]
        );
        assert_eq!(duration_us(None), "-");
        assert_eq!(
            [999, 59_999, 60_000, 7_200_000, 172_800_000].map(span_ms),
            ["0 s", "59 s", "1 min", "2 h", "2 d"]
        );
        assert_eq!(
            [9_999, 10_000, 1_000_000, 1_000_000_000].map(count),
            ["9999", "10.0k", "1.0M", "1.0G"]
        );
    }
}
