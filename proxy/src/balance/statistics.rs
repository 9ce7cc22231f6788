//! What the statistical tests measure with.

/// Pearson's statistic of counts against what was expected.
pub(crate) fn chi_square(counts: &[u64], expected: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of a test are small")]
    let parts = counts
        .iter()
        .zip(expected)
        .map(|(count, expected)| (*count as f64 - expected).powi(2) / expected);
    parts.sum()
}

/// The 0.1 % point of the chi-square distribution (Wilson and Hilferty 1931): a right balancer is above it once in a
/// thousand seeds.
pub(crate) fn critical(degrees_of_freedom: u32) -> f64 {
    let degrees = f64::from(degrees_of_freedom);
    let part = 2.0 / (9.0 * degrees);
    degrees * (1.0 - part + 3.0902 * part.sqrt()).powi(3)
}

#[test]
fn the_critical_points_are_those_of_the_tables() {
    for (degrees, wanted) in [(9, 27.88), (99, 148.2), (30, 59.70)] {
        assert!(
            (critical(degrees) - wanted).abs() < 0.3,
            "{degrees}: {}",
            critical(degrees)
        );
    }
}
