//! When the folder is looked at again: a decision of times alone, so that it can be tested without waiting.

use std::time::Duration;

use propylon_kit::clock::Monotonic;

/// After a look, events are gathered until there was none for so long.
const QUIET: Duration = Duration::from_millis(50);

/// An event never waits longer than this, and one that comes so long after the last look does not wait at all.
const CAP: Duration = Duration::from_millis(250);

/// Without any event the folder is looked at this often: file systems without events (network mounts).
const POLL: Duration = Duration::from_millis(500);

/// Looking takes at most one part in this many of the thread's time when it is only a poll.
const POLL_SHARE: u32 = 20;

/// A poll is never further away than this, however long looking takes.
const POLL_CAP: Duration = Duration::from_secs(5);

/// Looking takes at most one part in this many of the thread's time when there are events, up to [`REST_CAP`].
const EVENT_SHARE: u32 = 4;

/// Longest rest after a look: a look that read thousands of files says nothing about how long the next one takes.
const REST_CAP: Duration = Duration::from_millis(300);

/// Decides when to look: the first event at once, then gathered.
#[derive(Debug)]
pub(super) struct Pace {
    looked: Monotonic,
    took: Duration,
    /// When the folder itself asked to be looked at again.
    asked: Option<Monotonic>,
    /// The first and the last event since the last look.
    events: Option<(Monotonic, Monotonic)>,
}

impl Pace {
    /// The pace after a first look that ended now.
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            looked: now,
            took: Duration::ZERO,
            asked: None,
            events: None,
        }
    }

    /// An event came.
    pub(super) fn event(&mut self, now: Monotonic) {
        self.events = Some(self.events.map_or((now, now), |(first, _)| (first, now)));
    }

    /// A look ended; it took so long, and asks for another one after `again`.
    pub(super) fn looked(&mut self, now: Monotonic, took: Duration, again: Option<Duration>) {
        self.looked = now;
        self.took = took;
        self.asked = again.map(|after| now + after);
        self.events = None;
    }

    /// How long to wait from now until the next look, unless another event comes.
    pub(super) fn wait(&self, now: Monotonic) -> Duration {
        let poll = self.looked + (self.took * POLL_SHARE).clamp(POLL, POLL_CAP);
        // While events come, what is still being written waits with them: a storm is looked at four times a second.
        let wanted = match self.events {
            Some((first, _)) if first.since(self.looked) >= CAP => first,
            Some((first, last)) => (last + QUIET).min(first + CAP),
            None => self.asked.unwrap_or(poll),
        }
        .min(poll);
        // Never so often that looking is all there is.
        let rest = (self.took * (EVENT_SHARE - 1)).min(REST_CAP);
        wanted.max(self.looked + rest).since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_first_event_is_looked_at_at_once() {
        let start = propylon_kit::clock::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.wait(start), POLL);
        pace.event(start + ms(300));
        assert_eq!(pace.wait(start + ms(300)), Duration::ZERO);
    }

    #[test]
    fn events_after_a_look_are_gathered_until_quiet() {
        let start = propylon_kit::clock::now();
        let mut pace = Pace::new(start);
        pace.event(start + ms(10));
        assert_eq!(pace.wait(start + ms(10)), ms(50));
        pace.event(start + ms(40));
        assert_eq!(pace.wait(start + ms(40)), ms(50));
    }

    #[test]
    fn a_storm_is_looked_at_within_the_cap() {
        let start = propylon_kit::clock::now();
        let mut pace = Pace::new(start);
        for at in (10..250).step_by(10) {
            pace.event(start + ms(at));
        }
        assert_eq!(pace.wait(start + ms(240)), ms(20), "250 ms after the first event");
    }

    #[test]
    fn in_a_storm_what_the_folder_asks_for_waits_with_the_events() {
        let start = propylon_kit::clock::now();
        let mut pace = Pace::new(start);
        pace.looked(start, ms(1), Some(ms(20)));
        pace.event(start + ms(10));
        assert_eq!(pace.wait(start + ms(10)), ms(50));
    }

    #[test]
    fn what_the_folder_asks_for_is_kept() {
        let start = propylon_kit::clock::now();
        let mut pace = Pace::new(start);
        pace.looked(start, ms(1), Some(ms(20)));
        assert_eq!(pace.wait(start), ms(20));
    }

    #[test]
    fn a_slow_look_is_not_repeated_all_the_time() {
        let start = propylon_kit::clock::now();
        let mut pace = Pace::new(start);
        pace.looked(start, ms(80), None);
        assert_eq!(pace.wait(start), ms(1600));
        pace.event(start + ms(1));
        assert_eq!(pace.wait(start + ms(1)), ms(239));
    }

    #[test]
    fn a_look_that_read_everything_does_not_hold_the_next_one_up() {
        let start = propylon_kit::clock::now();
        let mut pace = Pace::new(start);
        pace.looked(start, Duration::from_secs(10), None);
        assert_eq!(pace.wait(start), POLL_CAP);
        pace.event(start + ms(1));
        assert_eq!(pace.wait(start + ms(1)), ms(299));
    }
}
