//! The Prometheus text format 0.0.4.

use std::fmt::{Display, Write as _};

use super::{
    cells::{BUCKET_BOUNDS_US, Histogram, HistogramTotals},
    table::{Metric, MetricKind},
};

/// The `le` values of [`BUCKET_BOUNDS_US`] in seconds.
const BOUND_LABELS: [&str; BUCKET_BOUNDS_US.len()] = [
    "0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "10",
];

/// The metrics of one scrape, being written. Only names of the table can be written, with as many labels as the table
/// says; a sample with another number of labels is left out.
#[derive(Debug)]
pub struct Exposition {
    /// The sample lines, by the index of the metric.
    families: Vec<String>,
    series: u64,
}

impl Exposition {
    pub(crate) fn new() -> Self {
        Self {
            families: vec![String::new(); Metric::ALL.len()],
            series: 0,
        }
    }

    /// Writes a sample of a counter.
    pub fn counter(&mut self, metric: Metric, labels: &[&str], value: u64) {
        self.sample(metric, MetricKind::Counter, labels, &value);
    }

    /// Writes a sample of a gauge.
    pub fn gauge(&mut self, metric: Metric, labels: &[&str], value: f64) {
        self.sample(metric, MetricKind::Gauge, labels, &value);
    }

    /// Writes a sample of a gauge that counts something.
    pub fn gauge_count(&mut self, metric: Metric, labels: &[&str], value: i64) {
        self.sample(metric, MetricKind::Gauge, labels, &value);
    }

    /// Writes the sum of histograms, one per thread; nothing where nothing was recorded.
    pub fn histogram_sum<'a>(
        &mut self,
        metric: Metric,
        labels: &[&str],
        parts: impl IntoIterator<Item = &'a Histogram>,
    ) {
        let mut totals = HistogramTotals::default();
        parts.into_iter().for_each(|part| part.add_to(&mut totals));
        self.histogram(metric, labels, &totals);
    }

    /// Writes the buckets, the sum and the count of a histogram; nothing where nothing was recorded.
    pub(crate) fn histogram(&mut self, metric: Metric, labels: &[&str], totals: &HistogramTotals) {
        let count = totals.count();
        if count == 0 || !Self::fits(metric, MetricKind::Histogram, labels) {
            return;
        }
        let mut below = 0;
        for (bucket, bound) in totals.buckets.iter().zip(BOUND_LABELS) {
            below += bucket;
            self.line(metric, "_bucket", labels, Some(bound), &below);
        }
        self.line(metric, "_bucket", labels, Some("+Inf"), &count);
        self.line(metric, "_sum", labels, None, &Seconds(totals.sum_us));
        self.line(metric, "_count", labels, None, &count);
    }

    /// The whole text, `# HELP` and `# TYPE` before each metric that has samples.
    pub(crate) fn finish(mut self) -> String {
        self.gauge_count(
            Metric::MetricSeries,
            &[],
            i64::try_from(self.series).unwrap_or(i64::MAX),
        );
        let mut text = String::with_capacity(self.families.iter().map(|family| family.len() + 256).sum());
        for (metric, samples) in Metric::ALL.iter().zip(&self.families) {
            if !samples.is_empty() {
                let def = metric.def();
                text.push_str("# HELP ");
                text.push_str(def.name);
                text.push(' ');
                escape(&mut text, def.help, Quotes::Kept);
                text.push_str("\n# TYPE ");
                text.push_str(def.name);
                text.push(' ');
                text.push_str(def.kind.as_str());
                text.push('\n');
                text.push_str(samples);
            }
        }
        text
    }

    fn sample(&mut self, metric: Metric, kind: MetricKind, labels: &[&str], value: &dyn Display) {
        if Self::fits(metric, kind, labels) {
            self.line(metric, "", labels, None, value);
        }
    }

    fn fits(metric: Metric, kind: MetricKind, labels: &[&str]) -> bool {
        let def = metric.def();
        debug_assert_eq!(def.kind, kind, "{} is no {}", def.name, kind.as_str());
        debug_assert_eq!(
            def.labels.len(),
            labels.len(),
            "{} has the labels {:?}",
            def.name,
            def.labels
        );
        def.kind == kind && def.labels.len() == labels.len()
    }

    fn line(&mut self, metric: Metric, suffix: &str, labels: &[&str], bound: Option<&str>, value: &dyn Display) {
        let def = metric.def();
        let Some(text) = self.families.get_mut(metric as usize) else {
            return;
        };
        text.push_str(def.name);
        text.push_str(suffix);
        let mut separator = '{';
        for (name, value) in def
            .labels
            .iter()
            .copied()
            .zip(labels.iter().copied())
            .chain(bound.map(|le| ("le", le)))
        {
            text.push(separator);
            text.push_str(name);
            text.push_str("=\"");
            escape(text, value, Quotes::Escaped);
            text.push('"');
            separator = ',';
        }
        if separator == ',' {
            text.push('}');
        }
        // Writing into a String cannot fail.
        if writeln!(text, " {value}").is_ok() {
            self.series += 1;
        }
    }
}

/// Microseconds, written as seconds without loss.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Escaped,
    Kept,
}

fn escape(text: &mut String, value: &str, quotes: Quotes) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes == Quotes::Escaped => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut exposition = Exposition::new();
        exposition.gauge(Metric::Objects, &["a\"b\\c\nd", "accepted"], 2.0);
        let text = exposition.finish();
        assert!(
            text.contains("propylon_objects{kind=\"a\\\"b\\\\c\\nd\",state=\"accepted\"} 2\n"),
            "{text}"
        );
    }

    #[test]
    fn buckets_are_cumulated_and_the_sum_is_in_seconds() {
        let mut totals = HistogramTotals::default();
        for value in [1_000, 7_000, 11_000_000] {
            totals.record_us(value);
        }
        let mut exposition = Exposition::new();
        exposition.histogram(Metric::Overhead, &[], &totals);
        let text = exposition.finish();
        for line in [
            "propylon_overhead_seconds_bucket{le=\"0.005\"} 1",
            "propylon_overhead_seconds_bucket{le=\"0.01\"} 2",
            "propylon_overhead_seconds_bucket{le=\"10\"} 2",
            "propylon_overhead_seconds_bucket{le=\"+Inf\"} 3",
            "propylon_overhead_seconds_sum 11.008000",
            "propylon_overhead_seconds_count 3",
            "propylon_metric_series 17",
        ] {
            assert!(
                text.lines().any(|candidate| candidate == line),
                "{line} is not in\n{text}"
            );
        }
    }

    #[test]
    fn bounds_are_those_of_the_cells() {
        for (label, bound) in BOUND_LABELS.iter().zip(BUCKET_BOUNDS_US) {
            let seconds: f64 = label.parse().expect("a number");
            assert!((seconds * 1e6 - f64::from(u32::try_from(bound).expect("fits"))).abs() < 1e-3);
        }
    }
}
