//! How the next list is asked for. Pure: what the server answered in, the way to ask out.
//!
//! A streaming list (KEP-3157, `sendInitialEvents`) is the cheapest and is asked for first. kube's watcher does not fall
//! back by itself where the server has none, so this does: an API server without the feature answers 422, one whose etcd
//! is too old 500 in an event of the stream, one that does not know the parameter never says that the list has ended.

use std::time::Duration;

/// Streaming lists that fail for other reasons (the connection breaks) before pages are tried.
const PATIENCE: u32 = 3;

/// A list that brings nothing for so long is given up.
pub const SILENCE: Duration = Duration::from_secs(30);

/// How a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A watch that begins with what exists.
    Streaming,
    /// Pages of a list, then a watch.
    Paged,
}

/// What became of a list or of the watch after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The API server refused, with this HTTP status.
    Status(u16),
    /// Nothing of the API server: no connection, a connection that broke, silence.
    Nothing,
}

/// What to do about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask again after a pause, in the same way.
    Again,
    /// Ask for pages from now on: the server has no streaming lists.
    Pages,
    /// The right to list or to watch is missing: ask again after a long pause.
    Denied,
    /// The API server does not know the resource: ask again after a long pause.
    Absent,
}

/// The way of one watch.
#[derive(Clone, Copy, Debug)]
pub struct Strategy {
    mode: Mode,
    failures: u32,
}

impl Strategy {
    /// Begins with streaming lists.
    pub const fn new() -> Self {
        Self {
            mode: Mode::Streaming,
            failures: 0,
        }
    }

    /// How the next list is asked for.
    ///
    /// A list that is to confirm another one is read from pages, in the newest state (a streaming list may come from a
    /// cache): it is a second opinion.
    pub const fn mode(&self, confirms: bool) -> Mode {
        if confirms { Mode::Paged } else { self.mode }
    }

    /// A list ended well.
    pub const fn listed(&mut self) {
        self.failures = 0;
    }

    /// A list or a watch failed; `is_listing` where it was a list.
    pub const fn failed(&mut self, answer: Answer, is_listing: bool) -> Verdict {
        match answer {
            Answer::Status(403) => return Verdict::Denied,
            Answer::Status(404) => return Verdict::Absent,
            // Not now, or not any more: nothing that another way of asking would mend.
            Answer::Status(401 | 408 | 409 | 410 | 429 | 502 | 503 | 504) => return Verdict::Again,
            Answer::Status(_) | Answer::Nothing => {}
        }
        if !is_listing || matches!(self.mode, Mode::Paged) {
            return Verdict::Again;
        }
        self.failures += 1;
        if matches!(answer, Answer::Status(_)) || self.failures >= PATIENCE {
            self.mode = Mode::Paged;
            self.failures = 0;
            return Verdict::Pages;
        }
        Verdict::Again
    }
}

impl Default for Strategy {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_without_streaming_lists_are_asked_for_pages() {
        // Kubernetes before 1.34 with the feature off; Kubernetes on etcd 3.4.
        for status in [400, 422, 500] {
            let mut strategy = Strategy::new();
            assert_eq!(
                strategy.failed(Answer::Status(status), true),
                Verdict::Pages,
                "{status}"
            );
            assert_eq!(strategy.mode(false), Mode::Paged);
            // Pages that fail are asked for again.
            assert_eq!(strategy.failed(Answer::Status(status), true), Verdict::Again);
        }
    }

    #[test]
    fn a_server_that_is_away_is_not_one_without_streaming_lists() {
        let mut strategy = Strategy::new();
        for status in [401, 410, 429, 503, 504] {
            assert_eq!(
                strategy.failed(Answer::Status(status), true),
                Verdict::Again,
                "{status}"
            );
        }
        assert_eq!(strategy.failed(Answer::Nothing, true), Verdict::Again);
        strategy.listed();
        assert_eq!(strategy.failed(Answer::Nothing, true), Verdict::Again);
        assert_eq!(strategy.failed(Answer::Nothing, true), Verdict::Again);
        assert_eq!(strategy.mode(false), Mode::Streaming);
        assert_eq!(strategy.failed(Answer::Nothing, true), Verdict::Pages);
    }

    #[test]
    fn a_watch_that_breaks_says_nothing_about_lists() {
        let mut strategy = Strategy::new();
        for _ in 0..10 {
            assert_eq!(strategy.failed(Answer::Status(500), false), Verdict::Again);
            assert_eq!(strategy.failed(Answer::Nothing, false), Verdict::Again);
        }
        assert_eq!(strategy.mode(false), Mode::Streaming);
        assert_eq!(strategy.mode(true), Mode::Paged);
    }

    #[test]
    fn missing_rights_and_kinds_are_told_apart() {
        let mut strategy = Strategy::new();
        assert_eq!(strategy.failed(Answer::Status(403), true), Verdict::Denied);
        assert_eq!(strategy.failed(Answer::Status(404), true), Verdict::Absent);
        assert_eq!(strategy.mode(false), Mode::Streaming);
    }
}
