//! What has been done so far, and when.

use std::time::Duration;

use tokio::time::Instant;

/// Steps with the time since the start.
pub struct Progress<'a> {
    start: Instant,
    report: &'a mut dyn FnMut(&str),
}

impl<'a> Progress<'a> {
    /// The time begins to run.
    pub fn new(report: &'a mut dyn FnMut(&str)) -> Self {
        Self {
            start: Instant::now(),
            report,
        }
    }

    /// A step is done.
    pub fn step(&mut self, what: &str) {
        let seconds = self.elapsed().as_secs_f64();
        (self.report)(&format!("{seconds:6.1} s  {what}"));
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
