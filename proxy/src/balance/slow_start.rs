//! Slow start: a new endpoint takes its full share only after a while, so that caches and compilers warm up under a load
//! that grows.

/// The part of its share that an endpoint of this age gets: grows evenly from [`LEAST`] to 1 over the window.
pub fn warmth(age_ms: u64, window_ms: u64) -> f32 {
    if age_ms >= window_ms {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 24 bits")]
    let part = age_ms as f32 / window_ms as f32;
    part.max(LEAST)
}

/// The least part: enough to get answers from, too little to hurt.
pub const LEAST: f32 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_evenly_and_ends_with_the_window() {
        assert!((warmth(0, 10_000) - LEAST).abs() < 1e-6);
        assert!((warmth(5_000, 10_000) - 0.5).abs() < 1e-6);
        assert!((warmth(10_000, 10_000) - 1.0).abs() < 1e-6);
        assert!((warmth(0, 0) - 1.0).abs() < 1e-6);
        let ages: Vec<f32> = (0..100).map(|age| warmth(age * 100, 10_000)).collect();
        assert!(ages.is_sorted());
    }
}
